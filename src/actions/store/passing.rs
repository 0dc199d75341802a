//! Bytes on their way through an action: digested, told as progress, and proven at their end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::action::{ByteStream, PlainFacts, Reporter, RunContext};
use crate::base::digest::Hasher;
use crate::event::Progress;

/// Progress is told each time so many bytes more have passed.
const STEP_BYTES: u64 = 1 << 20;

/// Tells how many bytes have passed, over all streams of one step.
#[derive(Clone)]
pub(in crate::actions) struct Meter {
    reporter: Arc<dyn Reporter>,
    done: Arc<AtomicU64>,
    total: Option<u64>,
}

impl Meter {
    /// Counts from zero towards `total`.
    pub(in crate::actions) fn new(cx: &RunContext, total: Option<u64>) -> Self {
        Self { reporter: Arc::clone(&cx.reporter), done: Arc::default(), total }
    }

    fn add(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        let done = before + bytes;
        if before == 0 || before / STEP_BYTES != done / STEP_BYTES || Some(done) == self.total {
            self.reporter.progress(Progress::Units { done, total: self.total, unit: "bytes" });
        }
    }
}

/// A stream that fails at its end unless it was what it must be.
pub(in crate::actions) struct Passing {
    inner: ByteStream,
    hasher: Hasher,
    size_bytes: u64,
    expected: Option<PlainFacts>,
    meter: Option<Meter>,
}

impl Passing {
    /// Passes a stream on.
    pub(in crate::actions) fn new(inner: ByteStream) -> Self {
        Self { inner, hasher: Hasher::default(), size_bytes: 0, expected: None, meter: None }
    }

    /// Fails at the end, with `InvalidData`, unless size and digest are these.
    pub(in crate::actions) fn expecting(mut self, expected: PlainFacts) -> Self {
        self.expected = Some(expected);
        self
    }

    /// Tells progress.
    pub(in crate::actions) fn metered(mut self, meter: &Meter) -> Self {
        self.meter = Some(meter.clone());
        self
    }

    fn judge(&self) -> io::Result<()> {
        let found = PlainFacts { size_bytes: self.size_bytes, sha256: self.hasher.clone().finish() };
        let Some(expected) = self.expected.filter(|expected| *expected != found) else { return Ok(()) };
        let what = match found.size_bytes == expected.size_bytes {
            true => format!("its SHA-256 is {}, not {}", found.sha256, expected.sha256),
            false => format!("it has {} bytes, not {}", found.size_bytes, expected.size_bytes),
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }
}

impl AsyncRead for Passing {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let count = buffer.filled().len() - before;
        if count == 0 {
            return Poll::Ready(if buffer.remaining() == 0 { Ok(()) } else { self.judge() });
        }
        let this = &mut *self;
        this.hasher.update(&buffer.filled()[before..]);
        this.size_bytes += count as u64;
        if let Some(meter) = &this.meter {
            meter.add(count as u64);
        }
        Poll::Ready(Ok(()))
    }
}
