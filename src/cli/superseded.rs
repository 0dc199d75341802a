//! Keeps an old run from going on over a newer one: what it once found out about a database is history.

use super::{Exit, Failure, wiring};
use crate::action::{EffectClass, Mode};
use crate::event::EventKind;
use crate::journal::{RunDir, Runs};
use crate::plan::BoundPlan;

/// Refuses (exit 4) to resume a real run when a later one has begun to replace what it would replace.
pub fn refuse(runs: &Runs, dir: &RunDir, plan: &BoundPlan) -> Result<(), Failure> {
    let replaces = plan.steps.iter().any(|step| step.effects.class == EffectClass::Destroy);
    if plan.mode != Mode::Real || plan.locks.is_empty() || !replaces {
        return Ok(());
    }
    for id in runs.ids().map_err(wiring::runs_failure)?.into_iter().filter(|id| id != dir.id()) {
        if replaced_the_same(&runs.dir(&id), plan) {
            return Err(Failure::new(
                Exit::Refused,
                format!("run `{id}` has worked on the same database since run `{}` was interrupted", dir.id()),
            )
            .help(format!(
                "the interrupted run would replace newer data; nothing was changed. Look with `runbook show {id}`, then start a new run"
            )));
        }
    }
    Ok(())
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
