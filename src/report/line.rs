//! The line that tells an event, shared by the plain face and the live one.

use super::phrase::{self, millis, one_line, skip_reason, tone};
use super::{Palette, Tone};
use crate::base::StepId;
use crate::event::{Event, EventKind, RecoverDecision, Verdict};
use crate::plan::BoundPlan;
use crate::plan::render::NodeState;

/// Gives the lines that tell an event, without the time; none for events that only machines need.
pub(super) fn lines(plan: &BoundPlan, event: &Event, palette: Palette) -> Vec<String> {
    match &event.kind {
        EventKind::RunStarted(header) => vec![palette.paint(
            Tone::Strong,
            &format!(
                "run `{}` of `{}`: {}, started by {}",
                event.run,
                header.name,
                phrase::mode(plan),
                header.actor.name
            ),
        )],
        EventKind::RunResumed { actor, .. } => vec![format!("↻ {} took the run over", actor.name)],
        EventKind::TailCut { bytes } => {
            vec![palette.paint(Tone::Warn, &format!("! a torn line of {bytes} bytes was cut from the journal"))]
        }
        EventKind::ObjectiveWarning { percent, elapsed_ms } => {
            let tone = if *percent >= 100 { Tone::Bad } else { Tone::Warn };
            let text = format!("! {percent}% of the RTO are used up: {} since the incident", millis(*elapsed_ms));
            vec![palette.paint(tone, &text)]
        }
        EventKind::CancelRequested { actor, reason, .. } => {
            let text = format!("! cancel asked for by {}{}", actor.name, reason_words(reason));
            vec![palette.paint(Tone::Warn, &text)]
        }
        EventKind::RunSuspended { waiting } => waiting
            .iter()
            .map(|why| {
                palette.paint(Tone::Warn, &format!("? {} waits for a person: {}", why.step, one_line(&why.question)))
            })
            .collect(),
        EventKind::RunFinished { outcome, figures, .. } => {
            let text = format!("run {} after {}", phrase::outcome_name(*outcome), millis(figures.run_ms));
            vec![palette.paint(phrase::outcome_tone(*outcome), &text)]
        }
        EventKind::ResourceRegistered { .. } | EventKind::ResourceRemoved { .. } | EventKind::Unknown => Vec::new(),
        EventKind::StepResolved { .. }
        | EventKind::StepChecked { .. }
        | EventKind::AttemptStarted { .. }
        | EventKind::AttemptFailed { .. }
        | EventKind::AttemptAdopted { .. }
        | EventKind::AttemptRecovered { .. } => attempt_lines(plan, event, palette),
        EventKind::StepSucceeded { .. }
        | EventKind::StepFailed { .. }
        | EventKind::StepUnknown { .. }
        | EventKind::StepSkipped { .. }
        | EventKind::StepCancelled { .. }
        | EventKind::StepStalled { .. }
        | EventKind::StepNoted { .. } => end_lines(event, palette),
    }
}

fn reason_words(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {}", one_line(reason)) }
}

fn attempt_lines(plan: &BoundPlan, event: &Event, palette: Palette) -> Vec<String> {
    let sign = |state: NodeState| palette.paint(tone(state), state.glyph());
    match &event.kind {
        EventKind::StepChecked { step, findings } => findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Warn)
            .map(|finding| palette.paint(Tone::Warn, &format!("! {step}: {}", one_line(&finding.message))))
            .collect(),
        EventKind::AttemptStarted { step, attempt, .. } => {
            let uses = plan.step(step).map_or("", |step| step.uses.as_str());
            let again = if attempt.0 > 1 { format!(", attempt {attempt}") } else { String::new() };
            vec![format!("{} {step} started ({uses}{again})", sign(NodeState::Running))]
        }
        EventKind::AttemptFailed { step, attempt, error, retry_in_ms, .. } => {
            let text = format!("! {step} attempt {attempt} failed, next in {}", millis(*retry_in_ms));
            let mut told = vec![palette.paint(Tone::Warn, &text)];
            told.extend(phrase::error_lines(error).into_iter().map(|line| format!("    {line}")));
            told
        }
        EventKind::AttemptAdopted { step, attempt } => {
            vec![format!("↻ {step} attempt {attempt} still runs and is being waited for")]
        }
        EventKind::AttemptRecovered { step, attempt, decision, why } => {
            let next = match decision {
                RecoverDecision::Rerun => "is made again",
                RecoverDecision::Adopt { .. } => "had taken effect and is adopted",
                RecoverDecision::Ask => "needs a person to say what became of it",
            };
            vec![format!("↻ {step} attempt {attempt} was interrupted and {next}: {}", one_line(why))]
        }
        _ => Vec::new(),
    }
}

fn end_lines(event: &Event, palette: Palette) -> Vec<String> {
    let sign = |state: NodeState| palette.paint(tone(state), state.glyph());
    match &event.kind {
        EventKind::StepSucceeded { step, attempt, elapsed_ms, .. } => {
            let how =
                if attempt.0 == 0 { "marked done".to_owned() } else { format!("succeeded in {}", millis(*elapsed_ms)) };
            vec![format!("{} {step} {how}", sign(NodeState::Succeeded))]
        }
        EventKind::StepFailed { step, error, .. } => ended(sign(NodeState::Failed), step, "failed", error),
        EventKind::StepUnknown { step, error, .. } => {
            ended(sign(NodeState::Unknown), step, "ended, and it is not known whether it took effect", error)
        }
        EventKind::StepSkipped { step, why } => {
            vec![format!("{} {step} skipped: {}", sign(NodeState::Skipped), skip_reason(why))]
        }
        EventKind::StepCancelled { step, confirmed, .. } => {
            let rest = if *confirmed { "" } else { ", not all of its processes are known to be gone" };
            vec![format!("{} {step} cancelled{rest}", sign(NodeState::Cancelled))]
        }
        EventKind::StepStalled { step, silent_ms } => {
            let text = format!("! {step} has been silent for {}; it runs on", millis(*silent_ms));
            vec![palette.paint(Tone::Warn, &text)]
        }
        EventKind::StepNoted { step, message, .. } => vec![format!("· {step}: {}", one_line(message))],
        _ => Vec::new(),
    }
}

fn ended(sign: String, step: &StepId, how: &str, error: &crate::event::ErrorInfo) -> Vec<String> {
    let mut told = vec![format!("{sign} {step} {how}")];
    told.extend(phrase::error_lines(error).into_iter().map(|line| format!("    {line}")));
    let tail = error.output_tail.iter().rev().take(10).rev();
    told.extend(tail.map(|line| format!("    | {}", one_line(line))));
    told
}
