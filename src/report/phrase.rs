//! The words that all faces share.

use std::time::Duration;

use serde_json::Value;

use super::Tone;
use crate::base::clock::between;
use crate::base::mode::Mode;
use crate::base::secret::{TOKEN_CLOSE, TOKEN_OPEN};
use crate::base::units::{Span, human_duration};
use crate::base::{RunId, Timestamp};
use crate::event::{
    Coverage, ErrorInfo, ExceptionKind, Figures, HumanAnswer, HumanVerdict, LossVerdict, OperatorVerb, OriginPurpose,
    Outcome, SeededEnd, SkipReason,
};
use crate::language::runbook::OnFailure;
use crate::plan::render::NodeState;
use crate::plan::{BoundPlan, PlannedStep, Section};
use crate::state::{LockWait, RunState, StepState, StepStatus, UndoState, objectives};

/// Replaces references to secrets by `***name***` and control characters by a visible sign.
#[must_use]
pub fn mask_text(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            TOKEN_OPEN | TOKEN_CLOSE => masked.push_str("***"),
            '\n' | '\t' => masked.push(c),
            c if c.is_control() => masked.push('\u{FFFD}'),
            c => masked.push(c),
        }
    }
    masked
}

/// Does the same in every text of a value, keys included.
#[must_use]
pub fn mask_value(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(mask_text(text)),
        Value::Array(items) => Value::Array(items.iter().map(mask_value).collect()),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(key, value)| (mask_text(key), mask_value(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Masks a text and keeps it on one line.
pub(super) fn one_line(text: &str) -> String {
    mask_text(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) fn millis(ms: u64) -> String {
    human_duration(Duration::from_millis(ms))
}

/// Writes a length that somebody chose, exactly: `4h`, `1h30m`.
pub(super) fn chosen(ms: u64) -> String {
    Span(Duration::from_millis(ms)).to_string()
}

/// Writes a time since the start: `+01:05.0`, `+1:01:05`.
pub(super) fn offset(start: Timestamp, at: Timestamp) -> String {
    let passed = between(start, at);
    let seconds = passed.as_secs();
    if seconds >= 3600 {
        return format!("+{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    }
    format!("+{:02}:{:02}.{}", seconds / 60, seconds % 60, passed.subsec_millis() / 100)
}

pub(super) fn node_state(status: StepStatus) -> NodeState {
    match status {
        StepStatus::Pending | StepStatus::Resolved | StepStatus::Checked => NodeState::Pending,
        StepStatus::Running | StepStatus::Waiting | StepStatus::Open => NodeState::Running,
        StepStatus::Asking | StepStatus::Held => NodeState::Asking,
        StepStatus::Succeeded => NodeState::Succeeded,
        StepStatus::Failed => NodeState::Failed,
        StepStatus::Skipped => NodeState::Skipped,
        StepStatus::Cancelled => NodeState::Cancelled,
        StepStatus::Unknown => NodeState::Unknown,
    }
}

pub(super) fn tone(state: NodeState) -> Tone {
    match state {
        NodeState::Pending | NodeState::Skipped => Tone::Quiet,
        NodeState::Running => Tone::Active,
        NodeState::Asking => Tone::Warn,
        NodeState::Succeeded => Tone::Good,
        NodeState::Failed => Tone::Bad,
        NodeState::Cancelled | NodeState::Unknown => Tone::Warn,
    }
}

pub(super) fn skip_reason(why: &SkipReason) -> String {
    match why {
        SkipReason::When => "its condition was false".to_owned(),
        SkipReason::Need { step } => format!("`{step}`, which it needs, did not succeed"),
        SkipReason::Aborted => "the run was ending after a failure".to_owned(),
        SkipReason::Cancelled => "the run was being cancelled".to_owned(),
        SkipReason::ByHand => "an operator left it out".to_owned(),
        SkipReason::NothingToUndo => "there is nothing to undo".to_owned(),
        SkipReason::UndoStopped => "the undo of a later step failed".to_owned(),
        SkipReason::Group => "its sub-runbook does not run".to_owned(),
    }
}

/// How a step ended in the run it is taken from.
pub(super) fn seeded(end: SeededEnd) -> (NodeState, &'static str) {
    match end {
        SeededEnd::Succeeded => (NodeState::Succeeded, "succeeded"),
        SeededEnd::Failed => (NodeState::Failed, "failed"),
        SeededEnd::Unknown => (NodeState::Unknown, "ended unknown"),
        SeededEnd::Cancelled => (NodeState::Cancelled, "was cancelled"),
        SeededEnd::Skipped => (NodeState::Skipped, "did nothing"),
    }
}

/// What became of reversing a step.
pub(super) fn undo(undo: UndoState) -> &'static str {
    match undo {
        UndoState::Undone => "undone",
        UndoState::UndoFailed => "could not be undone, or it is not known whether it was",
    }
}

/// Whether a report leaves a step out: the undo of what was not undone.
pub(super) fn is_idle_undo(step: &PlannedStep, state: &RunState) -> bool {
    let known = state.steps.get(&step.id);
    let idle = known.is_none_or(|known| known.skipped == Some(SkipReason::NothingToUndo));
    step.section == Section::Undo && idle
}

/// What a person answered: `approved by dora: looks right`.
pub(super) fn answer(answer: &HumanAnswer) -> String {
    let verdict = match answer.verdict {
        HumanVerdict::Yes => "answered yes",
        HumanVerdict::No => "answered no",
    };
    let said = if answer.comment.is_empty() { String::new() } else { format!(": {}", one_line(&answer.comment)) };
    let alone = answer.break_glass.as_ref().map(|reason| format!(" (BROKE THE GLASS: {})", one_line(reason)));
    format!("{verdict} by {}{said}{}", one_line(&answer.by.name), alone.unwrap_or_default())
}

/// Which lock is waited for, and who has it.
pub(super) fn awaited(wait: &LockWait) -> String {
    let step = wait.step.as_ref().map_or_else(|| "the run".to_owned(), |step| format!("`{step}`"));
    format!("{step} waits for `{}`, held by run `{}`", wait.lock, wait.holder)
}

/// What an operator types.
#[must_use]
pub fn verb(verb: &OperatorVerb) -> &'static str {
    match verb {
        OperatorVerb::Pause => "pause",
        OperatorVerb::Continue => "continue",
        OperatorVerb::Retry => "retry",
        OperatorVerb::Skip => "skip",
        OperatorVerb::MarkDone { .. } => "mark-done",
        OperatorVerb::Answer => "answer",
        OperatorVerb::Cancel => "cancel",
    }
}

pub(super) fn exception(kind: ExceptionKind) -> &'static str {
    match kind {
        ExceptionKind::Skipped => "skipped, because a step it needs did not succeed",
        ExceptionKind::MarkedDone => "marked done by a person, not done by the run",
        ExceptionKind::LeftOut => "left out by a person",
        ExceptionKind::BrokeGlass => "approved by one person alone, who broke the glass",
        ExceptionKind::Unapproved => "not approved in time, and the run went on",
        ExceptionKind::Tolerated => "did not succeed, which is tolerated here",
        ExceptionKind::Finally => "of `finally` did not succeed",
        ExceptionKind::LeftBehind => "created something for the run that could not be removed",
        ExceptionKind::DamagedCopy => "met a damaged copy of a backup and went on with another",
        ExceptionKind::LackingCopy => "did not bring the backup into every store",
    }
}

pub(super) fn mode(plan: &BoundPlan) -> String {
    let mode = match plan.mode {
        Mode::Real => "real run",
        Mode::Drill => "DRILL",
        Mode::DryRun => "dry run",
    };
    let guard = if plan.protected { " (PROTECTED)" } else { "" };
    format!("{mode} in `{}`{guard}", plan.environment)
}

pub(super) fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::SucceededWithExceptions => "succeeded with exceptions",
        Outcome::Failed => "failed",
        Outcome::FailedUnknown => "failed, and an outcome is unknown",
        Outcome::Cancelled => "cancelled",
        Outcome::ObjectiveMissed => "objective missed",
        Outcome::Inconclusive => "inconclusive",
    }
}

pub(super) fn outcome_tone(outcome: Outcome) -> Tone {
    match outcome {
        Outcome::Succeeded => Tone::Good,
        Outcome::SucceededWithExceptions | Outcome::Cancelled | Outcome::Inconclusive => Tone::Warn,
        Outcome::Failed | Outcome::FailedUnknown | Outcome::ObjectiveMissed => Tone::Bad,
    }
}

/// The run that this one undoes, if that is what it is for.
pub(super) fn undoes(plan: &BoundPlan) -> Option<&RunId> {
    plan.origin.as_ref().filter(|origin| origin.purpose == OriginPurpose::Undo).map(|origin| &origin.run)
}

/// Says in one sentence how the run ended or stands, as a manager would ask it.
#[must_use]
pub fn outcome_sentence(plan: &BoundPlan, state: &RunState) -> String {
    let name = &undoes(plan).map_or_else(|| plan.name.clone(), |run| format!("undo {run}"));
    let Some((outcome, _, figures)) = &state.finished else {
        let asks = |known: &&StepState| matches!(known.status, StepStatus::Asking | StepStatus::Held);
        return match state.suspended.len().max(state.steps.values().filter(asks).count()) {
            0 if state.paused.is_some() => format!("`{name}` is paused."),
            0 => format!("`{name}` has not ended: its last event is number {}.", state.last_seq.0),
            1 => format!("`{name}` waits for a person: one step has a question."),
            count => format!("`{name}` waits for a person: {count} steps have a question."),
        };
    };
    let took = match figures.rto_ms {
        Some(rto) if plan.mode == Mode::Real => {
            format!("the last required step ended {} after the incident", millis(rto))
        }
        Some(_) | None => format!("it took {}", millis(figures.run_ms)),
    };
    match outcome {
        Outcome::Succeeded => format!("`{name}` succeeded: {took}."),
        Outcome::SucceededWithExceptions => {
            format!("`{name}` succeeded with {}: {took}.", counted(figures.exceptions.len(), "exception"))
        }
        Outcome::Failed => {
            format!("`{name}` failed{} after {}.", at_step(plan, state, StepStatus::Failed), run(figures))
        }
        Outcome::FailedUnknown => format!(
            "`{name}` failed{} after {}, and it is not known whether that step took effect.",
            at_step(plan, state, StepStatus::Unknown),
            run(figures)
        ),
        Outcome::Cancelled => match &state.cancel {
            Some((_, actor, _)) => format!("`{name}` was cancelled by {} after {}.", actor.name, run(figures)),
            None => format!("`{name}` was cancelled after {}.", run(figures)),
        },
        Outcome::ObjectiveMissed => format!("the drill of `{name}` ended, but missed its objective; {took}."),
        Outcome::Inconclusive => match objectives::unproven(state).as_slice() {
            [] => format!("the drill of `{name}` ended, but measured no loss, so it proves no RPO; {took}."),
            why => format!("the drill of `{name}` ended, but proves nothing: {}; {took}.", why.join("; ")),
        },
    }
}

fn run(figures: &Figures) -> String {
    millis(figures.run_ms)
}

pub(super) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn at_step(plan: &BoundPlan, state: &RunState, status: StepStatus) -> String {
    let is = |step: &&PlannedStep| state.steps.get(&step.id).is_some_and(|known| known.status == status);
    // A step whose failure is tolerated, and one of `finally`, is not where the run failed, though it may have come first.
    let wanted = objectives::required_section(plan);
    let decides = |step: &&PlannedStep| step.section == wanted && step.on_failure != OnFailure::Continue;
    plan.steps.iter().filter(decides).find(is).map(|step| format!(" at step `{}`", step.id)).unwrap_or_default()
}

/// Says that the RTO was missed, where a verdict is given at all.
pub(super) fn rto_miss(figures: &Figures) -> Option<String> {
    let (measured, target) = (figures.rto_ms?, figures.rto_target_ms?);
    (measured > target).then(|| {
        format!(
            "RTO MISSED: {} against an objective of {} ({} over)",
            millis(measured),
            chosen(target),
            millis(measured - target)
        )
    })
}

/// Says that the RPO was missed, where a verdict is given at all.
pub(super) fn rpo_miss(figures: &Figures) -> Option<String> {
    let (loss, target) = (figures.rpo.as_ref()?, figures.rpo_target_ms?);
    (loss.unwanted_ms > target)
        .then(|| format!("RPO MISSED: {} against an objective of {}", loss_words(loss), chosen(target)))
}

/// Names the unwanted loss: `no loss`, `at most 3.2s`.
pub(super) fn loss_words(loss: &LossVerdict) -> String {
    match (loss.unwanted_ms, loss.coverage) {
        (0, Coverage::ToLastFlushed) => "no loss".to_owned(),
        (0, Coverage::NewestCommit | Coverage::WrittenBeside) => "no measurable loss".to_owned(),
        (ms, Coverage::ToLastFlushed | Coverage::NewestCommit | Coverage::WrittenBeside) => {
            format!("at most {} of commits lost", millis(ms))
        }
    }
}

/// Says what the loss figure rests on.
pub(super) fn loss_basis(loss: &LossVerdict) -> String {
    match (loss.coverage, loss.chosen_ms) {
        // A target takes the place of what was flushed: nobody looked at what lies behind it.
        (Coverage::ToLastFlushed, Some(_)) => format!("`{}` recovered all up to the chosen target", loss.step),
        (Coverage::ToLastFlushed, None) => format!("`{}` recovered to or past the last flushed position", loss.step),
        (Coverage::NewestCommit, _) => format!("a bound: the newest commit that `{}` recovered", loss.step),
        (Coverage::WrittenBeside, _) => {
            format!("a bound: the first commit of another timeline that `{}` did not bring back", loss.step)
        }
    }
}

/// Says what a target gave up on purpose; nothing where none was chosen.
pub(super) fn chosen_words(loss: &LossVerdict) -> Option<String> {
    Some(match loss.chosen_ms? {
        _ if loss.beside => {
            "the target is that of a copy beside the live database, which went on: what was committed since is there, but for what was \
             brought back"
                .to_owned()
        }
        0 => "what was committed after the target was given up by choice; nothing before the incident".to_owned(),
        ms => format!("{} before the incident were given up by choice", millis(ms)),
    })
}

/// Gives an error as lines: the fact, each cause, the advice.
pub(super) fn error_lines(error: &ErrorInfo) -> Vec<String> {
    let mut lines = vec![one_line(&error.message)];
    lines.extend(error.causes.iter().map(|cause| format!("caused by: {}", one_line(cause))));
    lines.extend(error.help.iter().map(|help| format!("help: {}", one_line(help))));
    lines
}
