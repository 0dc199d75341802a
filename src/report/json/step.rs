//! One step in the document.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::action::Effects;
use crate::base::{RunId, StepId, Timestamp};
use crate::event::{ErrorInfo, HumanAnswer, Question, SeededEnd, SkipReason, StepFinding};
use crate::plan::{Section, StepKind};
use crate::report::roster::{Counts, Entry};
use crate::state::{AttemptState, StepState, StepStatus, UndoState};

/// A step, or an instance of one that fans out.
#[derive(Serialize, JsonSchema)]
pub(super) struct StepReport {
    /// Its id: `parent/child` in a sub-runbook, `step[key]` an instance, `step.undo` what reverses it.
    id: StepId,
    /// What people call it.
    name: String,
    /// The group it is a member of.
    group: Option<StepId>,
    /// The key of an instance.
    key: Option<String>,
    /// What makes it.
    kind: StepKind,
    /// The part of the runbook it belongs to.
    section: Section,
    /// Its phase.
    phase: Option<String>,
    /// The action.
    uses: String,
    /// What it may do.
    effects: Effects,
    /// Where it stands.
    status: StepStatus,
    /// What its members came to, where it stands for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Counts>,
    /// When something first happened to it.
    started_at: Option<Timestamp>,
    /// When it ended.
    ended_at: Option<Timestamp>,
    /// When the next attempt may start.
    retry_at: Option<Timestamp>,
    /// Its rendered arguments.
    with: Option<Value>,
    /// The secrets they refer to.
    secrets: Vec<String>,
    /// What its check found out.
    findings: Vec<StepFinding>,
    /// Its attempts in order.
    attempts: Vec<AttemptState>,
    /// Its outputs.
    output: Option<Value>,
    /// Why it failed.
    error: Option<ErrorInfo>,
    /// Why it was skipped.
    skipped: Option<SkipReason>,
    /// Facts worth keeping, in order.
    notes: Vec<NoteReport>,
    /// Whether a person marked it done.
    marked_done: bool,
    /// Whether a person has to say what became of an interrupted attempt, and what is asked.
    asks: Option<String>,
    /// What a person is or was asked.
    question: Option<QuestionReport>,
    /// The answers in order.
    answers: Vec<AnswerReport>,
    /// Whether nobody answered in time.
    expired: bool,
    /// What became of reversing it.
    undo: Option<UndoState>,
    /// The run in which it ended, when it was not made in this one.
    seeded_from: Option<RunId>,
    /// How it ended there.
    seeded_end: Option<SeededEnd>,
    /// Time it waited for locks.
    lock_ms: u64,
}

/// A fact worth keeping.
#[derive(Serialize, JsonSchema)]
struct NoteReport {
    /// When.
    at: Timestamp,
    /// The fact.
    message: String,
    /// Details.
    data: Value,
}

/// What a person is asked.
#[derive(Serialize, JsonSchema)]
struct QuestionReport {
    /// When.
    asked_at: Option<Timestamp>,
    /// SHA-256 of the question: what an answer says it has seen.
    digest: crate::base::Digest,
    /// The question.
    #[serde(flatten)]
    question: Question,
}

/// What a person answered.
#[derive(Serialize, JsonSchema)]
struct AnswerReport {
    /// When.
    at: Timestamp,
    /// The answer.
    #[serde(flatten)]
    answer: HumanAnswer,
}

/// Describes an entry.
pub(super) fn step(entry: &Entry<'_>) -> StepReport {
    let planned = entry.planned;
    let known = entry.known.cloned().unwrap_or_default();
    let StepState { asked_at, .. } = known;
    StepReport {
        id: entry.id.clone().into_owned(),
        name: entry.name(),
        group: entry.group.clone(),
        key: entry.key.map(str::to_owned),
        kind: planned.kind,
        section: planned.section,
        phase: planned.phase.clone(),
        uses: planned.uses.clone(),
        effects: planned.effects.clone(),
        status: known.status,
        members: entry.is_group().then_some(entry.members),
        started_at: known.started_at,
        ended_at: known.ended_at,
        retry_at: known.retry_at,
        with: known.with,
        secrets: known.secrets,
        findings: known.findings,
        attempts: known.attempts,
        output: known.output,
        error: known.error,
        skipped: known.skipped,
        notes: known.notes.into_iter().map(|(at, message, data)| NoteReport { at, message, data }).collect(),
        marked_done: known.marked_done,
        asks: known.asks,
        question: known.question.map(|question| QuestionReport { asked_at, digest: question.digest(), question }),
        answers: known.answers.into_iter().map(|(at, answer)| AnswerReport { at, answer }).collect(),
        expired: known.expired,
        undo: known.undo,
        seeded_from: known.seeded_from,
        seeded_end: known.seeded_end,
        lock_ms: known.lock_ms,
    }
}
