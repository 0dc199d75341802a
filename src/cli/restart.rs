//! `runbook run FILE --from STEP --of RUN`: a new run that does not make again what an earlier one finished.

use std::collections::BTreeSet;

use super::earlier::{self, Earlier};
use super::{Exit, Failure, wiring};
use crate::base::StepId;
use crate::event::{EventKind, OriginPurpose, RunOrigin, SkipReason};
use crate::journal::Runs;
use crate::plan::{BoundPlan, PlannedStep, Section};
use crate::state::{StepState, StepStatus};

/// Makes a plan one that begins at a step, and gives what it takes from the earlier run.
///
/// # Errors
/// Refuses (exit 4) when the earlier run does not fit: another environment or mode, changed steps, gaps before the step.
pub fn from(runs: &Runs, plan: &mut BoundPlan, (step, of): (&str, &str)) -> Result<Vec<EventKind>, Failure> {
    let earlier = Earlier::read(wiring::find_run(runs, of)?)?;
    let step = target(plan, step)?;
    demand_same(&earlier, plan)?;
    earlier.demand_finished()?;
    if let Some(dir) = earlier::undoings(runs, earlier.dir.id())?.last() {
        let message =
            format!("run `{}` undid run `{}`, so its steps do not count any more", dir.id(), earlier.dir.id());
        return Err(Failure::new(Exit::Refused, message).help("start a run without `--from`; nothing was changed"));
    }
    demand_ancestors(&earlier, plan, &step)?;
    demand_unchanged(&earlier, plan, &step)?;
    plan.origin = Some(RunOrigin {
        run: earlier.dir.id().clone(),
        purpose: OriginPurpose::Seed,
        started_at: Some(earlier.plan.started_at),
        step: Some(step.clone()),
        reason: String::new(),
    });
    Ok(seeds(&earlier, plan, &step))
}

/// What is taken: every step that succeeded there and does not follow `step`, with all of its members.
pub fn seeds(earlier: &Earlier, plan: &BoundPlan, step: &StepId) -> Vec<EventKind> {
    let again = followers(plan, step);
    earlier::ends(earlier, |id, known| is_taken((earlier, plan), &again, (id, known)))
}

fn is_taken(
    (earlier, plan): (&Earlier, &BoundPlan),
    again: &BTreeSet<StepId>,
    (id, known): (&StepId, &StepState),
) -> bool {
    let Some(planned) = earlier::planned(plan, id).filter(|step| step.section == Section::Body) else { return false };
    let outermost = outermost(id);
    // A member goes with the step that stands for it, however it ended itself.
    let decides = if outermost == *id { Some(known) } else { earlier.state.steps.get(&outermost) };
    !again.contains(&outermost) && !again.contains(&planned.id) && decides.is_some_and(counts)
}

/// Whether a step succeeded and that still holds.
fn counts(known: &StepState) -> bool {
    known.status == StepStatus::Succeeded && known.undo.is_none()
}

/// The step of the outermost runbook that a step belongs to.
fn outermost(id: &StepId) -> StepId {
    match id.of_instance().or_else(|| id.parent()) {
        Some(group) => outermost(&group),
        None => id.clone(),
    }
}

/// The step and everything that waits for it, directly or not.
fn followers(plan: &BoundPlan, step: &StepId) -> BTreeSet<StepId> {
    let mut found = BTreeSet::from([step.clone()]);
    // Each step stands after the ones it needs.
    for planned in plan.section(Section::Body) {
        if planned.needs.iter().any(|edge| found.contains(&edge.from)) {
            found.insert(planned.id.clone());
        }
    }
    found
}

fn ancestors(plan: &BoundPlan, step: &StepId) -> BTreeSet<StepId> {
    let mut found = BTreeSet::new();
    let mut open = vec![step.clone()];
    while let Some(here) = open.pop() {
        let needs = plan.step(&here).map(|planned| planned.needs.as_slice()).unwrap_or_default();
        open.extend(needs.iter().map(|edge| edge.from.clone()).filter(|from| found.insert(from.clone())));
    }
    found
}

fn target(plan: &BoundPlan, name: &str) -> Result<StepId, Failure> {
    let known = plan.section(Section::Body).find(|planned| planned.id.as_str() == name);
    match known {
        Some(planned) if outermost(&planned.id) == planned.id => Ok(planned.id.clone()),
        Some(planned) => Err(Failure::new(Exit::Usage, format!("`{name}` is part of `{}`", outermost(&planned.id)))
            .help(format!("start from the whole: `--from {}`", outermost(&planned.id)))),
        None => {
            let steps = plan.section(Section::Body).map(|planned| planned.id.as_str());
            let near = steps.filter(|id| strsim::damerau_levenshtein(id, name) <= 1.max(name.len() / 3));
            let help = match near.min_by_key(|id| strsim::damerau_levenshtein(id, name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`runbook graph FILE` shows its steps".to_owned(),
            };
            Err(Failure::new(Exit::Usage, format!("the runbook has no step `{name}`")).help(help))
        }
    }
}

fn demand_same(earlier: &Earlier, plan: &BoundPlan) -> Result<(), Failure> {
    let shown = |plan: &BoundPlan| format!("a {} run in `{}`", plan.mode.as_str(), plan.environment);
    if (earlier.plan.mode, &earlier.plan.environment) == (plan.mode, &plan.environment) {
        return Ok(());
    }
    let message = format!("run `{}` was {}, and this is {}", earlier.dir.id(), shown(&earlier.plan), shown(plan));
    Err(Failure::new(Exit::Refused, message).help("what was done elsewhere does not count here; nothing was changed"))
}

/// What stands before the step must have been done there, or is decided anew because its `when` left it out.
fn demand_ancestors(earlier: &Earlier, plan: &BoundPlan, step: &StepId) -> Result<(), Failure> {
    let gap = |id: &&StepId| match earlier.state.steps.get(*id) {
        Some(known) => !counts(known) && known.skipped != Some(SkipReason::When),
        None => true,
    };
    let gaps: Vec<String> = ancestors(plan, step).iter().filter(gap).map(|id| format!("`{id}`")).collect();
    if gaps.is_empty() {
        return Ok(());
    }
    let message = format!("`{step}` comes after {}, which run `{}` did not finish", gaps.join(", "), earlier.dir.id());
    Err(Failure::new(Exit::Refused, message).help("start from the first of them; nothing was changed"))
}

/// What is taken over must be decided now as it was then.
fn demand_unchanged(earlier: &Earlier, plan: &BoundPlan, step: &StepId) -> Result<(), Failure> {
    let again = followers(plan, step);
    let taken = |step: &&PlannedStep| {
        let known = earlier.state.steps.get(&step.id);
        known.is_some_and(|known| is_taken((earlier, plan), &again, (&step.id, known)))
    };
    let differs =
        |step: &&PlannedStep| earlier.plan.step(&step.id).is_none_or(|old| old.fingerprint != step.fingerprint);
    let changed: Vec<String> =
        plan.steps.iter().filter(taken).filter(differs).map(|step| format!("`{}`", step.id)).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let message = format!("{} changed since run `{}` finished them", changed.join(", "), earlier.dir.id());
    Err(Failure::new(Exit::Refused, message).help(
        "what they did may not be what the file says now: start from the first of them, or with the values of that run; nothing was changed",
    ))
}
