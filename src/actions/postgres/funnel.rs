//! One stream of bytes for several readers: the slowest sets the pace, one that goes away leaves the others alone.
//!
//! A funnel that is dropped before its end was said is an error for its readers, never a short body.

use std::io;
use std::task::Poll;

use bytes::Bytes;
use futures_util::stream::poll_fn;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use crate::action::ByteStream;

/// Pieces that may wait for a reader; each has up to 32 KiB.
const WAITING: usize = 16;

enum Part {
    Bytes(Bytes),
    End,
}

/// Where bytes are put in.
pub(crate) struct Funnel {
    readers: Vec<mpsc::Sender<Part>>,
    needed: usize,
}

/// Whether it is of use to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Enough readers are there.
    Enough,
    /// Too few are left.
    TooFew,
}

/// Makes a funnel for so many readers, of which at least `needed` must stay.
pub(crate) fn funnel(readers: usize, needed: usize) -> (Funnel, Vec<ByteStream>) {
    let (senders, bodies) = std::iter::repeat_with(reader).take(readers).unzip();
    (Funnel { readers: senders, needed: needed.max(1) }, bodies)
}

fn reader() -> (mpsc::Sender<Part>, ByteStream) {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let mut ended = false;
    let parts = poll_fn(move |cx| {
        if ended {
            return Poll::Ready(None);
        }
        receiver.poll_recv(cx).map(|part| match part {
            Some(Part::Bytes(bytes)) => Some(Ok(bytes)),
            Some(Part::End) => {
                ended = true;
                None
            }
            None => Some(Err(io::Error::new(io::ErrorKind::BrokenPipe, "the source broke off"))),
        })
    });
    (sender, Box::new(StreamReader::new(parts)))
}

impl Funnel {
    /// Puts bytes in and waits until every reader has room for them.
    pub(crate) async fn put(&mut self, bytes: Bytes) -> Reach {
        if bytes.is_empty() {
            return self.reach();
        }
        self.send(|| Part::Bytes(bytes.clone())).await;
        self.reach()
    }

    /// Says the end.
    pub(crate) async fn finish(mut self) {
        self.send(|| Part::End).await;
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
        let (mut funnel, mut bodies) = funnel(3, 2);
        drop(bodies.pop());
        let writing = async {
            for _ in 0..100 {
                assert_eq!(funnel.put(Bytes::from_static(b"abc")).await, Reach::Enough);
            }
            funnel.finish().await;
        };
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let [first, second] = bodies.get_disjoint_mut([0, 1]).unwrap();
        let ((), first, second) = tokio::join!(writing, first.read_to_end(&mut one), second.read_to_end(&mut two));
        assert_eq!((first.unwrap(), second.unwrap()), (300, 300));
    }

    #[tokio::test]
    async fn a_source_that_breaks_off_is_an_error_and_not_an_end() {
        let (mut funnel, mut bodies) = funnel(1, 1);
        assert_eq!(funnel.put(Bytes::from_static(b"abc")).await, Reach::Enough);
        drop(funnel);
        assert!(bodies[0].read_to_end(&mut Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn too_few_readers_are_told() {
        let (mut funnel, bodies) = funnel(2, 2);
        drop(bodies);
        assert_eq!(funnel.put(Bytes::from_static(b"abc")).await, Reach::TooFew);
    }
}
