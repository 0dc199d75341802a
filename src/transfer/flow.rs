//! What connects the threads of a journey: blocks in order, a bounded number of them, and an end that is said.
//!
//! A sender that goes away without having said the end (a panic, a thread that could not go on) is an error for
//! the receiver, never a short body. A receiver that goes away ends its senders at their next block.

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use crate::base::clock;

/// Bytes in one block of a stream that has no blocks of its own.
pub(super) const BLOCK_BYTES: usize = 256 << 10;

/// A block that is there, or that a worker still makes.
enum Slot {
    Ready(Bytes),
    Made(Receiver<io::Result<Bytes>>),
    Failed(io::Error),
    End,
}

/// The sending side.
pub(super) struct Outflow {
    slots: SyncSender<Slot>,
    pending: BytesMut,
    waited: Duration,
}

/// The receiving side; reads as one stream.
pub(super) struct Inflow {
    slots: Receiver<Slot>,
    current: Bytes,
    ended: bool,
    waited: Duration,
    failure: Failure,
}

/// The sender's own failure, as it was.
#[derive(Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<io::Error>>>);

impl Failure {
    fn keep(&self, error: io::Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// Takes it.
    pub(super) fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Connects two threads; at most `blocks` are under way.
pub(super) fn flow(blocks: usize) -> (Outflow, Inflow) {
    let (sender, receiver) = sync_channel(blocks);
    let outflow = Outflow { slots: sender, pending: BytesMut::new(), waited: Duration::ZERO };
    let failure = Failure::default();
    (outflow, Inflow { slots: receiver, current: Bytes::new(), ended: false, waited: Duration::ZERO, failure })
}

/// Nobody reads any more.
pub(super) fn abandoned() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads it any more")
}

impl Outflow {
    fn put(&mut self, slot: Slot) -> io::Result<()> {
        let from = clock::monotonic();
        let sent = self.slots.send(slot).map_err(|_| abandoned());
        self.waited += from.elapsed();
        sent
    }

    /// Sends a block as it is.
    pub(super) fn send(&mut self, block: Bytes) -> io::Result<()> {
        self.flush()?;
        self.put(Slot::Ready(block))
    }

    /// Sends the place of a block that a worker makes; gives the worker's side.
    pub(super) fn promise(&mut self) -> io::Result<SyncSender<io::Result<Bytes>>> {
        let (sender, receiver) = sync_channel(1);
        self.put(Slot::Made(receiver))?;
        Ok(sender)
    }

    /// Ends the stream: whole, or with what went wrong.
    pub(super) fn finish(mut self, result: io::Result<()>) {
        let result = result.and_then(|()| self.flush());
        let last = result.map_or_else(Slot::Failed, |()| Slot::End);
        // The receiver may be gone; then there is nobody to be told.
        let _ = self.put(last);
    }

    /// How long it waited for the receiver.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }
}

impl Write for Outflow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.pending.capacity() == 0 {
            self.pending.reserve(BLOCK_BYTES);
        }
        let count = bytes.len().min(BLOCK_BYTES - self.pending.len());
        self.pending.extend_from_slice(&bytes[..count]);
        if self.pending.len() == BLOCK_BYTES {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let block = std::mem::take(&mut self.pending).freeze();
        self.put(Slot::Ready(block))
    }
}

impl Inflow {
    /// The next block; `None` after the last one.
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.current.has_remaining() {
            return Ok(Some(std::mem::take(&mut self.current)));
        }
        if self.ended {
            return Ok(None);
        }
        let from = clock::monotonic();
        let block = match self.slots.recv() {
            Ok(Slot::Ready(block)) => Ok(Some(block)),
            Ok(Slot::Made(block)) => block.recv().unwrap_or_else(|_| Err(died())).map(Some),
            Ok(Slot::Failed(error)) => Err(error),
            Ok(Slot::End) => Ok(None),
            Err(_) => Err(died()),
        };
        self.waited += from.elapsed();
        self.ended = matches!(block, Ok(None));
        block
    }

    /// How long it waited for the sender.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }

    /// Where the sender's own failure is kept: whoever reads through a decoder finds it here as it was.
    pub(super) fn failure(&self) -> Failure {
        self.failure.clone()
    }
}

fn died() -> io::Error {
    io::Error::other("a thread of the transfer ended before its work was done")
}

impl BufRead for Inflow {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while !self.current.has_remaining() {
            match self.next() {
                Ok(Some(block)) => self.current = block,
                Ok(None) => break,
                Err(error) => {
                    let kind = error.kind();
                    self.failure.keep(error);
                    return Err(io::Error::new(kind, "what is read from failed"));
                }
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, count: usize) {
        self.current.advance(count);
    }
}

impl Read for Inflow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl std::fmt::Debug for Inflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inflow")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn blocks_arrive_in_order_and_the_end_is_said() {
        let (mut out, mut into) = flow(4);
        out.send(Bytes::from_static(b"one ")).unwrap();
        let promise = out.promise().unwrap();
        out.write_all(b"three").unwrap();
        out.finish(Ok(()));
        promise.send(Ok(Bytes::from_static(b"two "))).unwrap();
        let mut text = String::new();
        into.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two three");
        assert!(into.next().unwrap().is_none());
    }

    #[test]
    fn a_sender_that_dies_is_an_error_and_not_an_end() {
        let (mut out, mut into) = flow(4);
        out.send(Bytes::from_static(b"one")).unwrap();
        drop(out);
        let mut text = String::new();
        assert!(into.read_to_string(&mut text).is_err());
    }

    #[test]
    fn a_worker_that_dies_is_an_error() {
        let (mut out, mut into) = flow(4);
        drop(out.promise().unwrap());
        out.finish(Ok(()));
        assert!(into.next().is_err());
    }

    #[test]
    fn a_sender_learns_that_nobody_reads() {
        let (mut out, into) = flow(4);
        drop(into);
        assert_eq!(out.send(Bytes::from_static(b"one")).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
