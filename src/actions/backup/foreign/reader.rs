//! Reads an object of another program: how it was compressed and encrypted is found out by its bytes.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::SyncIoBridge;

use super::super::failure::transfer_failed;
use crate::action::{ActionError, ByteStream, Encoding, ObjectKey, PlainFacts, ReadStore, Secrets};
use crate::actions::store::store_failed;
use crate::base::digest::Hasher;
use crate::language::inventory::Encryption;
use crate::transfer::{Recognition, TransferError, Unpacking};

const PIPE_BYTES: usize = 1 << 20;

/// Reads what others have stored in one store.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// The store.
    pub store: &'a dyn ReadStore,
    /// The keys of its settings.
    pub keys: Option<&'a Encryption>,
    /// The secrets they name.
    pub secrets: &'a dyn Secrets,
}

/// What reading an object to its end has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    /// The bytes as stored.
    pub(super) stored: PlainFacts,
    /// The bytes as read.
    pub(super) plain: PlainFacts,
    /// How the one became the other.
    pub(super) encoding: Encoding,
}

impl Reader<'_> {
    /// Reads an object to its end. `read` gets its plain bytes, and need not read them all.
    ///
    /// # Errors
    /// Fails when the store or `read` does, when it is damaged, and when none of the keys fits.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        key: &ObjectKey,
        read: impl FnOnce(&mut dyn Read) -> io::Result<T> + Send + 'static,
    ) -> Result<(Described, T), ActionError> {
        let recognition = Recognition { store: self.store, keys: self.keys, secrets: self.secrets };
        let encoding = recognition.encoding(key).await.map_err(transfer_failed)?;
        let tally = Tally::default();
        let body = Tallied { inner: self.store.get(key).await.map_err(store_failed)?, tally: tally.clone() };
        let unpacking = Unpacking::of(&encoding, self.keys, self.secrets).map_err(transfer_failed)?;
        let mut plain = unpacking.open_foreign(Box::new(body), None);
        let (mut ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let reading = tokio::task::spawn_blocking(move || {
            let mut counting = Counting { inner: SyncIoBridge::new(theirs), hasher: Hasher::default(), size_bytes: 0 };
            let value = read(&mut counting)?;
            io::copy(&mut counting, &mut io::sink())?;
            let facts = PlainFacts { size_bytes: counting.size_bytes, sha256: counting.hasher.finish() };
            Ok::<_, io::Error>((facts, value))
        });
        let copied = tokio::io::copy(&mut plain, &mut ours).await;
        drop(ours);
        let read = reading.await.map_err(|error| ActionError::fatal("the reader broke off").because(&error))?;
        if let Err(error) = copied
            && (read.is_ok() || error.kind() != io::ErrorKind::BrokenPipe)
        {
            return Err(transfer_failed(TransferError::of_reading(key.as_str(), error)));
        }
        let unusable = |error: io::Error| ActionError::fatal(format!("`{key}` cannot be used: {error}"));
        let (plain, value) = read.map_err(unusable)?;
        Ok((Described { stored: tally.facts(), plain, encoding }, value))
    }

    /// Reads a small object whole.
    ///
    /// # Errors
    /// Fails as [`Self::read`], and when it is longer than `limit_bytes`.
    pub(super) async fn small(&self, key: &ObjectKey, limit_bytes: u64) -> Result<(Described, Vec<u8>), ActionError> {
        let (described, bytes) = self
            .read(key, move |from| {
                let mut bytes = Vec::new();
                from.take(limit_bytes + 1).read_to_end(&mut bytes).map(|_| bytes)
            })
            .await?;
        if bytes.len() as u64 > limit_bytes {
            return Err(ActionError::fatal(format!("`{key}` is longer than {limit_bytes} bytes")));
        }
        Ok((described, bytes))
    }
}

/// What has passed of the stored bytes.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<(Hasher, u64)>>);

impl Tally {
    fn facts(&self) -> PlainFacts {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        PlainFacts { size_bytes: passed.1, sha256: std::mem::take(&mut passed.0).finish() }
    }
}

struct Tallied {
    inner: ByteStream,
    tally: Tally,
}

impl AsyncRead for Tallied {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let read = &buffer.filled()[before..];
        let mut passed = self.tally.0.lock().unwrap_or_else(PoisonError::into_inner);
        passed.0.update(read);
        passed.1 += read.len() as u64;
        drop(passed);
        Poll::Ready(Ok(()))
    }
}

/// Digests the plain bytes that pass.
struct Counting<R> {
    inner: R,
    hasher: Hasher,
    size_bytes: u64,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size_bytes += count as u64;
        Ok(count)
    }
}
