//! A blocking writer on one end, a stream on the other. A writer that fails never looks like an end.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS: usize = 8;

enum Part {
    Bytes(Vec<u8>),
    End,
}

/// The blocking end.
pub(in crate::actions) struct PipeWriter {
    send: mpsc::Sender<Part>,
    chunk: Vec<u8>,
}

/// The streaming end.
pub(in crate::actions) struct PipeReader {
    receive: mpsc::Receiver<Part>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
}

/// Makes both ends.
pub(in crate::actions) fn pipe() -> (PipeWriter, PipeReader) {
    let (send, receive) = mpsc::channel(CHUNKS);
    let chunk = Vec::with_capacity(CHUNK_BYTES);
    (PipeWriter { send, chunk }, PipeReader { receive, chunk: Vec::new(), at: 0, ended: false })
}

impl PipeWriter {
    /// Says that all was written. Dropped without it, the reader's last read fails.
    pub(in crate::actions) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.send(Part::End)
    }

    fn send(&self, part: Part) -> io::Result<()> {
        self.send.blocking_send(part).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        if self.chunk.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        self.send(Part::Bytes(chunk))
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.at == self.chunk.len() && !self.ended {
            match ready!(self.receive.poll_recv(cx)) {
                Some(Part::Bytes(chunk)) => {
                    self.chunk = chunk;
                    self.at = 0;
                }
                Some(Part::End) => self.ended = true,
                None => return Poll::Ready(Err(io::Error::other("the archive was not written to its end"))),
            }
        }
        let count = buffer.remaining().min(self.chunk.len() - self.at);
        buffer.put_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::io::AsyncReadExt as _;

    use super::pipe;

    #[tokio::test]
    async fn what_is_written_arrives_and_a_broken_writer_is_no_end() {
        let (mut writer, mut reader) = pipe();
        let written = tokio::task::spawn_blocking(move || {
            writer.write_all(&vec![7; 3_000_000])?;
            writer.finish()
        });
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.expect("read");
        assert_eq!(bytes.len(), 3_000_000);
        written.await.expect("joined").expect("written");
        let (mut writer, mut reader) = pipe();
        let broken = tokio::task::spawn_blocking(move || writer.write_all(b"half"));
        assert!(reader.read_to_end(&mut Vec::new()).await.is_err());
        let _ = broken.await;
        let (mut writer, reader) = pipe();
        drop(reader);
        let refused = tokio::task::spawn_blocking(move || writer.write_all(&vec![0; 300_000]).is_err());
        assert!(refused.await.expect("joined"));
    }
}
