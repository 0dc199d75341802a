//! An object that arrives asynchronously, read by code that blocks.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncReadExt as _;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::action::{ActionError, ByteStream};

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
    /// # Errors
    /// Fails as the body does, whatever the reader made of it; a cancel ends both.
    pub(crate) async fn read<T: Send + 'static>(
        self,
        cancel: &CancellationToken,
        reader: impl FnOnce(&mut dyn Read) -> Result<T, ActionError> + Send + 'static,
    ) -> io::Result<Result<T, ActionError>> {
        let (runtime, cancel) = (Handle::current(), cancel.clone());
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
        io::ErrorKind::InvalidData => ActionError::fatal(format!("`{key}` is damaged: {error}")),
        _ => ActionError::retryable(format!("reading `{key}` from the store broke off")).because(error),
    }
}
