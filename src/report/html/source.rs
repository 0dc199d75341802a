//! What the report takes beside plan and state.

use crate::base::{Attempt, Digest, StepId};

/// Gives the kept output of attempts.
pub trait LogSource {
    /// Gives the end of what an attempt wrote, already redacted; `None` when nothing was kept.
    fn tail(&self, step: &StepId, attempt: Attempt) -> Option<LogTail>;
}

/// The end of an attempt's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTail {
    /// The text.
    pub text: String,
    /// How many bytes before it are not shown.
    pub omitted_bytes: u64,
}

/// No output was kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLogs;

impl LogSource for NoLogs {
    fn tail(&self, _: &StepId, _: Attempt) -> Option<LogTail> {
        None
    }
}

/// The end of the audit chain when the report was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHead {
    /// How many events the journal has.
    pub events: u64,
    /// The hash of the last one.
    pub last_hash: Option<Digest>,
    /// The digest of `plan.json`, where the chain begins.
    pub plan: Option<Digest>,
}
