//! No secret value reaches an event: every free text passes here before it is appended.

use std::borrow::Cow;

use serde_json::Value;

use super::Capabilities;
use crate::event::{ErrorInfo, EventKind, OperatorVerb, RecoverDecision, StepFinding};

/// Cleans an event of secret values.
pub(super) fn redacted(mut kind: EventKind, hands: &dyn Capabilities) -> EventKind {
    match &mut kind {
        EventKind::StepResolved { with, preconditions, .. } => {
            value(with, hands);
            preconditions.iter_mut().for_each(|precondition| value(precondition, hands));
        }
        EventKind::StepChecked { findings, .. } => findings.iter_mut().for_each(|found| finding(found, hands)),
        EventKind::AttemptFailed { error, .. }
        | EventKind::StepHeld { error, .. }
        | EventKind::StepFailed { error, .. }
        | EventKind::StepUnknown { error, .. } => error_info(error, hands),
        EventKind::AttemptRecovered { decision, why, .. } => {
            text(why, hands);
            match decision {
                RecoverDecision::Adopt { output } => value(output, hands),
                RecoverDecision::Rerun | RecoverDecision::Ask => {}
            }
        }
        EventKind::StepSucceeded { output, .. } | EventKind::StepSeeded { output, .. } => value(output, hands),
        EventKind::GroupOpened { instances, .. } => instances.iter_mut().for_each(|instance| {
            text(&mut instance.key, hands);
            value(&mut instance.item, hands);
        }),
        EventKind::StepAsked { question, .. } => {
            text(&mut question.prompt, hands);
            question.checklist.iter_mut().for_each(|point| text(point, hands));
        }
        EventKind::StepAnswered { answer, .. } => {
            text(&mut answer.comment, hands);
            answer.break_glass.iter_mut().for_each(|reason| text(reason, hands));
            answer.inputs.values_mut().for_each(|input| value(input, hands));
        }
        EventKind::OperatorActed { verb, reason: said, .. } | EventKind::OperatorRefused { verb, why: said, .. } => {
            text(said, hands);
            if let OperatorVerb::MarkDone { output } = verb {
                output.values_mut().for_each(|member| value(member, hands));
            }
        }
        EventKind::StepNoted { message, data, .. } => {
            text(message, hands);
            value(data, hands);
        }
        EventKind::ResourceRegistered { data, .. } => value(data, hands),
        EventKind::RunSuspended { waiting } => waiting.iter_mut().for_each(|reason| text(&mut reason.question, hands)),
        EventKind::RunStarted(_)
        | EventKind::RunResumed { .. }
        | EventKind::TailCut { .. }
        | EventKind::AttemptStarted { .. }
        | EventKind::AttemptAdopted { .. }
        | EventKind::StepSkipped { .. }
        | EventKind::StepCancelled { .. }
        | EventKind::StepStalled { .. }
        | EventKind::ResourceRemoved { .. }
        | EventKind::ObjectiveWarning { .. }
        | EventKind::StepReleased { .. }
        | EventKind::StepExpired { .. }
        | EventKind::LockAwaited { .. }
        | EventKind::LockTaken { .. }
        | EventKind::PlanAmended { .. }
        | EventKind::CancelRequested { .. }
        | EventKind::RunFinished { .. }
        | EventKind::Unknown => {}
    }
    kind
}

fn text(text: &mut String, hands: &dyn Capabilities) {
    if let Cow::Owned(clean) = hands.redact(text) {
        *text = clean;
    }
}

fn value(value_: &mut Value, hands: &dyn Capabilities) {
    match value_ {
        Value::String(string) => text(string, hands),
        Value::Array(items) => items.iter_mut().for_each(|item| value(item, hands)),
        Value::Object(members) => {
            members.values_mut().for_each(|member| value(member, hands));
            if members.keys().any(|name| matches!(hands.redact(name), Cow::Owned(_))) {
                let renamed = std::mem::take(members).into_iter();
                *members = renamed.map(|(name, member)| (hands.redact(&name).into_owned(), member)).collect();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn finding(finding: &mut StepFinding, hands: &dyn Capabilities) {
    text(&mut finding.message, hands);
    finding.help.iter_mut().for_each(|help| text(help, hands));
}

fn error_info(error: &mut ErrorInfo, hands: &dyn Capabilities) {
    text(&mut error.message, hands);
    error.causes.iter_mut().for_each(|cause| text(cause, hands));
    error.help.iter_mut().for_each(|help| text(help, hands));
    error.output_tail.iter_mut().for_each(|line| text(line, hands));
}
