//! What the runs of this machine tell of one database: its last drill, its last proof, and what has not ended.

use std::collections::{BTreeMap, BTreeSet};

use super::gather::{Drilled, Onward, Proven, Unfinished};
use crate::action::Mode;
use crate::base::{EventSeq, RunId};
use crate::catalog::attest::Verdict;
use crate::cli::{Failure, operate, recovery, restored, superseded, wiring};
use crate::journal::{RunDir, RunStatus, RunSummary, Runs, Verb};
use crate::plan::{BoundPlan, PlannedStep};
use crate::state::{RunState, StepStatus, UndoState};

/// The action whose success proves what was restored.
const PROOF: &str = "postgres.check";
/// What stops a server, and what has it run again.
const STOP: &str = "postgres.stop";
const STARTS: [&str; 4] = ["postgres.start", "postgres.recover", "postgres.promote", "pgbackrest.restore"];
/// How many runs are looked at to find a drill and a proof.
const LOOK_BACK: usize = 200;

/// What the history of runs tells.
#[derive(Default)]
pub(super) struct Past {
    /// The last drill of a recovery that has ended.
    pub(super) drill: Option<Drilled>,
    /// Of each backup, by its id, the last run that proved it, or disproved it.
    pub(super) proofs: BTreeMap<String, Proven>,
    /// Runs that have not ended, newest first.
    pub(super) unfinished: Vec<Unfinished>,
}

/// What a run that has ended proved, or disproved, of the database's backups.
fn proven(dir: &RunDir, plan: &BoundPlan, name: &str) -> Vec<Proven> {
    let may_prove = |step: &PlannedStep| step.uses == PROOF;
    if !plan.steps.iter().any(may_prove) {
        return Vec::new();
    }
    let state = dir.read().ok().and_then(|history| RunState::fold(&history.events).ok());
    let Some(state) = state.filter(|state| state.finished.is_some()) else { return Vec::new() };
    let of_database = restored::proofs(plan, &state).into_iter().filter(|proven| proven.backup.database == name);
    let told = of_database.map(|found| Proven {
        backup: found.backup.id,
        at: found.proof.at,
        passed: found.proof.verdict == Verdict::Passed,
        took_ms: found.proof.took_ms,
        run: found.proof.run,
        unkept: Some(dir.id().clone()),
    });
    told.collect()
}

/// Whether the last thing that a run did to the server of a database was to stop it, or may have been.
fn has_stopped(plan: &BoundPlan, state: &RunState, name: &str) -> bool {
    let done = state.steps.iter().filter_map(|(id, known)| {
        let uses = plan.planned(id)?.uses.as_str();
        let of = known.with.as_ref()?.get("database")?.as_str()?;
        let may_have_run = !known.attempts.is_empty() && known.undo != Some(UndoState::Undone);
        if of != name || !may_have_run {
            return None;
        }
        let ended = known.ended_seq;
        match known.status == StepStatus::Succeeded {
            _ if STARTS.contains(&uses) => (known.status == StepStatus::Succeeded).then_some((ended, false)),
            // One that found nothing running has stopped nothing.
            true if uses == STOP => {
                let found = known.output.as_ref().and_then(|output| output.get("stopped")?.as_bool());
                (found != Some(false)).then_some((ended, true))
            }
            // Cut off at work: nothing of the run came after it.
            false if uses == STOP => Some((EventSeq(u64::MAX), true)),
            true | false => None,
        }
    });
    done.max_by_key(|(ended, _)| *ended).is_some_and(|(_, is_stop)| is_stop)
}

/// Tells what brings on a run that has not ended.
fn onward(
    runs: &Runs,
    dir: &RunDir,
    (plan, state, status): (&BoundPlan, &RunState, &RunStatus),
) -> Result<Onward, Failure> {
    if *status == RunStatus::Live {
        return Ok(Onward::Follow);
    }
    if let Some(by) = superseded::overtaken_by(runs, dir, plan)? {
        let is_known = runs.dir(&by).plan().is_ok();
        return Ok(Onward::Overtaken {
            by,
            is_known,
            cancel: plan.with_reason(format!("runbook cancel {}", plan.run)),
        });
    }
    let kept = operate::kept(dir, state)?;
    Ok(match *status {
        _ if kept.iter().any(|verb| matches!(verb, Verb::Cancel { .. })) => Onward::End,
        _ if !kept.is_empty() => Onward::Kept,
        RunStatus::Suspended => Onward::Answer,
        _ => Onward::Resume,
    })
}

/// Looks through the runs of this machine.
///
/// # Errors
/// Fails when their folder cannot be read.
pub(super) fn past(runs: &Runs, name: &str, lock: &str) -> Result<Past, Failure> {
    let mut past = Past::default();
    let ids = runs.ids().map_err(wiring::runs_failure)?;
    // One that waits for a person waits however many runs there were since; where the ledger cannot be read, each is looked at.
    let ledger = runs.ledger().read().map(|content| content.lines).unwrap_or_default();
    let over: BTreeSet<&RunId> = ledger.iter().filter_map(|line| line.anchor.finished_run()).collect();
    for (age, id) in ids.iter().enumerate() {
        if age >= LOOK_BACK && over.contains(id) {
            continue;
        }
        let dir = runs.dir(id);
        let Ok((plan, _)) = dir.plan() else { continue };
        let concerns = plan.subject() == Some(name);
        if past.drill.is_none() && plan.mode == Mode::Drill && concerns && recovery::recovers(&plan) {
            let state = dir.read().ok().and_then(|history| RunState::fold(&history.events).ok());
            past.drill = state.and_then(|state| {
                let (outcome, _, figures) = state.finished?;
                Some(Drilled { run: id.clone(), at: state.started_at, outcome, figures: Box::new(figures) })
            });
        }
        if concerns {
            for proof in proven(&dir, &plan, name) {
                past.proofs.entry(proof.backup.clone()).or_insert(proof);
            }
        }
        if !concerns && !plan.locks.iter().any(|known| known == lock) {
            continue;
        }
        let status = RunSummary::of(&dir).status;
        if matches!(status, RunStatus::Live | RunStatus::Suspended | RunStatus::Interrupted) {
            let state = dir.read().ok().and_then(|history| RunState::fold(&history.events).ok()).unwrap_or_default();
            let onward = onward(runs, &dir, (&plan, &state, &status))?;
            let has_stopped = plan.mode == Mode::Real && has_stopped(&plan, &state, name);
            past.unfinished.push(Unfinished { run: id.clone(), name: plan.name, status, onward, has_stopped });
        }
    }
    Ok(past)
}
