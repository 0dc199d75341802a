//! What a run that is not over wants of people, and what to type.

use super::phrase::one_line;
use crate::base::StepId;
use crate::event::{HumanVerdict, Question};
use crate::plan::BoundPlan;
use crate::state::{RunState, StepState, StepStatus};

/// One thing that a run wants of people.
pub(super) struct Wanted {
    /// What it is, one line.
    pub(super) fact: String,
    /// The step, where it is one.
    pub(super) step: Option<StepId>,
    /// How many answers it takes.
    pub(super) lacks: usize,
    /// What may be typed: a word, and the command.
    pub(super) commands: Vec<(&'static str, String)>,
}

/// Everything the run waits for people for: open questions, held steps, a pause.
pub(super) fn wanted(plan: &BoundPlan, state: &RunState) -> Vec<Wanted> {
    if state.finished.is_some() {
        return Vec::new();
    }
    let run = &plan.run;
    let in_state = |wanted| state.steps.iter().filter(move |(_, known)| known.status == wanted);
    let asking = in_state(StepStatus::Asking)
        .filter_map(|(id, known)| Some(asking(run.as_str(), id, (known.question.as_ref()?, known))));
    let held = in_state(StepStatus::Held).map(|(id, _)| held(plan, id));
    let paused = state.paused.as_ref().map(|(actor, reason)| {
        let why = if reason.is_empty() { String::new() } else { format!(": {}", one_line(reason)) };
        let commands = vec![("go on", plan.with_reason(format!("runbook continue {run}")))];
        Wanted { fact: format!("paused by {}{why}", one_line(&actor.name)), step: None, lacks: 1, commands }
    });
    asking.chain(held).chain(paused).collect()
}

/// A held step, with the ways on that the engine will take: nobody leaves an approval out or takes it for given.
fn held(plan: &BoundPlan, id: &StepId) -> Wanted {
    let run = &plan.run;
    let typed = |what: &'static str, verb: &str| (what, plan.with_reason(format!("runbook {verb} {run} {id}")));
    let (fact, commands) = match plan.is_approval(id) {
        true => (
            format!("`{id}` was not approved, and waits for an operator; `retry` asks again"),
            vec![typed("retry", "retry"), ("cancel", plan.with_reason(format!("runbook cancel {run}")))],
        ),
        false => (
            format!("`{id}` failed, and waits for an operator"),
            vec![typed("retry", "retry"), typed("skip", "skip"), typed("mark done", "mark-done")],
        ),
    };
    Wanted { fact, step: Some(id.clone()), lacks: 1, commands }
}

fn asking(run: &str, id: &StepId, (question, known): (&Question, &StepState)) -> Wanted {
    let yes: Vec<String> = known
        .answers
        .iter()
        .filter(|(_, answer)| answer.verdict == HumanVerdict::Yes)
        .map(|(_, answer)| one_line(&answer.by.name))
        .collect();
    let mut facts = Vec::new();
    if !question.approvers.is_empty() {
        facts.push(format!("by {}", question.approvers.iter().map(|who| one_line(who)).collect::<Vec<_>>().join(", ")));
    }
    if !yes.is_empty() {
        facts.push(format!("{} of {} approved: {}", yes.len(), question.quorum, yes.join(", ")));
    }
    facts.extend(question.until.map(|until| format!("until {}", until.strftime("%F %T UTC"))));
    let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join("; ")) };
    Wanted {
        fact: format!("`{id}` asks: {}{facts}", one_line(&question.prompt)),
        step: Some(id.clone()),
        lacks: usize::try_from(question.quorum).unwrap_or(usize::MAX).saturating_sub(yes.len()),
        commands: vec![
            ("approve", format!("runbook approve {run} {id}")),
            ("deny", format!("runbook deny {run} {id} --comment WHY")),
        ],
    }
}
