//! Keeps an old run from going on over a newer one: what it once found out about a database is history.

use super::{Exit, Failure, earlier, wiring};
use crate::action::{EffectClass, Mode};
use crate::base::RunId;
use crate::event::{EventKind, OriginPurpose, Outcome};
use crate::journal::{RunDir, Runs};
use crate::plan::{BoundPlan, Section, UndoPolicy};

/// Refuses (exit 4) to resume a real run when a later one has begun to replace what it would replace.
pub fn refuse(runs: &Runs, dir: &RunDir, plan: &BoundPlan) -> Result<(), Failure> {
    let Some(id) = overtaken_by(runs, dir, plan)? else { return Ok(()) };
    let run = dir.id();
    Err(Failure::new(
        Exit::Refused,
        format!("run `{id}` has worked on the same database since run `{run}` was interrupted"),
    )
    .help(format!(
        "the interrupted run would replace newer data; nothing was changed. Look with `runbook show {id}`, then end the old one with \
         `runbook cancel {run}`, which undoes nothing, and start a new run"
    )))
}

/// Refuses (exit 4) to undo a real run over what a later one has put in the place of its data.
pub fn refuse_undo(runs: &Runs, dir: &RunDir, plan: &BoundPlan) -> Result<(), Failure> {
    for id in later(runs, dir, plan)? {
        if undoes(&runs.dir(&id)) || was_undone(runs, &id)? {
            continue;
        }
        let message =
            format!("run `{id}` has replaced data of the same database since run `{}`; nothing was changed", dir.id());
        let help =
            format!("what an undo would put back is older than that: `runbook undo {id}` comes first, if at all");
        return Err(Failure::new(Exit::Refused, message).help(help));
    }
    Ok(())
}

/// Tells whether a run undoes another one: what it replaced was put there by that one. One that undoes this very run is
/// gone on with.
fn undoes(dir: &RunDir) -> bool {
    let origin = dir.header().and_then(|header| header.origin);
    origin.is_some_and(|origin| origin.purpose == OriginPurpose::Undo)
}

/// Tells whether all that a run did was undone since. Where what replaces data has no undo, its data is still there.
fn was_undone(runs: &Runs, id: &RunId) -> Result<bool, Failure> {
    let Ok((plan, _)) = runs.dir(id).plan() else { return Ok(false) };
    let undone: Vec<_> = plan.steps.iter().filter_map(|step| step.id.undone()).collect();
    let mut destroys =
        plan.steps.iter().filter(|step| step.section == Section::Body && step.effects.class == EffectClass::Destroy);
    if !destroys.all(|step| undone.contains(&step.id)) {
        return Ok(false);
    }
    let is_whole = |dir: &RunDir| {
        let Ok(history) = dir.read() else { return false };
        let plan = dir.plan().ok().map(|(plan, _)| plan);
        let is_all = plan.is_some_and(|plan| matches!(plan.undo, UndoPolicy::Now { to: None }));
        let ended = |kind: &EventKind| {
            matches!(
                kind,
                EventKind::RunFinished { outcome: Outcome::Succeeded | Outcome::SucceededWithExceptions, .. }
            )
        };
        is_all && history.events.iter().any(|event| ended(&event.kind))
    };
    Ok(earlier::undoings(runs, id)?.iter().any(is_whole))
}

/// The later run that has begun to replace what a real run would replace, or has replaced.
pub fn overtaken_by(runs: &Runs, dir: &RunDir, plan: &BoundPlan) -> Result<Option<RunId>, Failure> {
    Ok(later(runs, dir, plan)?.into_iter().next())
}

fn later(runs: &Runs, dir: &RunDir, plan: &BoundPlan) -> Result<Vec<RunId>, Failure> {
    let replaces = plan.steps.iter().any(|step| step.effects.class == EffectClass::Destroy);
    if plan.mode != Mode::Real || plan.locks.is_empty() || !replaces {
        return Ok(Vec::new());
    }
    let all = runs.ids().map_err(wiring::runs_failure)?;
    Ok(all.into_iter().filter(|id| id != dir.id() && replaced_the_same(&runs.dir(id), plan)).collect())
}

/// Tells whether a later run started a step that replaces something the plan locks.
fn replaced_the_same(other: &RunDir, plan: &BoundPlan) -> bool {
    let Ok((theirs, _)) = other.plan() else { return false };
    let is_later = theirs.mode == Mode::Real && theirs.started_at > plan.started_at;
    let shares = theirs.locks.iter().any(|name| name.starts_with("database:") && plan.locks.contains(name));
    if !is_later || !shares {
        return false;
    }
    let destroys = |step| theirs.step(step).is_some_and(|step| step.effects.class == EffectClass::Destroy);
    let Ok(history) = other.read() else { return true };
    history.events.iter().any(|event| matches!(&event.kind, EventKind::AttemptStarted { step, .. } if destroys(step)))
}
