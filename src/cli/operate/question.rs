//! Shows a question before it is answered.

use crate::base::clock::{self, between};
use crate::base::units::human_duration;
use crate::base::{StepId, Timestamp};
use crate::event::{HumanVerdict, Initiator, OnTimeout, Question, QuestionKind};
use crate::language::runbook::Param;
use crate::plan::BoundPlan;
use crate::report::mask_text;
use crate::state::StepState;

/// Tells the question of a step, for people: what is asked, of whom, what was answered, until when.
pub fn tell_question(plan: &BoundPlan, step: &StepId, question: &Question, known: &StepState) {
    tell!();
    for line in lines(plan, step, question, known) {
        tell!("{line}");
    }
}

fn lines(plan: &BoundPlan, step: &StepId, question: &Question, known: &StepState) -> Vec<String> {
    let what = match question.kind {
        QuestionKind::Approval => "asks for approval",
        QuestionKind::Manual => "is to be done by a person",
    };
    let mut lines = vec![format!("step `{step}` of {} ({}) {what}:", plan.name, plan.run)];
    lines.extend(mask_text(&question.prompt).lines().map(|line| format!("  {line}")));
    lines.extend(question.checklist.iter().enumerate().map(|(at, item)| format!("  {}. {}", at + 1, mask_text(item))));
    lines.extend(question.inputs.iter().map(|(name, param)| format!("  input `{name}`: {}", describe(param))));
    lines.extend(whom(plan, question));
    for (at, answer) in &known.answers {
        let verdict = match answer.verdict {
            HumanVerdict::Yes => "approved",
            HumanVerdict::No => "denied",
        };
        let said = if answer.comment.is_empty() { String::new() } else { format!(": {}", mask_text(&answer.comment)) };
        lines.push(format!("  {verdict} by {} at {}{said}", answer.by.name, at.strftime("%F %T UTC")));
    }
    lines.extend(question.until.map(|until| deadline(until, question.on_timeout)));
    lines
}

/// Who may answer, and how many have to.
fn whom(plan: &BoundPlan, question: &Question) -> Vec<String> {
    let mut lines = Vec::new();
    if question.quorum > 1 {
        lines.push(format!("  {} different people have to approve", question.quorum));
    }
    if !question.approvers.is_empty() {
        lines.push(format!("  approvers: {}", question.approvers.join(", ")));
    }
    match question.initiator {
        Initiator::MayApprove => {}
        Initiator::MayNotApprove => lines.push(format!("  not by {}, who started the run", plan.actor.name)),
    }
    lines
}

/// What an input takes.
pub(super) fn describe(param: &Param) -> String {
    let mut told = param.kind.describe().to_owned();
    if !param.allowed.is_empty() {
        let allowed: Vec<String> = param.allowed.iter().map(ToString::to_string).collect();
        told = format!("{told}, one of {}", allowed.join(", "));
    }
    if !param.description.is_empty() {
        told = format!("{} ({told})", param.description);
    }
    if let Some(default) = &param.default {
        told = format!("{told}, default {default}");
    }
    told
}

fn deadline(until: Timestamp, follows: OnTimeout) -> String {
    let follows = match follows {
        OnTimeout::Pause => "the question stays open",
        OnTimeout::Abort => "the step fails",
        OnTimeout::Continue => "the run goes on without it",
    };
    let now = clock::now();
    if now >= until {
        return format!("  it was to be answered by {}", until.strftime("%F %T UTC"));
    }
    format!("  until {} (in {}), then {follows}", until.strftime("%F %T UTC"), human_duration(between(now, until)))
}
