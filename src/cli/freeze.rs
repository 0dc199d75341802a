//! While a real recovery of a database is open, nothing of its backups is pruned or moved, and none is taken that
//! nobody watches (facts 2.10.22); nor is anything pruned while the clock is in doubt.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::again::Again;
use super::recovery::{self, Open};
use super::screen::Face;
use super::{Exit, Failure, invoke, wiring};
use crate::action::{Access, Mode, Secrets, Target};
use crate::base::clock;
use crate::catalog;
use crate::catalog::retention::{Known, Refusal};
use crate::engine::Presence;
use crate::journal::{Anchor, LedgerLine, RunStatus, Runs};
use crate::language::template::{self, Scope};
use crate::plan::{BoundPlan, PlannedStep, lock_of_database};
use crate::store::Opening;

/// How far the clock may be behind what the history knows.
const TOLERANCE: Duration = Duration::from_secs(300);

/// Removes backups.
const PRUNE: &str = "backup.prune";
/// Has the provider move and remove objects.
const LIFECYCLE: &str = "s3.lifecycle";
/// Has pgBackRest take a backup, and remove old ones after it by its own rules.
const PGBACKREST: &str = "pgbackrest.backup";
/// Take backups of a database.
const BACKUPS: [&str; 4] = [PGBACKREST, "postgres.around_snapshot", "postgres.base_backup", "postgres.dump"];

/// Refuses (exit 4) what is frozen while a recovery of the same database is open, and to prune when the clock went
/// back.
pub fn refuse(runs: &Runs, plan: &BoundPlan, presence: Presence) -> Result<(), Failure> {
    if plan.mode != Mode::Real {
        return Ok(());
    }
    let prunes: Vec<&PlannedStep> = plan.steps.iter().filter(|step| step.uses == PRUNE).collect();
    if !prunes.is_empty() {
        doubt(runs, plan, &prunes)?;
    }
    for reason in prunes.iter().filter_map(|step| despite(plan, step)) {
        tell!("pruning though a recovery may be open: {reason}");
    }
    let mut frozen: BTreeSet<(String, Frozen)> = BTreeSet::new();
    frozen.extend(pruned(plan, &prunes).map(|lock| (lock, Frozen::Pruned)));
    frozen.extend(moved(plan).map(|lock| (lock, Frozen::Moved)));
    frozen.extend(backed_up(plan, expires).into_iter().map(|lock| (lock, Frozen::Expired)));
    if presence == Presence::Nobody {
        frozen.extend(backed_up(plan, takes).into_iter().map(|lock| (lock, Frozen::Taken)));
    }
    if !frozen.is_empty() {
        warn_of_unreadable(runs)?;
    }
    for (lock, what) in frozen {
        if let Some(open) = recovery::open(runs, &lock, Some(&plan.run))? {
            return Err(refusal(&open, what, &Again::of_plan(plan)));
        }
    }
    if presence == Presence::Nobody { refuse_by_store(plan) } else { Ok(()) }
}

/// Refuses to prune when the clock is behind the history, unless a person gives a reason to prune all the same.
fn doubt(runs: &Runs, plan: &BoundPlan, prunes: &[&PlannedStep]) -> Result<(), Failure> {
    let now = clock::now();
    let Some(known) = newest(runs)?.filter(|known| known.at > clock::after(now, TOLERANCE)) else { return Ok(()) };
    let asserted: Vec<String> = prunes.iter().filter_map(|step| said(plan, step, "despite_clock")).collect();
    if asserted.len() < prunes.len() {
        return Err(Failure::new(Exit::Refused, Refusal::ClockWentBack { now, known }.to_string()).help(Refusal::HELP));
    }
    for reason in asserted {
        tell!("pruning though {} at {}, in the future: {reason}", known.what, known.at);
    }
    Ok(())
}

/// Refuses an unattended backup of a database whose place is frozen in a store: the recovery may run on another machine,
/// or in another environment. What prunes and moves looks there itself.
fn refuse_by_store(plan: &BoundPlan) -> Result<(), Failure> {
    let mut places: BTreeSet<(&str, &str)> = BTreeSet::new();
    for name in backed_up_names(plan, takes) {
        let Some((known, entry)) = plan.inventory.databases.get_key_value(name) else { continue };
        let prefix = entry.prefix.as_deref().unwrap_or(known);
        places.extend(entry.archives().map(|store| (store, prefix)));
    }
    if places.is_empty() {
        return Ok(());
    }
    let vault = invoke::vault(&plan.inventory, Face::Json)?;
    for (name, prefix) in places {
        let Some(entry) = plan.inventory.stores.get(name) else { continue };
        let opening = Opening::new(entry, name, Arc::clone(&vault) as Arc<dyn Secrets>);
        let found = match opening.open_read() {
            Ok(store) => wiring::block_on(async { catalog::freeze::frozen(&*store, prefix).await })?,
            Err(error) => Err(error.into()),
        };
        match found {
            Ok(found) => {
                if let Some(open) = found.into_iter().find(|freeze| freeze.note.run != plan.run.to_string()) {
                    let message = format!("{}; no unattended backup is taken meanwhile", open.fact());
                    return Err(Failure::new(Exit::Refused, message).help(open.help()));
                }
            }
            // The backup itself finds out what that means for it.
            Err(error) => tell!("warning: whether `{prefix}` in store `{name}` is frozen is not known: {error}"),
        }
    }
    Ok(())
}

fn refusal(open: &Open, frozen: Frozen, again: &Again) -> Failure {
    let Open { run, database, .. } = open;
    let database = format!("database={database}");
    let lift = again.change(["run", "lift-freeze", "-p", &database, "-p", "reason=the recovery is over"]);
    let message = format!("a recovery of the same database is open: run `{run}`; {}", frozen.meanwhile());
    let until_then = match open.status {
        // There is nothing left of it to go on with.
        RunStatus::Finished { .. } => format!("`runbook show {run}` says what it left undone"),
        RunStatus::Live => format!("`runbook show {run} --follow` shows it"),
        RunStatus::Suspended
        | RunStatus::Interrupted
        | RunStatus::NeverStarted
        | RunStatus::Unread { .. }
        | RunStatus::Damaged { .. } => {
            format!("until then `runbook resume {run}` goes on with it")
        }
    };
    let despite = match frozen {
        Frozen::Pruned => {
            "; `--despite-recovery REASON` of `runbook backups prune` (in a runbook, `despite_recovery`) prunes all the same"
        }
        Frozen::Moved | Frozen::Expired | Frozen::Taken => "",
    };
    Failure::new(Exit::Refused, message)
        .help(format!("when it is over, lift the freeze: `{lift}`; {until_then}{despite}"))
}

/// What is frozen while a recovery is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Frozen {
    /// Backups are removed.
    Pruned,
    /// A provider moves or removes objects.
    Moved,
    /// pgBackRest removes backups after its own.
    Expired,
    /// A backup is taken that nobody watches.
    Taken,
}

impl Frozen {
    /// What does not happen meanwhile.
    fn meanwhile(self) -> &'static str {
        match self {
            Self::Pruned => "nothing is pruned meanwhile",
            Self::Moved => "no lifecycle is changed meanwhile",
            Self::Expired => {
                "pgBackRest expires nothing meanwhile: `expire: never` takes a backup that leaves the old ones alone"
            }
            Self::Taken => "no unattended backup is taken meanwhile",
        }
    }
}

/// Says which runs may be open recoveries that nobody can tell of.
fn warn_of_unreadable(runs: &Runs) -> Result<(), Failure> {
    let unreadable = recovery::unreadable(runs)?;
    if !unreadable.is_empty() {
        let names: Vec<String> = unreadable.iter().map(|run| format!("`{run}`")).collect();
        tell!(
            "warning: whether these runs are open recoveries is not known, for want of their plans: {}",
            names.join(", ")
        );
    }
    Ok(())
}

/// The databases whose backups are pruned, without those that are pruned for a reason.
fn pruned<'a>(plan: &'a BoundPlan, prunes: &'a [&PlannedStep]) -> impl Iterator<Item = String> + 'a {
    let held = prunes.iter().filter(move |step| despite(plan, step).is_none()).flat_map(|step| &step.effects.holds);
    held.filter_map(|name| plan.inventory.databases.get(name)).map(lock_of_database)
}

/// The databases whose backups may lie in a store whose lifecycle is changed: all, since a step may have stored a
/// copy in any store.
fn moved(plan: &BoundPlan) -> impl Iterator<Item = String> {
    let is_written = |(access, target): &(Access, Target)| match target {
        Target::Store { .. } => *access >= Access::Write,
        Target::Database { .. }
        | Target::Path { .. }
        | Target::Port { .. }
        | Target::Service { .. }
        | Target::Url { .. } => false,
    };
    let changes = |step: &PlannedStep| step.uses == LIFECYCLE && step.effects.targets.iter().any(is_written);
    let is_changed = plan.steps.iter().any(changes);
    plan.inventory.databases.values().filter(move |_| is_changed).map(lock_of_database)
}

/// Whether a step takes a backup of a database.
fn takes(_: &BoundPlan, step: &PlannedStep) -> bool {
    BACKUPS.contains(&step.uses.as_str())
}

/// Whether it has old backups removed when it has taken its own.
fn expires(plan: &BoundPlan, step: &PlannedStep) -> bool {
    step.uses == PGBACKREST && said(plan, step, "expire").as_deref() != Some("never")
}

/// The databases of which such a backup is taken, without those that the same run replaces or is done with.
fn backed_up(plan: &BoundPlan, is_such: fn(&BoundPlan, &PlannedStep) -> bool) -> BTreeSet<String> {
    let names = backed_up_names(plan, is_such);
    names.filter_map(|name| plan.inventory.databases.get(name)).map(lock_of_database).collect()
}

fn backed_up_names(plan: &BoundPlan, is_such: fn(&BoundPlan, &PlannedStep) -> bool) -> impl Iterator<Item = &String> {
    let taken = plan.steps.iter().filter(move |step| is_such(plan, step));
    let is_apart = |name: &&String| {
        let entry = plan.inventory.databases.get(*name);
        entry.is_some_and(|entry| !recovery::concerns(plan, &lock_of_database(entry)))
    };
    taken.flat_map(|step| &step.effects.holds).filter(is_apart)
}

/// The newest time that the history knows.
pub fn newest(runs: &Runs) -> Result<Option<Known>, Failure> {
    let ledger = runs.ledger().read().map_err(|error| wiring::runs_failure(error.into()))?;
    let what = |line: &LedgerLine| match &line.anchor {
        Anchor::Started { run, .. } => format!("run `{run}` began"),
        Anchor::Finished { run, .. } => format!("run `{run}` ended"),
        Anchor::Unknown => format!("line {} of the history of runs was written", line.n),
    };
    Ok(ledger.lines.iter().max_by_key(|line| line.at).map(|line| Known { at: line.at, what: what(line) }))
}

/// The reason to prune all the same. One that is not known yet is none.
fn despite(plan: &BoundPlan, step: &PlannedStep) -> Option<String> {
    said(plan, step, "despite_recovery")
}

/// What an argument of a step says: a plan has it as it was written. `None` where it says nothing, or a value that only
/// an earlier step gives.
fn said(plan: &BoundPlan, step: &PlannedStep, name: &str) -> Option<String> {
    let group = step.group.as_ref().and_then(|group| plan.groups.get(group));
    let (params, vars) = group.map_or((&plan.params, &plan.vars), |group| (&group.params, &group.vars));
    let scope = Scope::new().with("params", &json!(params)).with("vars", &json!(vars));
    let scope = scope.with("env_vars", &json!(plan.env_vars));
    let rendered = template::render(step.with.get(name)?, &scope).ok()?;
    rendered.value.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests;
