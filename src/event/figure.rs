//! How a run ended, and what was measured.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::StepId;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every required step succeeded.
    Succeeded,
    /// It succeeded, and a step was skipped by a need, marked done by hand, or failed where that is tolerated;
    /// or a copy of a backup was found damaged on the way, or a store did not get its copy of one.
    SucceededWithExceptions,
    /// A required step failed.
    Failed,
    /// A required step's effect is unknown.
    FailedUnknown,
    /// It was cancelled.
    Cancelled,
    /// A drill missed its RTO or RPO.
    ObjectiveMissed,
    /// A drill measured no RPO.
    Inconclusive,
}

/// What made a success one with exceptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExceptionKind {
    /// A step was skipped because a need was not met.
    Skipped,
    /// A person marked a step done.
    MarkedDone,
    /// A person left a step out.
    LeftOut,
    /// One person alone approved for all.
    BrokeGlass,
    /// Nobody approved in time, and the run went on.
    Unapproved,
    /// A step failed under `on_failure: continue`.
    Tolerated,
    /// A step of `finally` failed.
    Finally,
    /// Something that a step created for the run could not be removed.
    LeftBehind,
    /// A step found a store's copy of a backup damaged, and succeeded by another one.
    DamagedCopy,
    /// A step brought a backup into enough stores, and one of those it was meant for lacks it.
    LackingCopy,
}

/// Which objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveKind {
    /// Recovery time.
    Rto,
    /// Recovery point.
    Rpo,
}

/// The figures of a finished run. Durations in milliseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Figures {
    /// From the start of the run to its end.
    pub run_ms: u64,
    /// From the incident to the end of the last required body step; absent without `incident_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_ms: Option<u64>,
    /// The objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_target_ms: Option<u64>,
    /// Unwanted loss, as a bound; absent when nothing measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo: Option<LossVerdict>,
    /// The objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_target_ms: Option<u64>,
    /// Time spent in attempts that counted, and in the only one of a step that failed.
    pub machine_ms: u64,
    /// Time spent in failed attempts of steps that were tried again, and in the delays after them.
    pub retry_ms: u64,
    /// Time spent waiting for locks.
    #[serde(default)]
    pub lock_ms: u64,
    /// Time spent waiting for people.
    #[serde(default)]
    pub human_ms: u64,
    /// Time nothing ran: before the start, and between steps.
    pub waiting_ms: u64,
    /// The chain of steps that decided the duration, in order.
    #[serde(default)]
    pub critical_path: Vec<StepId>,
    /// Each phase that had a step.
    #[serde(default)]
    pub phases: Vec<PhaseFigure>,
    /// What makes a success one with exceptions, by step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<(StepId, ExceptionKind)>,
}

impl Figures {
    /// Holds what was measured against the objectives.
    #[must_use]
    pub fn verdict(&self) -> Verdicts {
        Verdicts {
            rto: ObjectiveVerdict::of(self.rto_ms, self.rto_target_ms),
            rpo: ObjectiveVerdict::of(self.rpo.as_ref().map(|loss| loss.unwanted_ms), self.rpo_target_ms),
        }
    }
}

/// What became of the objectives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Verdicts {
    /// Recovery time.
    pub rto: ObjectiveVerdict,
    /// Recovery point.
    pub rpo: ObjectiveVerdict,
}

/// What became of one objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveVerdict {
    /// What was measured is within it.
    Met,
    /// What was measured exceeds it.
    Missed,
    /// There is an objective, and nothing measured it.
    NotMeasured,
    /// There is none.
    NoObjective,
}

impl ObjectiveVerdict {
    fn of(measured_ms: Option<u64>, target_ms: Option<u64>) -> Self {
        match (measured_ms, target_ms) {
            (_, None) => Self::NoObjective,
            (None, Some(_)) => Self::NotMeasured,
            (Some(measured), Some(target)) if measured > target => Self::Missed,
            (Some(_), Some(_)) => Self::Met,
        }
    }
}

/// The measured loss of data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LossVerdict {
    /// At most this much unwanted loss, in milliseconds of commits; 0 = none.
    pub unwanted_ms: u64,
    /// Loss chosen by a target before the incident, in milliseconds; 0 of a target at the incident or after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_ms: Option<u64>,
    /// Whether the recovered end is at or past the last flushed position that is known.
    pub coverage: Coverage,
    /// Which step measured it.
    pub step: StepId,
    /// Whether it is that of a copy beside the live database, which went on: its target gives nothing up there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beside: bool,
}

/// What the loss figure rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// Recovered to or past the last flushed LSN that is known: nothing was lost.
    ToLastFlushed,
    /// The newest recovered commit bounds the loss.
    NewestCommit,
    /// Two servers wrote at once: the first commit of the one that does not come back bounds the loss.
    WrittenBeside,
}

/// A phase's measured time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PhaseFigure {
    /// The phase's id.
    pub phase: String,
    /// From its first step's start to its last step's end.
    pub elapsed_ms: u64,
    /// Its budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_ms: Option<u64>,
}
