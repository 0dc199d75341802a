//! An object that arrives asynchronously, read by code that blocks.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::action::{ActionError, ByteStream};

const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that may wait for the reader.
const WAITING: usize = 8;

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
        let (send, receive) = mpsc::channel(WAITING);
        let blocking = tokio::task::spawn_blocking(move || {
            let mut chunks = Chunks { receive, chunk: Bytes::new() };
            let made = reader(&mut chunks);
            while made.is_ok() && chunks.receive.blocking_recv().is_some() {}
            made
        });
        let (pumped, made) = tokio::join!(pump(self, send, cancel), blocking);
        pumped?;
        made.map_err(io::Error::other)
    }
}

async fn pump(inflow: Inflow, send: mpsc::Sender<Bytes>, cancel: &CancellationToken) -> io::Result<()> {
    let Inflow { mut body, done } = inflow;
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        let count = tokio::select! {
            read = body.read_buf(&mut chunk) => read?,
            () = cancel.cancelled() => return Ok(()),
        };
        done.fetch_add(count as u64, Ordering::Relaxed);
        if count == 0 || send.send(chunk.freeze()).await.is_err() {
            return Ok(());
        }
    }
}

/// The end of a body that blocks.
struct Chunks {
    receive: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            let Some(chunk) = self.receive.blocking_recv() else { return Ok(0) };
            self.chunk = chunk;
        }
        let count = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        Ok(count)
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
