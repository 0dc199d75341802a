//! What the runs of this machine tell of one database: its last drill, its last proof, and what has not ended.

use std::collections::{BTreeMap, BTreeSet};

use super::gather::{Drilled, Proven, Stopper, Unfinished};
use crate::action::Mode;
use crate::base::RunId;
use crate::catalog::attest::Verdict;
use crate::cli::onward::Onward;
use crate::cli::{Failure, recovery, restored, wiring};
use crate::journal::{RunDir, RunStatus, RunSummary, Runs};
use crate::plan::{BoundPlan, PlannedStep};
use crate::report::{leaves_stopped, moves_a_server, moves_server};
use crate::state::RunState;

/// The action whose success proves what was restored.
const PROOF: &str = "postgres.check";
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
    /// The run that stopped the server and is over, or given up, where no later one has started it.
    pub(super) stopped_by: Option<Stopper>,
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

/// Looks through the runs of this machine.
///
/// # Errors
/// Fails when their folder cannot be read.
pub(super) fn past(runs: &Runs, name: &str, lock: &str) -> Result<Past, Failure> {
    let mut past = Past::default();
    let ids = runs.ids().map_err(wiring::runs_failure)?;
    // One that waits for a person waits however many runs there were since; where the ledger cannot be read, each is looked at.
    let ledger = runs.ledger().read().map(|content| content.lines).unwrap_or_default();
    // Whether a later run than the one that is looked at has stopped the server, or started it.
    let mut is_moved = false;
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
        let is_about = concerns || plan.locks.iter().any(|known| known == lock);
        let may_move = plan.mode == Mode::Real && plan.steps.iter().any(moves_a_server);
        if !is_about && !may_move {
            continue;
        }
        let status = RunSummary::of(&dir).status;
        let state = || dir.read().ok().and_then(|history| RunState::fold(&history.events).ok()).unwrap_or_default();
        match status {
            RunStatus::Finished { outcome, .. } if may_move && !is_moved => {
                let state = state();
                is_moved = moves_server(&plan, &state, name);
                let stopped = leaves_stopped(&plan, &state, name);
                let outcome = Some(outcome);
                past.stopped_by = stopped.then(|| Stopper { run: id.clone(), name: plan.name, outcome });
            }
            RunStatus::Live | RunStatus::Suspended | RunStatus::Interrupted => {
                let state = state();
                let moves = may_move && moves_server(&plan, &state, name);
                if !is_about && !moves {
                    continue;
                }
                let onward = Onward::of(runs, &dir, (&plan, &state, &status))?;
                let has_stopped = may_move && leaves_stopped(&plan, &state, name);
                let run = Unfinished { run: id.clone(), name: plan.name, status, onward, has_stopped };
                // Nobody brings it on any more, and the server is down for it all the same.
                if has_stopped && !is_moved && run.is_given_up() {
                    past.stopped_by = Some(Stopper { run: run.run.clone(), name: run.name.clone(), outcome: None });
                }
                is_moved |= moves;
                past.unfinished.push(run);
            }
            RunStatus::Finished { .. }
            | RunStatus::NeverStarted
            | RunStatus::Unread { .. }
            | RunStatus::Damaged { .. } => {}
        }
    }
    Ok(past)
}
