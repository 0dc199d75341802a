//! Watches what passes over a connection, and ends it when the server keeps a request waiting.
//!
//! `ssh` notices a host that is gone. A server whose disk hangs is another matter: `sshd` keeps the connection alive, and
//! nothing is ever answered. Each request has one answer, and each of both begins with its length (`draft-ietf-secsh-filexfer-02`,
//! section 3), so that what passes tells whether an answer is owed.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::clock::monotonic;

/// How long the server may say nothing while it owes an answer: longer than disks take that sleep or clean up after themselves.
const PATIENCE: Duration = Duration::from_secs(2 * 60);
/// The same while it makes a file durable: it may have to write as much as it has memory.
const SYNC_PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How many times it is looked whether its time is over, until it is.
const LOOKS: u32 = 8;

/// What passes over one connection.
pub(super) struct Watch {
    patience: Duration,
    sync_patience: Duration,
    traffic: Mutex<Traffic>,
    syncs: AtomicUsize,
    silent: AtomicBool,
}

struct Traffic {
    asked: Packets,
    answered: Packets,
    /// When the server said something last, or was asked while it owed nothing.
    heard_at: Instant,
}

/// Counts the packets of a stream.
#[derive(Default)]
struct Packets {
    begun: u64,
    ended: u64,
    length: [u8; 4],
    length_bytes: usize,
    left_bytes: usize,
}

impl Packets {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left_bytes == 0 {
                let count = bytes.len().min(4 - self.length_bytes);
                self.length[self.length_bytes..self.length_bytes + count].copy_from_slice(&bytes[..count]);
                (self.length_bytes, bytes) = (self.length_bytes + count, &bytes[count..]);
                if self.length_bytes < 4 {
                    return;
                }
                self.left_bytes = usize::try_from(u32::from_be_bytes(self.length)).unwrap_or(usize::MAX);
                self.length_bytes = 0;
                self.begun += 1;
            }
            let count = bytes.len().min(self.left_bytes);
            (self.left_bytes, bytes) = (self.left_bytes - count, &bytes[count..]);
            if self.left_bytes == 0 {
                self.ended += 1;
            }
        }
    }
}

impl Traffic {
    fn is_owed(&self) -> bool {
        self.asked.begun > self.answered.ended
    }
}

impl Watch {
    pub(super) fn new() -> Arc<Self> {
        Self::with(PATIENCE, SYNC_PATIENCE)
    }

    fn with(patience: Duration, sync_patience: Duration) -> Arc<Self> {
        let traffic = Traffic { asked: Packets::default(), answered: Packets::default(), heard_at: monotonic() };
        let (syncs, silent) = (AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { patience, sync_patience, traffic: Mutex::new(traffic), syncs, silent })
    }

    /// Watches both ways of a connection.
    pub(super) fn over<W, R>(self: &Arc<Self>, to: W, from: R) -> (Outgoing<W>, Incoming<R>) {
        let look = Box::pin(tokio::time::sleep(self.patience / LOOKS));
        (Outgoing { to, watch: Arc::clone(self) }, Incoming { from, watch: Arc::clone(self), look })
    }

    /// Gives the server the time that a sync may take, for as long as what is returned lives.
    pub(super) fn syncing(self: &Arc<Self>) -> Syncing {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Syncing(Arc::clone(self))
    }

    /// How long the server had said nothing when the connection was ended for that; `None` where it was not.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.silent.load(Ordering::Relaxed).then_some(self.patience)
    }

    fn asked<'a>(&self, pieces: impl Iterator<Item = &'a [u8]>) {
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        let was_owed = traffic.is_owed();
        pieces.for_each(|bytes| traffic.asked.pass(bytes));
        if !was_owed {
            traffic.heard_at = monotonic();
        }
    }

    fn answered(&self, bytes: &[u8]) {
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        traffic.answered.pass(bytes);
        traffic.heard_at = monotonic();
    }

    fn is_over(&self) -> bool {
        let is_syncing = self.syncs.load(Ordering::Relaxed) > 0;
        let patience = if is_syncing { self.sync_patience } else { self.patience };
        let traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = traffic.is_owed() && monotonic().duration_since(traffic.heard_at) > patience;
        if is_over {
            self.silent.store(true, Ordering::Relaxed);
        }
        is_over
    }
}

/// A file that is being made durable.
pub(super) struct Syncing(Arc<Watch>);

impl Drop for Syncing {
    fn drop(&mut self) {
        self.0.syncs.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What goes to the server.
pub(super) struct Outgoing<W> {
    to: W,
    watch: Arc<Watch>,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Outgoing<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.to).poll_write(cx, bytes))?;
        self.watch.asked(std::iter::once(&bytes[..count]));
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.to).poll_write_vectored(cx, pieces))?;
        let mut left = count;
        self.watch.asked(pieces.iter().map(|piece| {
            let passed = left.min(piece.len());
            left -= passed;
            &piece[..passed]
        }));
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.to.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_shutdown(cx)
    }
}

/// What comes from the server; an error once it has kept an answer for too long.
pub(super) struct Incoming<R> {
    from: R,
    watch: Arc<Watch>,
    look: Pin<Box<tokio::time::Sleep>>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Incoming<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.from).poll_read(cx, buffer) {
            self.watch.answered(&buffer.filled()[before..]);
            return Poll::Ready(read);
        }
        while self.look.as_mut().poll(cx).is_ready() {
            if self.watch.is_over() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the server answers nothing")));
            }
            self.look = Box::pin(tokio::time::sleep(self.watch.patience / LOOKS));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const SHORT: Duration = Duration::from_millis(80);
    const LONG: Duration = Duration::from_secs(600);
    /// A request or an answer of three bytes.
    const PACKET: [u8; 7] = [0, 0, 0, 3, 1, 2, 3];

    #[test]
    fn packets_are_counted_however_they_are_cut() {
        let stream = [PACKET, PACKET].concat();
        for size in 1..=stream.len() {
            let mut packets = Packets::default();
            stream.chunks(size).for_each(|bytes| packets.pass(bytes));
            assert_eq!((packets.begun, packets.ended), (2, 2), "{size}");
        }
        let mut packets = Packets::default();
        packets.pass(&stream[..12]);
        assert_eq!((packets.begun, packets.ended), (2, 1));
    }

    #[tokio::test]
    async fn a_server_that_owes_an_answer_is_given_up_and_one_that_owes_none_is_not() {
        let watch = Watch::with(SHORT, LONG);
        let (ours, mut theirs) = tokio::io::duplex(64);
        let (from, to) = tokio::io::split(ours);
        let (mut to, mut from) = watch.over(to, from);
        let mut answer = [0; 7];
        let idle = tokio::time::timeout(SHORT * 4, from.read_exact(&mut answer)).await;
        assert!(idle.is_err() && watch.silence().is_none(), "nothing was asked");
        to.write_all(&PACKET).await.unwrap();
        theirs.write_all(&PACKET).await.unwrap();
        from.read_exact(&mut answer).await.unwrap();
        to.write_all(&PACKET).await.unwrap();
        let syncing = watch.syncing();
        let patient = tokio::time::timeout(SHORT * 4, from.read_exact(&mut answer)).await;
        assert!(patient.is_err() && watch.silence().is_none(), "a sync may take its time");
        drop(syncing);
        let ended = tokio::time::timeout(LONG, from.read_exact(&mut answer)).await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(watch.silence(), Some(SHORT));
    }
}
