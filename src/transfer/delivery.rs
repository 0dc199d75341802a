//! The last thread of a journey and the stream it feeds, which is asynchronous again.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

use super::meter::{Meter, Stage};
use crate::base::clock;

/// Blocks that may wait for the reader.
const WAITING: usize = 2;

/// A part of what is delivered.
pub(super) enum Part {
    /// Some bytes.
    Block(Bytes),
    /// Everything was delivered and is sound.
    End,
}

/// Where the last thread puts its blocks.
pub(super) type Counter = mpsc::Sender<io::Result<Part>>;
/// Where the stream takes them.
pub(super) type Parts = mpsc::Receiver<io::Result<Part>>;

/// Connects the last thread with the stream.
pub(super) fn counter() -> (Counter, Parts) {
    mpsc::channel(WAITING)
}

/// Starts the threads when the stream is read for the first time.
pub(super) type Start = Box<dyn FnOnce() -> io::Result<(Parts, DropGuard)> + Send>;

/// Is told of the end, and of every block's size before.
pub(super) trait Hear: Send + Unpin {
    /// Some bytes were handed out.
    fn passed(&mut self, bytes: usize);
    /// All of them were.
    fn ended(&mut self);
}

enum State {
    New(Start),
    Open(Parts, #[expect(dead_code, reason = "ends the threads when it is dropped")] DropGuard),
    Ended,
    Failed,
}

/// The stream. Dropping it ends the threads.
pub(super) struct Delivery<H> {
    state: State,
    current: Bytes,
    hear: H,
    reader: (Arc<Meter>, Stage),
    handed_at: Option<Instant>,
}

impl<H: Hear> Delivery<H> {
    /// A stream that nobody works for until it is read. `reader` is the stage that reads it.
    pub(super) fn new(start: Start, hear: H, reader: (Arc<Meter>, Stage)) -> Self {
        Self { state: State::New(start), current: Bytes::new(), hear, reader, handed_at: None }
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if let State::New(_) = self.state
            && let State::New(start) = std::mem::replace(&mut self.state, State::Failed)
        {
            let (parts, guard) = start()?;
            self.state = State::Open(parts, guard);
        }
        let parts = match &mut self.state {
            State::Open(parts, _) => parts,
            State::Ended => return Poll::Ready(Ok(None)),
            State::New(_) | State::Failed => return Poll::Ready(Err(io::Error::other("the transfer has failed"))),
        };
        let part = ready!(parts.poll_recv(cx));
        Poll::Ready(match part {
            Some(Ok(Part::Block(block))) => Ok(Some(block)),
            Some(Ok(Part::End)) => {
                self.state = State::Ended;
                self.hear.ended();
                Ok(None)
            }
            Some(Err(error)) => {
                self.state = State::Failed;
                Err(error)
            }
            None => {
                self.state = State::Failed;
                Err(io::Error::other("a thread of the transfer ended before its work was done"))
            }
        })
    }
}

impl<H: Hear> AsyncRead for Delivery<H> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(at) = self.handed_at.take() {
            self.reader.0.worked(self.reader.1, at.elapsed());
        }
        while !self.current.has_remaining() {
            match ready!(self.poll_part(cx))? {
                Some(block) => self.current = block,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.current.len().min(buffer.remaining());
        buffer.put_slice(&self.current.split_to(count));
        self.hear.passed(count);
        self.handed_at = Some(clock::monotonic());
        Poll::Ready(Ok(()))
    }
}
