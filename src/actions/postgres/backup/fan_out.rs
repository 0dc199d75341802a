//! One stream into several stores at once, looked at while it flows.
//!
//! The slowest store sets the pace. A store that gives up does not end the others; when all have given up, nothing is
//! read any more.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::mpsc;

use crate::action::ByteStream;

const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait for one store.
const WAITING: usize = 4;
/// The beginning that is kept: what marks a format stands there.
const HEAD_BYTES: usize = 4 << 10;
/// The end that is kept.
const TAIL_BYTES: usize = 4 << 10;

enum Part {
    Bytes(Bytes),
    End,
}

/// What went through.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How many bytes.
    pub(crate) size_bytes: u64,
    /// The first ones.
    pub(crate) head: Vec<u8>,
    /// The last ones.
    pub(crate) tail: Vec<u8>,
}

impl Seen {
    fn add(&mut self, chunk: &[u8]) {
        self.size_bytes += chunk.len() as u64;
        let placement = HEAD_BYTES.saturating_sub(self.head.len()).min(chunk.len());
        self.head.extend_from_slice(&chunk[..placement]);
        self.tail.extend_from_slice(&chunk[chunk.len().saturating_sub(TAIL_BYTES)..]);
        let extra = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..extra);
    }
}

/// The end that the stream is pumped into.
pub(crate) struct FanOut {
    outlets: Vec<mpsc::Sender<Part>>,
    done: Arc<AtomicU64>,
}

/// One of the streams that come out.
struct Outlet {
    receive: mpsc::Receiver<Part>,
    current: Bytes,
    ended: bool,
}

/// Makes both ends; `done` counts the bytes.
pub(crate) fn fan_out(count: usize, done: Arc<AtomicU64>) -> (FanOut, Vec<ByteStream>) {
    let mut outlets = Vec::with_capacity(count);
    let mut streams: Vec<ByteStream> = Vec::with_capacity(count);
    for _ in 0..count {
        let (send, receive) = mpsc::channel(WAITING);
        outlets.push(send);
        streams.push(Box::new(Outlet { receive, current: Bytes::new(), ended: false }));
    }
    (FanOut { outlets, done }, streams)
}

impl FanOut {
    /// Reads a stream to its end into every outlet, and tells what went through. Dropped before, no outlet ends well.
    ///
    /// # Errors
    /// Fails as the stream does, and when nobody takes anything any more.
    pub(crate) async fn pump(mut self, mut from: ByteStream) -> io::Result<Seen> {
        let mut seen = Seen::default();
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK_BYTES);
            // A pipe gives little at a time: chunks are filled, so that what follows has less to do.
            let mut ended = false;
            while buffer.len() < CHUNK_BYTES && !ended {
                ended = from.read_buf(&mut buffer).await? == 0;
            }
            if !buffer.is_empty() {
                let chunk = buffer.split().freeze();
                seen.add(&chunk);
                self.done.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                self.give(|| Part::Bytes(chunk.clone())).await;
            }
            if self.outlets.is_empty() {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe));
            }
            if ended {
                self.give(|| Part::End).await;
                return Ok(seen);
            }
        }
    }

    async fn give(&mut self, part: impl Fn() -> Part) {
        let mut left = Vec::with_capacity(self.outlets.len());
        for outlet in self.outlets.drain(..) {
            if outlet.send(part()).await.is_ok() {
                left.push(outlet);
            }
        }
        self.outlets = left;
    }
}

impl AsyncRead for Outlet {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while !self.current.has_remaining() && !self.ended {
            match ready!(self.receive.poll_recv(cx)) {
                Some(Part::Bytes(chunk)) => self.current = chunk,
                Some(Part::End) => self.ended = true,
                None => return Poll::Ready(Err(io::Error::other("the stream was not read to its end"))),
            }
        }
        let count = buffer.remaining().min(self.current.len());
        buffer.put_slice(&self.current.split_to(count));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncReadExt as _;

    use super::{HEAD_BYTES, TAIL_BYTES, fan_out};

    #[tokio::test]
    async fn each_outlet_gets_all_of_it_and_one_that_gives_up_does_not_end_the_others() {
        let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let (pump, mut outlets) = fan_out(3, Arc::default());
        drop(outlets.pop());
        let read = |mut outlet: crate::action::ByteStream| async move {
            let mut all = Vec::new();
            outlet.read_to_end(&mut all).await.map(|_| all)
        };
        let (two, one) = (outlets.pop().expect("two"), outlets.pop().expect("one"));
        let pumping = pump.pump(Box::new(std::io::Cursor::new(bytes.clone())));
        let (seen, one, two) = tokio::join!(pumping, read(one), read(two));
        let seen = seen.expect("pumped");
        assert_eq!((one.expect("one"), two.expect("two")), (bytes.clone(), bytes.clone()));
        assert_eq!(seen.size_bytes, bytes.len() as u64);
        assert_eq!(seen.head, bytes[..bytes.len().min(HEAD_BYTES)]);
        assert_eq!(seen.tail, bytes[bytes.len() - TAIL_BYTES..]);
    }

    #[tokio::test]
    async fn a_pump_that_is_dropped_is_no_end() {
        let (pump, mut outlets) = fan_out(1, Arc::default());
        drop(pump);
        assert!(outlets[0].read_to_end(&mut Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn when_nobody_takes_anything_the_source_is_left_alone() {
        let (pump, outlets) = fan_out(1, Arc::default());
        drop(outlets);
        assert!(pump.pump(Box::new(std::io::Cursor::new(vec![0; 1 << 20]))).await.is_err());
    }
}
