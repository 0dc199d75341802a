//! The folded state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::Acts;
use crate::base::clock::after;
use crate::base::{Attempt, Digest, EventSeq, RunId, StepId, Timestamp};
use crate::event::{
    Actor, CancelLevel, ErrorInfo, Event, EventKind, Figures, HumanAnswer, Instance, OperatorVerb, Outcome, Question,
    RunHeader, SeededEnd, SkipReason, StepFinding, SuspendReason,
};

/// Everything known of a run, from its events alone.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RunState {
    /// What was known at the start; `None` before the first event.
    pub header: Option<RunHeader>,
    /// When the first event was written.
    pub started_at: Option<Timestamp>,
    /// Steps that something happened to; absent = pending.
    pub steps: BTreeMap<StepId, StepState>,
    /// The hardest cancel asked for, with who and why.
    pub cancel: Option<(CancelLevel, Actor, String)>,
    /// Whether the run waits for a person.
    pub suspended: Vec<SuspendReason>,
    /// Registered resources not yet removed, by their keys.
    pub resources: BTreeMap<String, Resource>,
    /// RTO warnings given, in percent.
    pub warned_percent: u32,
    /// How often another engine took over.
    pub resumes: u32,
    /// Who paused the run, and why.
    pub paused: Option<(Actor, String)>,
    /// When it was paused, and until when.
    pub pauses: Vec<Stretch>,
    /// Requests of operators that were taken, so that none acts twice.
    pub requests: BTreeSet<String>,
    /// What operators asked of steps and is still to be carried out.
    pub orders: BTreeMap<StepId, OperatorVerb>,
    /// What people and other runs did to it.
    pub acts: Acts,
    /// Waits of the whole run for locks.
    pub lock_waits: Vec<Stretch>,
    /// The end, once there is one.
    pub finished: Option<(Outcome, u8, Figures)>,
    /// When the last event was written.
    pub last_at: Option<Timestamp>,
    /// The last event's number.
    pub last_seq: EventSeq,
    /// The last event's hash.
    pub last_hash: Option<Digest>,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Nothing happened yet.
    #[default]
    Pending,
    /// Its values are known.
    Resolved,
    /// Its check passed.
    Checked,
    /// An attempt runs, or ran when the engine died.
    Running,
    /// Waits for the next attempt.
    Waiting,
    /// Stands for members that are under way: a `for_each` or a sub-runbook.
    Open,
    /// A person is asked.
    Asking,
    /// It failed, and an operator says what follows.
    Held,
    /// Did what it is for.
    Succeeded,
    /// Failed for good.
    Failed,
    /// Will not run.
    Skipped,
    /// Ended by a cancel.
    Cancelled,
    /// It is not known whether its effect happened.
    Unknown,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepEnd {
    /// Did what it is for.
    Succeeded,
    /// Failed for good.
    Failed,
    /// Did not run.
    Skipped,
    /// Ended by a cancel.
    Cancelled,
    /// It is not known whether its effect happened.
    Unknown,
}

impl StepStatus {
    /// Tells, in this one place, whether nothing more happens to the step.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self.end().is_some()
    }

    /// Tells how the step ended; `None` while something more happens to it.
    #[must_use]
    pub fn end(self) -> Option<StepEnd> {
        match self {
            Self::Pending
            | Self::Resolved
            | Self::Checked
            | Self::Running
            | Self::Waiting
            | Self::Open
            | Self::Asking
            | Self::Held => None,
            Self::Succeeded => Some(StepEnd::Succeeded),
            Self::Failed => Some(StepEnd::Failed),
            Self::Skipped => Some(StepEnd::Skipped),
            Self::Cancelled => Some(StepEnd::Cancelled),
            Self::Unknown => Some(StepEnd::Unknown),
        }
    }
}

/// Something a run created and has not removed yet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resource {
    /// The step that registered it.
    pub step: StepId,
    /// What its remover needs.
    pub data: Value,
    /// The event that registered it last.
    pub registered_seq: EventSeq,
    /// When that was.
    pub registered_at: Timestamp,
    /// Until when it may live.
    pub expires_at: Timestamp,
}

impl Resource {
    /// How long what says nothing else may live.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);

    /// What a registration makes known.
    #[must_use]
    pub fn registered(event: &Event) -> Option<(&str, Self)> {
        let EventKind::ResourceRegistered { step, resource, data, expires_at } = &event.kind else { return None };
        let known = Self {
            step: step.clone(),
            data: data.clone(),
            registered_seq: event.seq,
            registered_at: event.at,
            expires_at: expires_at.unwrap_or(after(event.at, Self::DEFAULT_TTL)),
        };
        Some((resource, known))
    }

    /// What people call it: the name its author gave, or its key.
    #[must_use]
    pub fn name<'a>(&'a self, key: &'a str) -> &'a str {
        self.data.get("name").and_then(Value::as_str).unwrap_or(key)
    }
}

/// Everything known of a step.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct StepState {
    /// Where it stands.
    pub status: StepStatus,
    /// Its rendered arguments, secrets as tokens.
    pub with: Option<Value>,
    /// The secrets they refer to.
    pub secrets: Vec<String>,
    /// Its rendered preconditions.
    pub preconditions: Vec<Value>,
    /// What its check found out.
    pub findings: Vec<StepFinding>,
    /// Its attempts in order.
    pub attempts: Vec<AttemptState>,
    /// When the next attempt may start.
    pub retry_at: Option<Timestamp>,
    /// Its outputs.
    pub output: Option<Value>,
    /// Why it failed.
    pub error: Option<ErrorInfo>,
    /// Why it was skipped.
    pub skipped: Option<SkipReason>,
    /// Facts worth keeping, in order.
    pub notes: Vec<(Timestamp, String, Value)>,
    /// When something first happened to it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Whether a person marked it done.
    pub marked_done: bool,
    /// Whether a person has to say what became of an interrupted attempt.
    pub asks: Option<String>,
    /// Whether the running attempt lost its engine and has to be judged.
    pub interrupted: bool,
    /// The instances of a `for_each`, in order.
    pub instances: Vec<Instance>,
    /// What a person is asked.
    pub question: Option<Question>,
    /// When it was asked.
    pub asked_at: Option<Timestamp>,
    /// The answers in order.
    pub answers: Vec<(Timestamp, HumanAnswer)>,
    /// Whether nobody answered in time.
    pub expired: bool,
    /// What became of reversing it.
    pub undo: Option<UndoState>,
    /// The run in which it ended, when it was not made in this one.
    pub seeded_from: Option<RunId>,
    /// How it ended there.
    pub seeded_end: Option<SeededEnd>,
    /// Time it waited for locks, in milliseconds.
    pub lock_ms: u64,
    /// Its waits for locks.
    pub lock_waits: Vec<Stretch>,
    /// When it waited for a person, and until when.
    pub person_waits: Vec<Stretch>,
    /// Attempts up to this one do not count for its retries: an operator released it after them.
    pub released_after: Attempt,
    /// The number of the event that ended it: the order of completion.
    pub ended_seq: EventSeq,
}

/// A stretch of time; without an end while it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Stretch {
    /// Its begin.
    pub from: Timestamp,
    /// Its end.
    pub until: Option<Timestamp>,
}

/// What became of reversing a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UndoState {
    /// It was reversed.
    Undone,
    /// It could not be reversed, or it is not known whether it was.
    UndoFailed,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct AttemptState {
    /// Its number.
    pub number: Attempt,
    /// Its idempotency key.
    pub key: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How long it took by the monotonic clock.
    pub elapsed_ms: Option<u64>,
    /// Why it failed.
    pub error: Option<ErrorInfo>,
    /// Whether it was adopted by a later engine.
    pub adopted: bool,
}
