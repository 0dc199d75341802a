//! What happened in a run: the one vocabulary of journal, reporters, resume and audit.

mod error;
mod figure;
mod header;
mod human;
mod kind;
mod progress;

pub use error::{ErrorClass, ErrorInfo};
pub use figure::{
    Coverage, ExceptionKind, Figures, LossVerdict, ObjectiveKind, ObjectiveVerdict, Outcome, PhaseFigure, Verdicts,
};
pub use header::{OriginPurpose, RunHeader, RunOrigin};
pub use human::{HumanAnswer, HumanVerdict, Initiator, OnTimeout, OperatorVerb, Question, QuestionKind};
pub use kind::{
    Actor, CancelLevel, EventKind, Instance, RecoverDecision, SeededEnd, SkipReason, StepFinding, SuspendReason,
    Verdict,
};
pub use progress::{Progress, ProgressUpdate};

use serde::{Deserialize, Serialize};

use crate::base::{Digest, EventSeq, RunId, Timestamp};

/// The version of the journal's format.
pub const FORMAT: u32 = 1;

/// One line of the journal.
///
/// Written as one JSON object whose last member is `hash`: the SHA-256 of the line without
/// `,"hash":"…"`. `prev` is the hash of the line before, for the first line the digest of `plan.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Gapless, from 1.
    pub seq: EventSeq,
    /// Wall clock; never goes back inside a run and never orders anything.
    pub at: Timestamp,
    /// The run.
    pub run: RunId,
    /// The hash of the line before.
    pub prev: Digest,
    /// What happened.
    pub kind: EventKind,
    /// The hash of this line without this member.
    pub hash: Digest,
}
