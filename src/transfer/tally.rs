//! Digests: the number of bytes and their SHA-256, beside the journey or in its way.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;

use super::PlainFacts;
use super::meter::{Meter, Stage};
use super::thread;
use crate::base::clock;
use crate::base::digest::Hasher;

/// Blocks that may wait for the digest.
const WAITING: usize = 2;

/// Counts and digests on the calling thread.
pub(super) struct Count {
    hasher: Option<Hasher>,
    size_bytes: u64,
    worked: Duration,
    meter: Arc<Meter>,
}

impl Count {
    pub(super) fn new(meter: Arc<Meter>) -> Self {
        Self { hasher: Some(Hasher::default()), size_bytes: 0, worked: Duration::ZERO, meter }
    }

    /// Counts only.
    pub(super) fn size_only(meter: Arc<Meter>) -> Self {
        Self { hasher: None, ..Self::new(meter) }
    }

    pub(super) fn is_digested(&self) -> bool {
        self.hasher.is_some()
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        let from = clock::monotonic();
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.size_bytes += bytes.len() as u64;
        self.worked += from.elapsed();
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The facts; the digest is of nothing where none was taken.
    pub(super) fn finish(self) -> PlainFacts {
        self.meter.worked_at_least(Stage::Digest, self.worked);
        PlainFacts { size_bytes: self.size_bytes, sha256: self.hasher.unwrap_or_default().finish() }
    }
}

/// Digests on a thread of its own what is passed by.
pub(super) struct Tally {
    blocks: SyncSender<Bytes>,
}

/// Gives what a [`Tally`] has counted.
pub(super) struct Counted {
    facts: Receiver<PlainFacts>,
}

/// Starts a tally.
pub(super) fn tally(meter: Arc<Meter>) -> io::Result<(Tally, Counted)> {
    let (blocks, waiting) = sync_channel::<Bytes>(WAITING);
    let (told, facts) = sync_channel(1);
    thread::start("transfer-digest", move || {
        let mut count = Count::new(meter);
        while let Ok(block) = waiting.recv() {
            count.add(&block);
        }
        // Who asked may be gone.
        let _ = told.send(count.finish());
    })?;
    Ok((Tally { blocks }, Counted { facts }))
}

impl Tally {
    pub(super) fn add(&self, block: &Bytes) -> io::Result<()> {
        self.blocks.send(block.clone()).map_err(|_| io::Error::other("the thread that digests is gone"))
    }
}

impl Counted {
    /// Waits until the tally was dropped and everything is counted.
    pub(super) fn wait(self) -> io::Result<PlainFacts> {
        self.facts.recv().map_err(|_| io::Error::other("the thread that digests is gone"))
    }
}
