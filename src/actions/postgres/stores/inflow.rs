//! An object that arrives asynchronously, read by code that blocks.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncReadExt as _;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::action::{ActionError, ByteStream};
use crate::transfer::TransferError;

/// Bytes that are read at a time of what nobody looks at.
const CHUNK_BYTES: usize = 128 << 10;

/// A body on its way to its reader.
pub(crate) struct Inflow {
    /// The body; it ends well only when it is whole.
    pub(crate) body: ByteStream,
    /// Bytes read so far, over all objects.
    pub(crate) done: Arc<AtomicU64>,
}

impl Inflow {
    /// Hands the body to `reader` on a thread that may block. What a content that it likes has left over is read, too:
    /// an object counts only when it was read to its end.
    ///
    /// Dropped before, the reader finds an early end at its next read.
    ///
    /// # Errors
    /// Fails as the body does, whatever the reader made of it; a cancel ends both.
    pub(crate) async fn read<T: Send + 'static>(
        self,
        cancel: &CancellationToken,
        reader: impl FnOnce(&mut dyn Read) -> Result<T, ActionError> + Send + 'static,
    ) -> io::Result<Result<T, ActionError>> {
        let (runtime, cancel) = (Handle::current(), cancel.child_token());
        let _ends_with_us = cancel.clone().drop_guard();
        let mut blocking = Blocking { inflow: self, runtime, cancel, failure: None };
        let reading = tokio::task::spawn_blocking(move || {
            let made = reader(&mut blocking);
            if made.is_ok() {
                blocking.pass_by();
            }
            blocking.failure.map_or(Ok(made), Err)
        });
        reading.await.map_err(io::Error::other)?
    }
}

/// The end of a body that blocks: bytes go straight from the body into the reader's buffer. A cancelled one ends early.
struct Blocking {
    inflow: Inflow,
    runtime: Handle,
    cancel: CancellationToken,
    failure: Option<io::Error>,
}

impl Blocking {
    /// Reads what is left. How it ends is kept.
    fn pass_by(&mut self) {
        let mut buffer = vec![0; CHUNK_BYTES];
        while self.read(&mut buffer).is_ok_and(|count| count > 0) {}
    }
}

impl Read for Blocking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Ok(0);
        }
        let reading = self.cancel.run_until_cancelled(self.inflow.body.read(buffer));
        match self.runtime.block_on(reading) {
            Some(Ok(count)) => {
                self.inflow.done.fetch_add(count as u64, Ordering::Relaxed);
                Ok(count)
            }
            Some(Err(error)) => {
                let kind = error.kind();
                self.failure.get_or_insert(error);
                Err(kind.into())
            }
            None => Ok(0),
        }
    }
}

/// A body's failure as a step's error: damage is final, a broken way is not.
pub(crate) fn broken(key: &str, error: &io::Error) -> ActionError {
    match error.kind() {
        // What the stream found out at its end, or the first byte that cannot be decrypted.
        io::ErrorKind::InvalidData => {
            let broken = ActionError::fatal(format!("`{key}` is damaged: {error}"));
            if TransferError::is_of_damage(error) { broken.of_damage() } else { broken }
        }
        _ => ActionError::retryable(format!("reading `{key}` from the store broke off")).because(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_nobody_waits_for_any_more_finds_an_end() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let (end, ended) = tokio::sync::oneshot::channel();
        let inflow = Inflow { body: Box::new(tokio::io::repeat(7)), done: Arc::default() };
        let cancel = CancellationToken::new();
        let reading = inflow.read(&cancel, move |body| {
            let first = body.read(&mut [0; 16]).is_ok_and(|count| count > 0);
            let _ = tell.send(first);
            let _ = end.send(io::copy(body, &mut io::sink()).is_ok());
            Ok(())
        });
        tokio::select! {
            _ = reading => unreachable!("the body has no end"),
            first = told => assert_eq!(first, Ok(true)),
        }
        assert_eq!(ended.await, Ok(true));
        assert!(!cancel.is_cancelled(), "the others go on");
    }

    #[tokio::test]
    async fn a_body_that_fails_counts_whatever_its_reader_made_of_it() {
        let whole = tokio::io::AsyncReadExt::chain(
            &b"some"[..],
            tokio_util::io::StreamReader::new(futures_util::stream::iter([Err::<bytes::Bytes, _>(io::Error::other(
                "on purpose",
            ))])),
        );
        let inflow = Inflow { body: Box::new(whole), done: Arc::default() };
        let read = inflow.read(&CancellationToken::new(), |body| Ok(body.read(&mut [0; 4]).is_ok())).await;
        assert_eq!(read.expect_err("it fails").to_string(), "on purpose");
    }
}
