//! One stream of bytes for several readers: the slowest sets the pace, one that goes away leaves the others alone.
//!
//! A tee that is dropped before its end was said is an error for its readers, never a short body.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, ready};

use bytes::Bytes;
use futures_util::stream::poll_fn;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use crate::action::ByteStream;

/// A server gives 32 KiB at a time: so many bytes are handed on together, which wakes a reader less often.
const BATCH_BYTES: usize = 256 << 10;
/// Batches that may wait for a reader.
const WAITING: usize = 4;

enum Part {
    Batch(VecDeque<Bytes>),
    End,
}

/// What one reader gets.
pub(crate) struct Body {
    /// The bytes.
    pub(crate) bytes: ByteStream,
    broke_off: BrokeOff,
}

/// Tells whether a body broke off under its reader, for as long as somebody asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct BrokeOff(Arc<AtomicBool>);

/// Where bytes are put in.
pub(crate) struct Tee {
    readers: Vec<mpsc::Sender<Part>>,
    needed: usize,
    batch: VecDeque<Bytes>,
    batch_bytes: usize,
}

/// Whether it is of use to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Enough readers are there.
    Enough,
    /// Too few are left.
    TooFew,
}

/// Makes a tee for so many readers, of which at least `needed` must stay.
pub(crate) fn tee(readers: usize, needed: usize) -> (Tee, Vec<Body>) {
    let (senders, bodies) = std::iter::repeat_with(reader).take(readers).unzip();
    (Tee { readers: senders, needed: needed.max(1), batch: VecDeque::new(), batch_bytes: 0 }, bodies)
}

impl Body {
    /// Bytes that are all there already.
    pub(crate) fn whole(bytes: ByteStream) -> Self {
        Self { bytes, broke_off: BrokeOff::default() }
    }

    /// What is asked later whether it broke off.
    pub(crate) fn broke_off(&self) -> BrokeOff {
        self.broke_off.clone()
    }
}

impl BrokeOff {
    /// Whether the reader was told that nothing more comes: what it failed with is no fault of its own.
    pub(crate) fn is_told(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn reader() -> (mpsc::Sender<Part>, Body) {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let told = BrokeOff::default();
    let broke_off = told.clone();
    let (mut batch, mut ended) = (VecDeque::new(), false);
    let parts = poll_fn(move |cx| {
        loop {
            if let Some(bytes) = batch.pop_front() {
                return Poll::Ready(Some(Ok(bytes)));
            }
            if ended {
                return Poll::Ready(None);
            }
            match ready!(receiver.poll_recv(cx)) {
                Some(Part::Batch(next)) => batch = next,
                Some(Part::End) => ended = true,
                None => {
                    told.0.store(true, Ordering::Relaxed);
                    let broke = io::Error::new(io::ErrorKind::BrokenPipe, "the source broke off");
                    return Poll::Ready(Some(Err(broke)));
                }
            }
        }
    });
    (sender, Body { bytes: Box::new(StreamReader::new(parts)), broke_off })
}

impl Tee {
    /// Puts bytes in and waits until every reader has room for them. Fewer than a batch wait for those that follow.
    pub(crate) async fn put(&mut self, bytes: Bytes) -> Reach {
        if !bytes.is_empty() {
            self.batch_bytes += bytes.len();
            self.batch.push_back(bytes);
        }
        if self.batch_bytes >= BATCH_BYTES {
            self.hand_on().await;
        }
        self.reach()
    }

    /// Says the end.
    pub(crate) async fn finish(mut self) -> Reach {
        self.hand_on().await;
        self.send(|| Part::End).await;
        self.reach()
    }

    async fn hand_on(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        self.send(|| Part::Batch(batch.clone())).await;
    }

    async fn send(&mut self, part: impl Fn() -> Part) {
        let mut gone = Vec::new();
        for (number, reader) in self.readers.iter().enumerate() {
            if reader.send(part()).await.is_err() {
                gone.push(number);
            }
        }
        for number in gone.into_iter().rev() {
            self.readers.remove(number);
        }
    }

    fn reach(&self) -> Reach {
        if self.readers.len() >= self.needed { Reach::Enough } else { Reach::TooFew }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn every_reader_gets_all_bytes_and_one_that_leaves_does_not_end_the_others() {
        let (mut tee, mut bodies) = tee(3, 2);
        drop(bodies.pop());
        let writing = async {
            for _ in 0..100_000 {
                assert_eq!(tee.put(Bytes::from_static(b"abcdefgh")).await, Reach::Enough);
            }
            tee.finish().await;
        };
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let [first, second] = bodies.get_disjoint_mut([0, 1]).unwrap();
        let ends = (first.bytes.read_to_end(&mut one), second.bytes.read_to_end(&mut two));
        let ((), one, two) = tokio::join!(writing, ends.0, ends.1);
        assert_eq!((one.unwrap(), two.unwrap()), (800_000, 800_000));
        assert!(!first.broke_off().is_told() && !second.broke_off().is_told());
    }

    #[tokio::test]
    async fn a_source_that_breaks_off_is_an_error_and_not_an_end() {
        let (mut tee, mut bodies) = tee(1, 1);
        assert_eq!(tee.put(Bytes::from_static(b"abc")).await, Reach::Enough);
        drop(tee);
        assert!(!bodies[0].broke_off().is_told());
        assert!(bodies[0].bytes.read_to_end(&mut Vec::new()).await.is_err());
        assert!(bodies[0].broke_off().is_told());
    }

    #[tokio::test]
    async fn too_few_readers_are_told() {
        let (mut tee, bodies) = tee(2, 2);
        drop(bodies);
        assert_eq!(tee.put(vec![0; BATCH_BYTES].into()).await, Reach::TooFew);
    }
}
