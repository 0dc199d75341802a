//! Where the time of a journey went: what every stage worked, measured, and so which one bound it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Progress;
use crate::base::units::ByteSize;

/// A stage of a journey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// What gives the plain bytes of an upload.
    Source,
    /// The place the object lies in.
    Store,
    /// What takes the plain bytes of a download.
    Target,
    /// Compression.
    Compress,
    /// Encryption.
    Encrypt,
    /// Decryption.
    Decrypt,
    /// Decompression.
    Decompress,
    /// The SHA-256 of one of the two sides; it cannot be shared among cores.
    Digest,
}

const STAGES: [Stage; 8] = [
    Stage::Source,
    Stage::Store,
    Stage::Target,
    Stage::Compress,
    Stage::Encrypt,
    Stage::Decrypt,
    Stage::Decompress,
    Stage::Digest,
];

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "the source",
            Self::Store => "the store",
            Self::Target => "the target",
            Self::Compress => "compression",
            Self::Encrypt => "encryption",
            Self::Decrypt => "decryption",
            Self::Decompress => "decompression",
            Self::Digest => "the digest",
        })
    }
}

/// The stage that waited least: nothing else can make the journey faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bottleneck {
    /// The stage.
    pub stage: Stage,
    /// Plain bytes per second of the whole journey.
    pub achieved: u64,
    /// Plain bytes per second of this stage while it worked and did not wait for others.
    pub possible: u64,
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (achieved, possible) = (ByteSize(self.achieved), ByteSize(self.possible));
        write!(f, "achieved {achieved}/s of about {possible}/s, bound by {}", self.stage)
    }
}

/// Counts bytes and working time of a journey while it goes on.
#[derive(Debug, Default)]
pub(super) struct Meter {
    plain_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    worked_nanos: [AtomicU64; STAGES.len()],
}

impl Meter {
    /// Adds time in which a stage worked.
    pub(super) fn worked(&self, stage: Stage, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.worked_nanos[stage as usize].fetch_add(nanos, Ordering::Relaxed);
    }

    /// Tells that a stage worked as long as its busiest part did.
    pub(super) fn worked_at_least(&self, stage: Stage, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.worked_nanos[stage as usize].fetch_max(nanos, Ordering::Relaxed);
    }

    pub(super) fn add_plain(&self, bytes: usize) {
        self.plain_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_stored(&self, bytes: usize) {
        self.stored_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How far the journey is.
    pub(super) fn progress(&self, total_bytes: Option<u64>) -> Progress {
        Progress {
            plain_bytes: self.plain_bytes.load(Ordering::Relaxed),
            stored_bytes: self.stored_bytes.load(Ordering::Relaxed),
            total_bytes,
        }
    }

    /// Names the stage that bound a journey of this length.
    pub(super) fn bottleneck(&self, elapsed: Duration) -> Bottleneck {
        let worked = |stage: &Stage| self.worked_nanos[*stage as usize].load(Ordering::Relaxed);
        let stage = STAGES.into_iter().max_by_key(worked).unwrap_or(Stage::Source);
        let plain_bytes = self.plain_bytes.load(Ordering::Relaxed);
        let achieved = rate(plain_bytes, elapsed);
        let possible = rate(plain_bytes, Duration::from_nanos(worked(&stage))).max(achieved);
        Bottleneck { stage, achieved, possible }
    }
}

/// Bytes per second.
fn rate(bytes: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(bytes) * 1_000_000_000 / time.as_nanos().max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_that_worked_most_bound_the_journey() {
        let meter = Meter::default();
        meter.add_plain(300 << 20);
        meter.worked(Stage::Compress, Duration::from_millis(300));
        meter.worked(Stage::Store, Duration::from_millis(600));
        meter.worked(Stage::Store, Duration::from_millis(200));
        let found = meter.bottleneck(Duration::from_secs(1));
        assert_eq!(found, Bottleneck { stage: Stage::Store, achieved: 300 << 20, possible: 375 << 20 });
        assert_eq!(found.to_string(), "achieved 300.0 MiB/s of about 375.0 MiB/s, bound by the store");
    }
}
