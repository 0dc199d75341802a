//! A body cut into parts: how large they are, and the reader that fills one after the other.

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use crate::action::ByteStream;
use crate::base::Digest;
use crate::base::digest::Hasher;
use crate::base::pool::Pool;

const MIB: u64 = 1 << 20;
/// S3 takes no more parts of one object.
pub(super) const MAX_PARTS: u64 = 10_000;
/// S3 takes no larger object.
pub(super) const MAX_OBJECT_BYTES: u64 = 5 << 40;
/// What is put by one request and not in parts: a segment of WAL fits.
pub(super) const ONE_REQUEST_BYTES: u64 = 16 * MIB;
const SMALLEST_BYTES: u64 = 8 * MIB;
/// Parts planned for a body of known size; the rest is room for a size that was told wrong.
const PLANNED_PARTS: u64 = 9_000;
/// Up to which part of a body of unknown size parts are how large: small ones for what is usual, and yet 5 TiB fit.
const GROWTH: [(u64, u64); 4] = [(3_000, 8 * MIB), (5_000, 32 * MIB), (7_000, 128 * MIB), (MAX_PARTS, 1_664 * MIB)];

/// The size of part `number`, counted from 1. A pure function, so that a continued upload cuts as the first one did.
pub(super) fn part_bytes(number: u64, size_bytes: Option<u64>) -> u64 {
    match size_bytes {
        Some(size) => size.div_ceil(PLANNED_PARTS).div_ceil(MIB).saturating_mul(MIB).max(SMALLEST_BYTES),
        None => GROWTH.iter().find(|(last, _)| number <= *last).map_or(GROWTH[3].1, |(_, bytes)| *bytes),
    }
}

/// What a body is: its size and its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) size_bytes: u64,
    pub(super) sha256: Digest,
}

/// Reads a body part by part and knows, at its end, what it was.
pub(super) struct PartReader {
    body: ByteStream,
    buffers: Pool,
    read: Bytes,
    hasher: Hasher,
    size_bytes: u64,
    ended: bool,
}

impl PartReader {
    pub(super) fn new(body: ByteStream) -> Self {
        let (buffers, read) = (Pool::default(), Bytes::new());
        Self { body, buffers, read, hasher: Hasher::default(), size_bytes: 0, ended: false }
    }

    /// Reads until `wanted` bytes are there or the body ends. What was read stays for [`Self::take`].
    pub(super) async fn fill(&mut self, wanted: u64) -> std::io::Result<()> {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        if self.ended || self.read.len() >= wanted {
            return Ok(());
        }
        let mut buffer = self.buffers.take(wanted);
        buffer.extend_from_slice(&std::mem::take(&mut self.read));
        while !self.ended && buffer.len() < wanted {
            let before = buffer.len();
            let mut missing = (&mut self.body).take((wanted - before) as u64);
            if missing.read_buf(&mut buffer).await? == 0 {
                self.ended = true;
            }
            self.hasher.update(&buffer[before..]);
            self.size_bytes += (buffer.len() - before) as u64;
        }
        self.read = self.buffers.lend(buffer);
        Ok(())
    }

    /// Takes what was read, at most `most` bytes.
    pub(super) fn take(&mut self, most: u64) -> Bytes {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.read.len());
        self.read.split_to(most)
    }

    /// Reads the rest without keeping it.
    pub(super) async fn drain(&mut self) -> std::io::Result<()> {
        self.read.clear();
        while !self.ended {
            self.fill(MIB).await?;
            self.read.clear();
        }
        Ok(())
    }

    /// Whether the body has ended; what was read of it may still wait to be taken.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// What was read so far.
    pub(super) fn content(&self) -> Content {
        Content { size_bytes: self.size_bytes, sha256: self.hasher.clone().finish() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Bytes that fit at most.
    fn fits(size_bytes: Option<u64>) -> u64 {
        (1..=MAX_PARTS).map(|number| part_bytes(number, size_bytes)).sum()
    }

    #[test]
    fn the_largest_object_fits_whether_its_size_is_known_or_not() {
        assert!(fits(None) >= MAX_OBJECT_BYTES);
        for size in [0, 1, 8 * MIB, 80 << 30, 1 << 40, MAX_OBJECT_BYTES] {
            assert!(fits(Some(size)) >= size, "{size}");
            assert!(part_bytes(1, Some(size)) <= 5 << 30, "{size}");
        }
    }

    #[tokio::test]
    async fn a_body_is_cut_where_it_is_asked_to_be() {
        let body: Vec<u8> = (0..100_u8).collect();
        let mut reader = PartReader::new(Box::new(std::io::Cursor::new(body.clone())));
        let mut all = Vec::new();
        for size in [30, 30, 30, 30] {
            reader.fill(size).await.unwrap();
            all.push(reader.take(size));
        }
        assert_eq!(all.iter().map(Bytes::len).collect::<Vec<_>>(), [30, 30, 30, 10]);
        assert_eq!(all.concat(), body);
        assert!(reader.has_ended());
        assert_eq!(reader.content(), Content { size_bytes: 100, sha256: Digest::of(&body) });
    }
}
