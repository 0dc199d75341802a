//! The kinds of events.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ErrorInfo;
use crate::base::{Attempt, Digest, StepId, Timestamp};

/// What happened. Everything that changes the state of a run is one of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// The run exists. Always the first event.
    RunStarted(Box<RunHeader>),
    /// Another engine process took the run over.
    RunResumed {
        /// Who did it.
        actor: Actor,
        /// The process of the new engine.
        pid: u32,
        /// The program's version.
        version: String,
    },
    /// The journal ended in a torn line, which was cut; nothing durable was lost.
    TailCut {
        /// Number of bytes that were cut.
        bytes: u64,
    },
    /// The step's values were evaluated, once for all attempts. Secrets stand as references.
    StepResolved {
        /// The step.
        step: StepId,
        /// The rendered arguments, secret references as tokens.
        with: Value,
        /// Names of the secrets that the arguments refer to.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<String>,
        /// Rendered preconditions: each a bool or `{ uses, with }`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        preconditions: Vec<Value>,
    },
    /// The step's own check found nothing against it.
    StepChecked {
        /// The step.
        step: StepId,
        /// What the check found out, for people.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        findings: Vec<StepFinding>,
    },
    /// An attempt is about to act. Durable before the effect.
    AttemptStarted {
        /// The step.
        step: StepId,
        /// Its number.
        attempt: Attempt,
        /// The same for every attempt of this step in this run: the idempotency key.
        key: String,
    },
    /// An attempt failed and another one will follow.
    AttemptFailed {
        /// The step.
        step: StepId,
        /// Its number.
        attempt: Attempt,
        /// Why.
        error: ErrorInfo,
        /// How long the attempt took, in milliseconds of the monotonic clock.
        elapsed_ms: u64,
        /// How long to wait before the next one, in milliseconds.
        retry_in_ms: u64,
    },
    /// An attempt that an engine left running was found and is being waited for again.
    AttemptAdopted {
        /// The step.
        step: StepId,
        /// Its number.
        attempt: Attempt,
    },
    /// An interrupted attempt was judged by the action's `recover`, a probe, or a person.
    AttemptRecovered {
        /// The step.
        step: StepId,
        /// Its number.
        attempt: Attempt,
        /// What follows.
        decision: RecoverDecision,
        /// Why, for people.
        why: String,
    },
    /// The step did what it is for.
    StepSucceeded {
        /// The step.
        step: StepId,
        /// The attempt that did it; 0 when a person marked it done.
        attempt: Attempt,
        /// Its outputs.
        output: Value,
        /// How long the attempt took, in milliseconds of the monotonic clock.
        elapsed_ms: u64,
    },
    /// The step failed for good.
    StepFailed {
        /// The step.
        step: StepId,
        /// The last attempt; 0 when none was made.
        attempt: Attempt,
        /// Why.
        error: ErrorInfo,
        /// How long the attempt took, in milliseconds of the monotonic clock.
        elapsed_ms: u64,
    },
    /// It is not known whether the step's effect happened.
    StepUnknown {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: Attempt,
        /// Why.
        error: ErrorInfo,
    },
    /// The step will not run.
    StepSkipped {
        /// The step.
        step: StepId,
        /// Why.
        why: SkipReason,
    },
    /// The step was ended by a cancel.
    StepCancelled {
        /// The step.
        step: StepId,
        /// The attempt that was running; 0 when none was.
        attempt: Attempt,
        /// Whether every process of the step is known to be gone.
        confirmed: bool,
    },
    /// A write or destroy step reported no progress for as long as its `stall` says. It runs on.
    StepStalled {
        /// The step.
        step: StepId,
        /// The silence, in milliseconds.
        silent_ms: u64,
    },
    /// A fact worth keeping that an action reported: where old data was moved, what was rescued.
    StepNoted {
        /// The step.
        step: StepId,
        /// The fact.
        message: String,
        /// Structured details.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        data: Value,
    },
    /// Something the run creates and has to remove at its end, registered before it is created.
    ResourceRegistered {
        /// The step.
        step: StepId,
        /// A key that names it within the run.
        resource: String,
        /// What the remover needs.
        data: Value,
    },
    /// A registered resource is gone.
    ResourceRemoved {
        /// Its key.
        resource: String,
    },
    /// A share of the RTO is used up.
    ObjectiveWarning {
        /// 50, 80 or 100.
        percent: u32,
        /// Time since the incident, in milliseconds.
        elapsed_ms: u64,
    },
    /// Somebody or something wants the run to end.
    CancelRequested {
        /// Who.
        actor: Actor,
        /// How hard.
        level: CancelLevel,
        /// Why.
        reason: String,
    },
    /// The run needs a person and nobody is there. Not an end.
    RunSuspended {
        /// Each step that waits, and why.
        waiting: Vec<SuspendReason>,
    },
    /// The run is over. Always the last event.
    RunFinished {
        /// How it ended.
        outcome: Outcome,
        /// The code the process ends with.
        exit_code: u8,
        /// The figures measured.
        figures: Box<Figures>,
    },
    /// Written by a newer version; kept in the chain, without effect here.
    #[serde(other)]
    Unknown,
}

/// Who or what did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The user's name, or `signal`, `engine`.
    pub name: String,
    /// From where: host name, terminal, signal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
}

/// What is known when a run starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunHeader {
    /// The format of this journal.
    pub format: u32,
    /// The runbook's name.
    pub name: String,
    /// `real`, `drill` or `dry_run`.
    pub mode: crate::base::mode::Mode,
    /// The environment's name.
    pub environment: String,
    /// Who started it.
    pub actor: Actor,
    /// The engine's process.
    pub pid: u32,
    /// The host it runs on.
    pub host: String,
    /// The program's version.
    pub version: String,
    /// SHA-256 of `plan.json`.
    pub plan: Digest,
    /// When service was lost; absent when the runbook does not declare it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident_at: Option<Timestamp>,
}

/// One line of what a check found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFinding {
    /// How it bears on the step.
    pub verdict: Verdict,
    /// The fact.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// How a finding bears on the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// In order.
    Pass,
    /// Could not be judged yet, because it depends on a late value or an earlier step.
    Pending,
    /// Worth a look; does not stop the step.
    Warn,
    /// The step is refused.
    Refuse,
}

/// What happens to an interrupted attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RecoverDecision {
    /// A new attempt is made.
    Rerun,
    /// The effect happened; these are its outputs.
    Adopt {
        /// The outputs.
        output: Value,
    },
    /// A person has to say.
    Ask,
}

/// Why a step does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SkipReason {
    /// `when` was false.
    When,
    /// A step it needs did not succeed.
    Need {
        /// That step.
        step: StepId,
    },
    /// The run is ending: an earlier step failed.
    Aborted,
    /// The run is being cancelled.
    Cancelled,
}

/// How hard a cancel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelLevel {
    /// Running steps are told to end and get their grace; `finally` runs.
    Graceful,
    /// Running steps are killed at once; `finally` runs.
    Now,
}

/// Why a suspended run waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspendReason {
    /// The step.
    pub step: StepId,
    /// What is to be answered.
    pub question: String,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every required step succeeded.
    Succeeded,
    /// It succeeded, and a step was skipped by a need, marked done by hand, or failed where that is tolerated.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExceptionKind {
    /// A step was skipped because a need was not met.
    Skipped,
    /// A person marked a step done.
    MarkedDone,
    /// A step failed under `on_failure: continue`.
    Tolerated,
    /// A step of `finally` failed.
    Finally,
    /// Something that a step created for the run could not be removed.
    LeftBehind,
}

/// Which objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveKind {
    /// Recovery time.
    Rto,
    /// Recovery point.
    Rpo,
}

/// The figures of a finished run. Durations in milliseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
    /// Time spent in attempts that counted.
    pub machine_ms: u64,
    /// Time spent in failed attempts and the delays after them.
    pub retry_ms: u64,
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

/// The measured loss of data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossVerdict {
    /// At most this much unwanted loss, in milliseconds of commits; 0 = none.
    pub unwanted_ms: u64,
    /// Loss chosen by a target before the incident, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_ms: Option<u64>,
    /// Whether the recovered end is at or past the last flushed position that is known.
    pub coverage: Coverage,
    /// Which step measured it.
    pub step: StepId,
}

/// What the loss figure rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// Recovered to or past the last flushed LSN that is known: nothing was lost.
    ToLastFlushed,
    /// The newest recovered commit bounds the loss.
    NewestCommit,
}

/// A phase's measured time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseFigure {
    /// The phase's id.
    pub phase: String,
    /// From its first step's start to its last step's end.
    pub elapsed_ms: u64,
    /// Its budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_ms: Option<u64>,
}
