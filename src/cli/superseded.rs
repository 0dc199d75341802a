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
    let message = match runs.dir(&id).plan() {
        Ok(_) => format!("run `{id}` has worked on the same database since run `{run}` was interrupted"),
        Err(_) => format!(
            "run `{id}` began after run `{run}`, and its plan cannot be read: whether it has worked on the same database is not known"
        ),
    };
    let cancel = plan.with_reason(format!("runbook cancel {run}"));
    Err(Failure::new(Exit::Refused, message).help(format!(
        "the interrupted run would replace newer data; nothing was changed. Look with `runbook show {id}`, then end the old one with \
         `{cancel}`, which undoes nothing, and start a new run"
    )))
}

/// Refuses (exit 4) to undo a real run over what a later one has put in the place of its data.
pub fn refuse_undo(runs: &Runs, dir: &RunDir, plan: &BoundPlan) -> Result<(), Failure> {
    for id in later(runs, dir, plan)? {
        if undoes(&runs.dir(&id)) || was_undone(runs, &id)? {
            continue;
        }
        let run = dir.id();
        let (message, help) = match runs.dir(&id).plan() {
            Ok(_) => (
                format!("run `{id}` has replaced data of the same database since run `{run}`; nothing was changed"),
                format!("what an undo would put back is older than that: `runbook undo {id}` comes first, if at all"),
            ),
            Err(_) => (
                format!(
                    "run `{id}` began after run `{run}`, and its plan cannot be read: whether it has replaced the same data is not \
                     known; nothing was changed"
                ),
                format!("bring `plan.json` of run `{id}` back, from where `audit ship` or `audit export` has it"),
            ),
        };
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
    // As the ledger has them: the clock may have been set back since this run began.
    let later = runs.ids().map_err(wiring::runs_failure)?.into_iter().take_while(|id| id != dir.id());
    Ok(later.filter(|id| replaced_the_same(&runs.dir(id), plan)).collect())
}

/// Tells whether a later run started a step that replaces something the plan locks; so does, for all that is known, a real
/// one that began and whose plan cannot be read.
fn replaced_the_same(other: &RunDir, plan: &BoundPlan) -> bool {
    let Ok((theirs, _)) = other.plan() else {
        return other
            .header()
            .is_some_and(|header| header.mode == Mode::Real && header.environment == plan.environment);
    };
    let shares = theirs.locks.iter().any(|name| name.starts_with("database:") && plan.locks.contains(name));
    if theirs.mode != Mode::Real || !shares {
        return false;
    }
    let destroys = |step| theirs.step(step).is_some_and(|step| step.effects.class == EffectClass::Destroy);
    let Ok(history) = other.read() else { return true };
    history.events.iter().any(|event| matches!(&event.kind, EventKind::AttemptStarted { step, .. } if destroys(step)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{BoundPlan, EffectClass, EventKind, RunDir, Runs, overtaken_by, refuse};
    use crate::base::{Attempt, Timestamp};
    use crate::journal::sample;
    use crate::plan::fixture::{id, plan, step};
    use crate::port::Journal as _;

    /// A recovery as it was planned when the clock said `started_at`.
    fn recovery(run: &str, started_at: &str) -> BoundPlan {
        let mut recover = step("recover", "postgres.recover");
        recover.effects.class = EffectClass::Destroy;
        let mut plan = plan(vec![recover]);
        plan.run = run.parse().unwrap();
        plan.started_at = started_at.parse().unwrap();
        plan.locks = vec!["database:orders".to_owned()];
        // As the first event of every run here says.
        plan.environment = "prod".to_owned();
        plan
    }

    fn begun(runs: &Runs, plan: &BoundPlan) -> RunDir {
        let mut created = runs.create(plan).unwrap();
        let attempt = EventKind::AttemptStarted { step: id("recover"), attempt: Attempt(1), key: String::new() };
        let kinds = vec![sample::started_with(created.plan), attempt];
        created.journal.append(Timestamp::UNIX_EPOCH, kinds).unwrap();
        created.journal.sync().unwrap();
        created.dir
    }

    #[test]
    fn a_run_that_began_while_the_clock_was_ahead_is_overtaken_by_one_after_the_clock_was_set_right() {
        let root = tempfile::tempdir().unwrap();
        let runs = Runs::open(root.path().join("state")).unwrap();
        let ahead = recovery("20260128-153000-aaaaaa", "2026-01-28T15:30:00Z");
        let right = recovery("20260128-143500-bbbbbb", "2026-01-28T14:35:00Z");
        let (first, second) = (begun(&runs, &ahead), begun(&runs, &right));
        assert_eq!(overtaken_by(&runs, &first, &ahead).unwrap(), Some(right.run.clone()));
        assert_eq!(overtaken_by(&runs, &second, &right).unwrap(), None);
        assert_eq!(runs.find("last").unwrap().id(), &right.run, "the one that began last");
        // What it has replaced cannot be told any more, so that nothing is taken for unchanged.
        std::fs::remove_file(second.path().join("plan.json")).unwrap();
        let refused = refuse(&runs, &first, &ahead).unwrap_err();
        assert!(refused.message.contains("its plan cannot be read"), "{}", refused.message);
    }
}
