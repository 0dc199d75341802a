//! The scratch folders of runs: removed with the run's end, or by `reap` where that did not come to it.

use std::path::{Path, PathBuf};

use super::{Exit, Failure, reap, wiring};
use crate::base::RunId;
use crate::event::RunOrigin;
use crate::host::local_files;
use crate::journal::{Leases, RunStatus, RunSummary, Runs};
use crate::plan::BoundPlan;
use crate::state::RunState;

/// Removes the scratch folder of a run that ended, unless something that was left behind may still use it.
pub fn clear(runs: &Runs, plan: &BoundPlan, state: &RunState) -> Result<(), Failure> {
    if !state.resources.is_empty() || !plan.scratch.exists() {
        return Ok(());
    }
    // Of a run that can still go on, only what was asked for is removed.
    if let Some(RunOrigin { run, .. }) = plan.origin.as_ref().filter(|_| reap::is_reaping(plan))
        && !is_dead(runs, &wiring::leases(runs)?, run)
    {
        return Ok(());
    }
    remove(&plan.scratch);
    Ok(())
}

/// Removes a scratch folder, or warns that it is left; tells whether it is gone.
pub fn remove(folder: &Path) -> bool {
    let Err(error) = local_files().remove_tree(folder) else { return true };
    let left = Failure::new(Exit::Failed, "a run's scratch folder is left").because(&error);
    tell!("warning: {}", left.in_full());
    false
}

/// Lists the scratch folders that no run needs any more.
pub fn dead(runs: &Runs, leases: &Leases) -> Vec<(RunId, PathBuf)> {
    let entries = std::fs::read_dir(runs.root().join("scratch")).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<RunId>().ok()?, entry.path())));
    let mut dead: Vec<(RunId, PathBuf)> = named.filter(|(run, _)| is_dead(runs, leases, run)).collect();
    dead.sort();
    dead
}

/// A run that ended and left nothing behind.
fn is_dead(runs: &Runs, leases: &Leases, run: &RunId) -> bool {
    let ended = matches!(RunSummary::of(&runs.dir(run)).status, RunStatus::Finished { .. });
    ended && leases.of(run).next().is_none()
}
