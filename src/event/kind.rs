//! The kinds of events.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ErrorInfo;
use super::figure::{Figures, Outcome};
use super::header::RunHeader;
use super::human::{HumanAnswer, OperatorVerb, Question};
use crate::base::{Attempt, Digest, RunId, StepId, Timestamp};

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
    /// A `for_each` or a sub-runbook began: its members are known now, and each is a step of its own.
    GroupOpened {
        /// The step that stands for the group.
        step: StepId,
        /// The instances of a `for_each` in order; empty for a sub-runbook, whose steps stand in the plan.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        instances: Vec<Instance>,
    },
    /// The step was finished in an earlier run and is not made again in this one.
    StepSeeded {
        /// The step.
        step: StepId,
        /// The run in which it ended.
        of: RunId,
        /// How it ended there.
        end: SeededEnd,
        /// Its outputs there.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        output: Value,
    },
    /// The step failed and waits for an operator: retry, skip, mark done or cancel. Written under `on_failure: pause`.
    StepHeld {
        /// The step.
        step: StepId,
        /// The last attempt; 0 when none was made.
        attempt: Attempt,
        /// Why.
        error: ErrorInfo,
        /// How long the attempt took, in milliseconds of the monotonic clock.
        elapsed_ms: u64,
    },
    /// A held step, a due retry or an unanswered attempt is to be tried again, because an operator said so.
    StepReleased {
        /// The step.
        step: StepId,
    },
    /// A person is asked: an `approval` or a `manual` step.
    StepAsked {
        /// The step.
        step: StepId,
        /// What is asked, and of whom.
        question: Box<Question>,
    },
    /// A person answered. The step ends when enough did.
    StepAnswered {
        /// The step.
        step: StepId,
        /// The answer.
        answer: Box<HumanAnswer>,
    },
    /// Nobody answered in time; what follows is the question's `on_timeout`.
    StepExpired {
        /// The step.
        step: StepId,
        /// How long it was open, in milliseconds.
        after_ms: u64,
    },
    /// A lock that the step or the run wants is held by another run, and is being waited for.
    LockAwaited {
        /// The step; absent when the whole run waits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepId>,
        /// The lock.
        lock: String,
        /// The run that holds it.
        holder: String,
    },
    /// A lock was taken.
    LockTaken {
        /// The step; absent when the whole run holds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepId>,
        /// The lock.
        lock: String,
        /// The dead run it was taken over from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        over: Option<String>,
        /// The live run that was told to make room for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        preempted: Option<String>,
        /// How long it was waited for, in milliseconds.
        #[serde(default)]
        waited_ms: u64,
    },
    /// An operator acted on the live run. What follows from it are events of their own.
    OperatorActed {
        /// Names the request, so that one delivered twice acts once.
        request: String,
        /// Who.
        actor: Actor,
        /// What.
        verb: OperatorVerb,
        /// To which step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepId>,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// What an operator asked for is not possible as the run stands. Nothing was changed.
    OperatorRefused {
        /// Names the request.
        request: String,
        /// Who.
        actor: Actor,
        /// What.
        verb: OperatorVerb,
        /// To which step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepId>,
        /// Why not.
        why: String,
    },
    /// The rest of the run follows another plan: `resume --with`.
    PlanAmended {
        /// Who.
        actor: Actor,
        /// SHA-256 of the new plan's file.
        plan: Digest,
        /// The new plan's file in the run's folder.
        file: String,
        /// Steps that are new, gone or decided otherwise.
        changed: Vec<StepId>,
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
        /// Until when it may live; a day when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Actor {
    /// The user's name, or `signal`, `engine`.
    pub name: String,
    /// From where: host name, terminal, signal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
}

impl Actor {
    /// The same with nothing in it that a terminal would obey: names come from environments, options and files.
    #[must_use]
    pub fn as_text(self) -> Self {
        let text = |text: String| text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect();
        Self { name: text(self.name), from: text(self.from) }
    }
}

/// One instance of a `for_each`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Instance {
    /// Its id, `step[key]`.
    pub step: StepId,
    /// Its key, as the file or the list gives it.
    pub key: String,
    /// What `item` is to it.
    pub item: Value,
}

/// How a seeded step ended in the run it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeededEnd {
    /// It succeeded.
    Succeeded,
    /// It failed, and may have done something.
    Failed,
    /// It is not known whether it took effect.
    Unknown,
    /// It was cancelled, and may have done something.
    Cancelled,
    /// It did nothing.
    Skipped,
}

/// One line of what a check found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StepFinding {
    /// How it bears on the step.
    pub verdict: Verdict,
    /// The fact.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// How long the step, or those that take its outputs, must wait at the longest before anything can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// How a finding bears on the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
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
    /// An operator left it out.
    ByHand,
    /// The step it reverses did nothing, or is not to be reversed.
    NothingToUndo,
    /// The undo of a later step failed, so the world is not as this one expects it.
    UndoStopped,
    /// The sub-runbook it belongs to does not run.
    Group,
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
