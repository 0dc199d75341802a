//! A body cut into parts, digested on the way.

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;

use crate::action::{ByteStream, StoreError};
use crate::base::Digest;
use crate::base::digest::Hasher;

/// The size of the first parts.
pub(super) const PART_BYTES: usize = 8 << 20;
/// After so many parts they become twice as large: 10,000 parts are the most that Google takes.
const GROWS_AFTER: usize = 1_000;
/// What may be in memory at once as long as parts are small.
const FLIGHT_BYTES: usize = 48 << 20;

/// A body on its way into parts.
pub(super) struct Parts {
    store: String,
    body: ByteStream,
    hasher: Hasher,
    size_bytes: u64,
    count: usize,
    part_bytes: usize,
}

impl Parts {
    /// Cuts a body; one whose size is known gets parts that are large enough from the start.
    pub(super) fn of(store: &str, body: ByteStream, known_bytes: Option<u64>) -> Self {
        let enough = usize::try_from(known_bytes.unwrap_or_default() / (GROWS_AFTER as u64 * 9)).unwrap_or(usize::MAX);
        let part_bytes = PART_BYTES.max(enough);
        Self { store: store.to_owned(), body, hasher: Hasher::default(), size_bytes: 0, count: 0, part_bytes }
    }

    /// Reads the next part; one that is shorter than [`Self::part_bytes`] is the last, and may be empty.
    pub(super) async fn next(&mut self) -> Result<Bytes, StoreError> {
        if self.count > 0 && self.count.is_multiple_of(GROWS_AFTER) {
            self.part_bytes *= 2;
        }
        self.count += 1;
        let mut part = BytesMut::new();
        while part.len() < self.part_bytes {
            part.reserve((self.part_bytes - part.len()).min(1 << 20));
            let mut rest = (&mut self.body).take((self.part_bytes - part.len()) as u64);
            let read = rest.read_buf(&mut part).await.map_err(|source| StoreError::Unavailable {
                store: self.store.clone(),
                what: format!("cannot read the body: {source}"),
                source,
            })?;
            if read == 0 {
                break;
            }
        }
        self.hasher.update(&part);
        self.size_bytes += part.len() as u64;
        Ok(part.freeze())
    }

    /// The size of the part that was read last, had it been whole.
    pub(super) fn part_bytes(&self) -> usize {
        self.part_bytes
    }

    /// How many parts may be on their way at once.
    pub(super) fn at_once(&self) -> usize {
        (FLIGHT_BYTES / self.part_bytes).clamp(1, 5)
    }

    /// What has been read so far.
    pub(super) fn so_far(&self) -> (u64, Digest) {
        (self.size_bytes, self.hasher.clone().finish())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn parts_are_whole_until_the_last_and_grow_for_what_is_known_to_be_large() {
        let body = || Box::new(std::io::Cursor::new(vec![7_u8; PART_BYTES + 5])) as ByteStream;
        let mut parts = Parts::of("s", body(), None);
        assert_eq!(parts.next().await.unwrap().len(), PART_BYTES);
        assert_eq!(parts.next().await.unwrap().len(), 5);
        assert_eq!(parts.so_far(), (PART_BYTES as u64 + 5, Digest::of(&vec![7_u8; PART_BYTES + 5])));
        let large = Parts::of("s", body(), Some(5 << 40));
        assert!(large.part_bytes() as u64 * 10_000 > 5 << 40 && large.at_once() == 1);
        let mut growing = Parts::of("s", Box::new(tokio::io::empty()), None);
        growing.count = GROWS_AFTER;
        growing.next().await.unwrap();
        assert_eq!(growing.part_bytes(), 2 * PART_BYTES);
    }
}
