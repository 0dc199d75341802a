//! What is under way right now: one entry per step that has a task.

use super::capability::Leash;
use super::execute::AttemptEnd;
use super::recover::Judgement;
use super::reporting::Pulse;
use crate::action::ActionError;
use crate::base::Attempt;
use crate::event::{CancelLevel, StepFinding};

/// What a task is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Check,
    Attempt(Attempt),
    Recover(Attempt),
}

/// What a task came to.
#[derive(Debug)]
pub(super) enum Landed {
    Checked(Result<Vec<StepFinding>, ActionError>),
    Attempted(AttemptEnd),
    Judged(Judgement),
    Removed { resource: String, result: Result<(), ActionError> },
}

/// A step's task in flight.
pub(super) struct Flight {
    pub(super) work: Work,
    pub(super) leash: Leash,
    pub(super) pulse: Pulse,
    /// The hardest cancel it was told.
    pub(super) told: Option<CancelLevel>,
    /// The last sign of life for whose silence an alarm was given.
    alarmed_at_ms: Option<u64>,
}

impl Flight {
    pub(super) fn new(work: Work, leash: Leash, pulse: Pulse) -> Self {
        Self { work, leash, pulse, told: None, alarmed_at_ms: None }
    }

    /// Tells an attempt to end, once per level.
    pub(super) fn tell(&mut self, level: CancelLevel) {
        if self.told.is_none_or(|told| told < level) {
            self.told = Some(level);
            self.leash.pull(level);
        }
    }

    /// The silence to alarm of: at least `limit_ms`, once for each silence.
    pub(super) fn stalled(&mut self, limit_ms: u64) -> Option<u64> {
        let (last_ms, silent_ms) = self.pulse.silence();
        if !matches!(self.work, Work::Attempt(_)) || silent_ms < limit_ms || self.alarmed_at_ms == Some(last_ms) {
            return None;
        }
        self.alarmed_at_ms = Some(last_ms);
        Some(silent_ms)
    }
}
