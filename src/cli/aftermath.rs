//! What a real recovery that did not go well has left behind: frozen backups, and folders beside the data.

use super::again::Again;
use super::{leftover, recovery, undone};
use crate::action::Mode;
use crate::event::Outcome;
use crate::journal::Runs;
use crate::plan::{BoundPlan, lock_of_database};
use crate::state::RunState;

/// Tells it to people, with the commands that end it.
pub fn tell(runs: &Runs, plan: &BoundPlan, state: &RunState) {
    let failed = state
        .finished
        .as_ref()
        .is_some_and(|(outcome, ..)| matches!(outcome, Outcome::Failed | Outcome::FailedUnknown | Outcome::Cancelled));
    if !failed || plan.mode != Mode::Real || !recovery::recovers(plan) {
        return;
    }
    let again = Again::of_plan(plan);
    for (name, entry) in &plan.inventory.databases {
        let lock = lock_of_database(entry);
        if !recovery::concerns(plan, &lock) {
            continue;
        }
        // What cannot be told is told by `status`. What was staged froze the stores, though nothing was begun to be replaced.
        let is_open = matches!(recovery::open(runs, &lock, None), Ok(Some(open)) if open.run == plan.run);
        if is_open || (has_staged(plan, state) && !undone::is_given_back(runs, plan, state)) {
            let database = format!("database={name}");
            let lift = again.change(["run", "lift-freeze", "-p", &database, "-p", "reason=the recovery was given up"]);
            tell!("\nfrozen");
            tell!(
                "  prune, unattended backups and lifecycle changes of `{name}`: another try may need the old backups"
            );
            tell!("  a recovery that goes well lifts it, so does `{lift}`");
        }
        let left = leftover::of(name, &plan.inventory, Some(runs));
        if !left.is_empty() {
            tell!("\nleft beside the data");
            left.iter().for_each(|one| tell!("  {}", one.told()));
        }
    }
}

/// Whether a run has begun to stage a backup.
fn has_staged(plan: &BoundPlan, state: &RunState) -> bool {
    plan.steps.iter().any(|step| step.uses == "postgres.restore_base" && undone::has_begun(state, step))
}
