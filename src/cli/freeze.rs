//! While a real recovery of a database is open, nothing of its backups is pruned; nor while the clock is in doubt.

use std::time::Duration;

use serde_json::Value;

use super::{Exit, Failure, wiring};
use crate::action::{Access, Mode, Target};
use crate::base::{RunId, Timestamp, clock};
use crate::event::Outcome;
use crate::journal::{RunDir, RunStatus, RunSummary, Runs};
use crate::plan::{BoundPlan, PlannedStep};

/// How far the clock may be behind what the history knows.
const TOLERANCE: Duration = Duration::from_secs(300);

/// Refuses (exit 4) to prune while a recovery of the same database is open, or when the clock went back.
pub fn refuse(runs: &Runs, plan: &BoundPlan) -> Result<(), Failure> {
    let mut prunes = plan.steps.iter().filter(|step| step.uses == "backup.prune").peekable();
    if plan.mode != Mode::Real || prunes.peek().is_none() {
        return Ok(());
    }
    let now = clock::now();
    if let Some(known) = newest(runs)?.filter(|known| *known > clock::after(now, TOLERANCE)) {
        let message = format!("this machine's clock says {now}, but the history of runs knows {known}");
        return Err(Failure::new(Exit::Refused, message).help("set the clock right; nothing was changed"));
    }
    if let Some(reason) = prunes.find_map(despite) {
        tell!("pruning though a recovery may be open: {reason}");
        return Ok(());
    }
    let Some(open) = open_recovery(runs, plan)? else { return Ok(()) };
    let message = format!("a recovery of the same database is open: run `{open}`; nothing is pruned meanwhile");
    Err(Failure::new(Exit::Refused, message).help(format!(
        "end it with `runbook resume {open}` or start it again until it succeeds; \
         `--despite-recovery REASON` (in a runbook, `despite_recovery`) prunes all the same"
    )))
}

/// The newest time that the history knows.
pub fn newest(runs: &Runs) -> Result<Option<Timestamp>, Failure> {
    let ledger = runs.ledger().read().map_err(|error| wiring::runs_failure(error.into()))?;
    Ok(ledger.lines.iter().map(|line| line.at).max())
}

fn despite(step: &PlannedStep) -> Option<&str> {
    step.with.get("despite_recovery").and_then(Value::as_str)
}

/// The newest real run that was to replace a database this plan prunes, when nothing says that it is over.
fn open_recovery(runs: &Runs, plan: &BoundPlan) -> Result<Option<RunId>, Failure> {
    let mut ids = runs.ids().map_err(wiring::runs_failure)?;
    ids.retain(|id| *id != plan.run);
    ids.sort();
    let locks: Vec<&String> = plan.locks.iter().filter(|name| name.starts_with("database:")).collect();
    // Each database for itself: of several recoveries of one, the last decides.
    for lock in locks {
        let recoveries = ids.iter().rev().filter(|id| recovers(&runs.dir(id), lock));
        for id in recoveries {
            match state(&runs.dir(id)) {
                Recovery::Open => return Ok(Some(id.clone())),
                Recovery::Over => break,
                Recovery::Nothing => {}
            }
        }
    }
    Ok(None)
}

/// Tells whether a real run was to replace the database under this lock.
fn recovers(dir: &RunDir, lock: &String) -> bool {
    let Ok((plan, _)) = dir.plan() else { return false };
    let replaces =
        |(access, target): &(Access, Target)| *access == Access::Destroy && matches!(target, Target::Database { .. });
    plan.mode == Mode::Real
        && plan.locks.contains(lock)
        && plan.steps.iter().any(|step| step.effects.targets.iter().any(replaces))
}

/// What became of a recovery.
enum Recovery {
    /// It goes on, or nobody knows what it came to.
    Open,
    /// It did what it was to do.
    Over,
    /// It ended without having done it.
    Nothing,
}

fn state(dir: &RunDir) -> Recovery {
    let outcome = match RunSummary::of(dir).status {
        RunStatus::Live | RunStatus::Suspended | RunStatus::Interrupted | RunStatus::Damaged { .. } => {
            return Recovery::Open;
        }
        RunStatus::NeverStarted => return Recovery::Nothing,
        RunStatus::Finished { outcome, .. } => outcome,
    };
    match outcome {
        Outcome::FailedUnknown => Recovery::Open,
        Outcome::Succeeded | Outcome::SucceededWithExceptions => Recovery::Over,
        Outcome::Failed | Outcome::Cancelled | Outcome::ObjectiveMissed | Outcome::Inconclusive => Recovery::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{newest, refuse};
    use crate::action::{Access, EffectClass, Effects, Mode, Target};
    use crate::base::Timestamp;
    use crate::event::{EventKind, Figures, Outcome};
    use crate::journal::{CreatedRun, Runs, sample};
    use crate::plan::{BoundPlan, fixture};
    use crate::port::Journal as _;

    const LOCK: &str = "database:local:/srv/orders";

    fn plan(run: &str, uses: &str, target: Target) -> BoundPlan {
        let mut step = fixture::step("only", uses);
        step.effects = Effects::of(EffectClass::Destroy).target(Access::Destroy, target);
        let locks = vec![LOCK.to_owned()];
        BoundPlan { run: run.parse().expect("an id"), mode: Mode::Real, locks, ..fixture::plan(vec![step]) }
    }

    fn recovery(runs: &Runs, run: &str) -> CreatedRun {
        let database = Target::Database { name: "orders".to_owned() };
        let mut created = runs.create(&plan(run, "postgres.recover", database)).expect("creates");
        let started = sample::started_with(created.plan);
        write(&mut created, started);
        created
    }

    fn write(run: &mut CreatedRun, kind: EventKind) {
        run.journal.append(Timestamp::UNIX_EPOCH, vec![kind]).expect("appends");
        run.journal.sync().expect("syncs");
    }

    fn end(mut run: CreatedRun, outcome: Outcome) {
        write(&mut run, EventKind::RunFinished { outcome, exit_code: 0, figures: Box::new(Figures::default()) });
    }

    fn prune() -> BoundPlan {
        plan(
            "20260301-000000-aaaaaa",
            "backup.prune",
            Target::Store { name: "primary".to_owned(), prefix: "o".to_owned() },
        )
    }

    #[test]
    fn an_unfinished_recovery_freezes_its_database_until_a_later_one_succeeds() {
        let root = tempfile::tempdir().expect("a folder");
        let runs = Runs::open(root.path().join("state")).expect("opens");
        assert!(refuse(&runs, &prune()).is_ok());
        drop(recovery(&runs, "20260101-000000-aaaaaa"));
        let refused = refuse(&runs, &prune()).expect_err("it is open");
        assert!(refused.message.contains("20260101-000000-aaaaaa"), "{}", refused.message);
        let mut despite = prune();
        despite.steps[0].with = json!({ "despite_recovery": "the disk is full" });
        assert!(refuse(&runs, &despite).is_ok());
        end(recovery(&runs, "20260102-000000-aaaaaa"), Outcome::Failed);
        assert!(refuse(&runs, &prune()).is_err(), "a later one that failed changes nothing");
        end(recovery(&runs, "20260103-000000-aaaaaa"), Outcome::Succeeded);
        assert!(refuse(&runs, &prune()).is_ok());
        end(recovery(&runs, "20260104-000000-aaaaaa"), Outcome::FailedUnknown);
        assert!(refuse(&runs, &prune()).is_err());
        assert!(newest(&runs).expect("reads").is_some());
    }
}
