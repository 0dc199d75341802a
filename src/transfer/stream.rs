//! Streams that digest what passes through them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::PlainFacts;
use crate::action::ByteStream;
use crate::base::digest::Hasher;

/// Passes a body on and tells what it was at its end.
pub(super) struct Digesting<F> {
    inner: ByteStream,
    count: Counted,
    told: Option<F>,
}

/// Passes a body on and fails at its end unless it was what it should be.
pub(super) struct Verifying {
    inner: ByteStream,
    count: Counted,
    expected: PlainFacts,
}

#[derive(Default)]
struct Counted {
    hasher: Hasher,
    size_bytes: u64,
}

impl Counted {
    fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size_bytes += bytes.len() as u64;
    }

    fn facts(&self) -> PlainFacts {
        PlainFacts { size_bytes: self.size_bytes, sha256: self.hasher.clone().finish() }
    }
}

impl<F> Digesting<F> {
    pub(super) fn new(inner: ByteStream, told: F) -> Self {
        Self { inner, count: Counted::default(), told: Some(told) }
    }
}

impl Verifying {
    pub(super) fn new(inner: ByteStream, expected: PlainFacts) -> Self {
        Self { inner, count: Counted::default(), expected }
    }
}

impl<F: FnOnce(PlainFacts) + Unpin> AsyncRead for Digesting<F> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let read = &buffer.filled()[before..];
        if !read.is_empty() {
            self.count.add(read);
        } else if buffer.remaining() > 0
            && let Some(told) = self.told.take()
        {
            told(self.count.facts());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Verifying {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let read = &buffer.filled()[before..];
        if !read.is_empty() {
            self.count.add(read);
            return Poll::Ready(Ok(()));
        }
        let found = self.count.facts();
        if buffer.remaining() == 0 || found == self.expected {
            return Poll::Ready(Ok(()));
        }
        let what = match found.size_bytes == self.expected.size_bytes {
            true => format!("its SHA-256 is {}, not {}", found.sha256, self.expected.sha256),
            false => format!("it has {} bytes, not {}", found.size_bytes, self.expected.size_bytes),
        };
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)))
    }
}
