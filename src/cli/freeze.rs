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
use crate::base::{Timestamp, clock};
use crate::catalog;
use crate::engine::Presence;
use crate::journal::Runs;
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
        let now = clock::now();
        if let Some(known) = newest(runs)?.filter(|known| *known > clock::after(now, TOLERANCE)) {
            let message = format!("this machine's clock says {now}, but the history of runs knows {known}");
            return Err(Failure::new(Exit::Refused, message).help("set the clock right; nothing was changed"));
        }
    }
    for reason in prunes.iter().filter_map(|step| despite(plan, step)) {
        tell!("pruning though a recovery may be open: {reason}");
    }
    let mut frozen: BTreeSet<(String, &str)> = BTreeSet::new();
    frozen.extend(pruned(plan, &prunes).map(|lock| (lock, "nothing is pruned meanwhile")));
    frozen.extend(moved(plan).map(|lock| (lock, "no lifecycle is changed meanwhile")));
    let expiring =
        "pgBackRest expires nothing meanwhile: `expire: never` takes a backup that leaves the old ones alone";
    frozen.extend(backed_up(plan, expires).into_iter().map(|lock| (lock, expiring)));
    if presence == Presence::Nobody {
        let taken = backed_up(plan, takes).into_iter();
        frozen.extend(taken.map(|lock| (lock, "no unattended backup is taken meanwhile")));
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

fn refusal(open: &Open, what: &str, again: &Again) -> Failure {
    let Open { run, database, .. } = open;
    let database = format!("database={database}");
    let lift = again.change(["run", "lift-freeze", "-p", &database, "-p", "reason=the recovery is over"]);
    let message = format!("a recovery of the same database is open: run `{run}`; {what}");
    Failure::new(Exit::Refused, message).help(format!(
        "when it is over, lift the freeze: `{lift}`; until then \
         `runbook resume {run}` goes on with it, and `--despite-recovery REASON` (in a runbook, `despite_recovery`) \
         prunes all the same"
    ))
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
pub fn newest(runs: &Runs) -> Result<Option<Timestamp>, Failure> {
    let ledger = runs.ledger().read().map_err(|error| wiring::runs_failure(error.into()))?;
    Ok(ledger.lines.iter().map(|line| line.at).max())
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
mod tests {
    use serde_json::{Value, json};

    use super::{newest, refuse};
    use crate::action::{Access, EffectClass, Effects, Mode, Target};
    use crate::base::{Attempt, StepId, Timestamp};
    use crate::engine::Presence;
    use crate::event::{ErrorClass, ErrorInfo, EventKind, Figures, Outcome};
    use crate::journal::{CreatedRun, Runs, sample};
    use crate::language::inventory::{Database, Inventory};
    use crate::plan::{BoundPlan, fixture, lock_of_database};
    use crate::port::Journal as _;

    fn inventory() -> Inventory {
        let entry = Database { pgdata: "/srv/orders".into(), store: Some("primary".into()), ..Database::default() };
        Inventory { databases: [("orders".to_owned(), entry)].into(), ..Inventory::default() }
    }

    fn plan(run: &str, uses: &str, effects: Effects) -> BoundPlan {
        let mut step = fixture::step("only", uses);
        step.effects = effects;
        let inventory = inventory();
        let locks = vec![lock_of_database(&inventory.databases["orders"])];
        let run = run.parse().expect("an id");
        BoundPlan { run, mode: Mode::Real, locks, inventory, ..fixture::plan(vec![step]) }
    }

    fn begun(runs: &Runs, plan: &BoundPlan) -> CreatedRun {
        let mut created = runs.create(plan).expect("creates");
        let started = sample::started_with(created.plan);
        write(&mut created, started);
        created
    }

    fn recovery(run: &str) -> BoundPlan {
        let database = Target::Database { name: "orders".to_owned() };
        plan(run, "postgres.recover", Effects::of(EffectClass::Destroy).target(Access::Destroy, database))
    }

    fn write(run: &mut CreatedRun, kind: EventKind) {
        write_at(run, Timestamp::UNIX_EPOCH, kind);
    }

    fn write_at(run: &mut CreatedRun, at: Timestamp, kind: EventKind) {
        run.journal.append(at, vec![kind]).expect("appends");
        run.journal.sync().expect("syncs");
    }

    /// Makes the one attempt of the one step.
    fn attempts(run: &mut CreatedRun) {
        attempts_at(run, Timestamp::UNIX_EPOCH);
    }

    fn attempts_at(run: &mut CreatedRun, at: Timestamp) {
        let step = || -> StepId { "only".parse().expect("an id") };
        let resolved =
            EventKind::StepResolved { step: step(), with: Value::Null, secrets: Vec::new(), preconditions: Vec::new() };
        write_at(run, at, resolved);
        write_at(run, at, EventKind::AttemptStarted { step: step(), attempt: Attempt(1), key: "k".to_owned() });
    }

    fn end(mut run: CreatedRun, outcome: Outcome) {
        let (step, attempt): (StepId, _) = ("only".parse().expect("an id"), Attempt(1));
        match outcome {
            Outcome::Succeeded => {
                write(&mut run, EventKind::StepSucceeded { step, attempt, output: json!({}), elapsed_ms: 1 });
            }
            _ => {
                let error = ErrorInfo::new(ErrorClass::Fatal, "it broke");
                write(&mut run, EventKind::StepFailed { step, attempt, error, elapsed_ms: 1 });
            }
        }
        write(&mut run, EventKind::RunFinished { outcome, exit_code: 0, figures: Box::new(Figures::default()) });
    }

    fn prune() -> BoundPlan {
        let store = Target::Store { name: "primary".to_owned(), prefix: "orders".to_owned() };
        plan(
            "20260301-000000-aaaaaa",
            "backup.prune",
            Effects::of(EffectClass::Destroy).target(Access::Destroy, store).hold("orders"),
        )
    }

    fn is_frozen(runs: &Runs, plan: &BoundPlan) -> bool {
        refuse(runs, plan, Presence::Nobody).is_err()
    }

    #[test]
    fn a_recovery_freezes_its_database_until_a_step_says_that_it_is_over() {
        let root = tempfile::tempdir().expect("a folder");
        let runs = Runs::open(root.path().join("state")).expect("opens");
        assert!(!is_frozen(&runs, &prune()));
        let mut live = begun(&runs, &recovery("20260101-000000-aaaaaa"));
        let refused = refuse(&runs, &prune(), Presence::Nobody).expect_err("it is open");
        assert!(refused.message.contains("20260101-000000-aaaaaa"), "{}", refused.message);
        let mut despite = prune();
        despite.steps[0].with = json!({ "despite_recovery": "the disk is full" });
        assert!(!is_frozen(&runs, &despite));
        despite.steps[0].with = json!({ "despite_recovery": "{{ params.why }}" });
        for (why, frozen) in [(json!("the disk is full"), false), (Value::Null, true)] {
            despite.params = [("why".to_owned(), why)].into();
            assert_eq!(is_frozen(&runs, &despite), frozen, "{:?}", despite.params);
        }
        attempts(&mut live);
        end(live, Outcome::Succeeded);
        assert!(is_frozen(&runs, &prune()), "its success lifts nothing");
        let mut lift = begun(
            &runs,
            &plan("20260102-000000-aaaaaa", "backup.unfreeze", Effects::of(EffectClass::Write).hold("orders")),
        );
        attempts(&mut lift);
        assert!(is_frozen(&runs, &prune()), "it is not lifted yet");
        end(lift, Outcome::Succeeded);
        assert!(!is_frozen(&runs, &prune()));
        assert!(newest(&runs).expect("reads").is_some());
    }

    #[test]
    fn a_failed_recovery_freezes_only_when_it_had_begun_to_replace_something() {
        let root = tempfile::tempdir().expect("a folder");
        let runs = Runs::open(root.path().join("state")).expect("opens");
        let never = begun(&runs, &recovery("20260101-000000-aaaaaa"));
        let mut early = never;
        let resolved = EventKind::StepResolved {
            step: "only".parse().expect("an id"),
            with: Value::Null,
            secrets: Vec::new(),
            preconditions: Vec::new(),
        };
        write(&mut early, resolved);
        end(early, Outcome::Failed);
        assert!(!is_frozen(&runs, &prune()), "its check refused");
        let mut late = begun(&runs, &recovery("20260102-000000-aaaaaa"));
        attempts(&mut late);
        end(late, Outcome::Failed);
        assert!(is_frozen(&runs, &prune()));
    }

    #[test]
    fn a_restore_that_failed_freezes_what_it_is_to_be_tried_again_from_and_one_that_succeeded_does_not() {
        let database = || Target::Database { name: "orders".to_owned() };
        let replacing = || Effects::of(EffectClass::Destroy).target(Access::Destroy, database());
        for (uses, freezes) in
            [("postgres.restore_dump", true), ("postgres.restore_base", true), ("postgres.erase", false)]
        {
            let root = tempfile::tempdir().expect("a folder");
            let runs = Runs::open(root.path().join("state")).expect("opens");
            let mut whole = begun(&runs, &plan("20260101-000000-aaaaaa", uses, replacing()));
            attempts(&mut whole);
            end(whole, Outcome::Succeeded);
            assert!(!is_frozen(&runs, &prune()), "{uses} went well");
            for outcome in [Outcome::Failed, Outcome::SucceededWithExceptions] {
                let other = tempfile::tempdir().expect("a folder");
                let runs = Runs::open(other.path().join("state")).expect("opens");
                let mut failed = begun(&runs, &plan("20260102-000000-aaaaaa", uses, replacing()));
                attempts(&mut failed);
                end(failed, outcome);
                assert_eq!(is_frozen(&runs, &prune()), freezes, "{uses} failed in a run that ended as {outcome:?}");
            }
        }
    }

    #[test]
    fn a_restore_that_succeeds_at_last_closes_those_before_it_that_were_to_bring_the_same_back() {
        let database = || Target::Database { name: "orders".to_owned() };
        let replacing = || Effects::of(EffectClass::Destroy).target(Access::Destroy, database());
        let run = |runs: &Runs, [id, uses, dbname, backup]: [&str; 4], at: Timestamp, outcome: Outcome| {
            let mut plan = plan(id, uses, replacing());
            plan.params = [("dbname".to_owned(), json!(dbname)), ("backup".to_owned(), json!(backup))].into();
            let mut begun = begun(runs, &plan);
            attempts_at(&mut begun, at);
            end(begun, outcome);
        };
        let (at, later) = (Timestamp::UNIX_EPOCH, "1970-01-01T01:00:00Z".parse().expect("a time"));
        let cases = [
            ("postgres.restore_dump", "shop", false),
            ("postgres.restore_dump", "crm", true),
            ("postgres.recover", "shop", true),
        ];
        for (uses, dbname, freezes) in cases {
            let root = tempfile::tempdir().expect("a folder");
            let runs = Runs::open(root.path().join("state")).expect("opens");
            run(&runs, ["20260101-000000-aaaaaa", uses, "shop", "b1"], at, Outcome::Failed);
            assert!(is_frozen(&runs, &prune()), "{uses} failed");
            run(&runs, ["20260102-000000-aaaaaa", uses, dbname, "b2"], at, Outcome::Succeeded);
            assert_eq!(is_frozen(&runs, &prune()), freezes, "{uses} of {dbname} went well");
            run(&runs, ["20260103-000000-aaaaaa", uses, dbname, "b2"], later, Outcome::Failed);
            assert!(is_frozen(&runs, &prune()), "{uses} failed again, or was never closed");
        }
    }

    #[test]
    fn a_recovery_that_replaces_something_after_a_freeze_was_lifted_freezes_anew() {
        let root = tempfile::tempdir().expect("a folder");
        let runs = Runs::open(root.path().join("state")).expect("opens");
        let later: Timestamp = "1970-01-01T01:00:00Z".parse().expect("a time");
        let mut waiting = begun(&runs, &recovery("20260101-000000-aaaaaa"));
        assert!(is_frozen(&runs, &prune()), "it waits for its first destroying step");
        let unfreeze = Effects::of(EffectClass::Write).hold("orders");
        let mut lift = begun(&runs, &plan("20260102-000000-aaaaaa", "backup.unfreeze", unfreeze));
        attempts(&mut lift);
        end(lift, Outcome::Succeeded);
        assert!(!is_frozen(&runs, &prune()), "the freeze was lifted");
        attempts_at(&mut waiting, later);
        assert!(is_frozen(&runs, &prune()), "it went on after that");
        end(waiting, Outcome::Failed);
        assert!(is_frozen(&runs, &prune()));
    }

    #[test]
    fn a_reason_to_prune_one_place_all_the_same_is_none_for_another_nor_for_a_lifecycle() {
        let root = tempfile::tempdir().expect("a folder");
        let runs = Runs::open(root.path().join("state")).expect("opens");
        let mut open = begun(&runs, &recovery("20260101-000000-aaaaaa"));
        attempts(&mut open);
        let with_another = |uses: &str, effects: Effects| {
            let mut both = prune();
            both.steps[0].with = json!({ "despite_recovery": "the disk is full" });
            let mut other = fixture::step("other", uses);
            other.effects = effects;
            both.steps.push(other);
            both
        };
        let store = || Target::Store { name: "far".to_owned(), prefix: String::new() };
        let removes = Effects::of(EffectClass::Destroy).target(Access::Destroy, store());
        assert!(!is_frozen(&runs, &with_another("backup.prune", removes.clone().hold("nobody"))));
        assert!(is_frozen(&runs, &with_another("backup.prune", removes.hold("orders"))));
        let changes = Effects::of(EffectClass::Write).target(Access::Write, store());
        assert!(is_frozen(&runs, &with_another("s3.lifecycle", changes)), "any store may have a copy");
        let backup = Effects::of(EffectClass::Write).hold("orders");
        assert!(is_frozen(&runs, &with_another("postgres.base_backup", backup)));
    }

    #[test]
    fn an_unattended_backup_and_a_lifecycle_change_are_frozen_and_one_that_a_person_takes_is_not() {
        let root = tempfile::tempdir().expect("a folder");
        let runs = Runs::open(root.path().join("state")).expect("opens");
        let mut open = begun(&runs, &recovery("20260101-000000-aaaaaa"));
        attempts(&mut open);
        end(open, Outcome::Succeeded);
        let backup =
            plan("20260102-000000-aaaaaa", "postgres.base_backup", Effects::of(EffectClass::Write).hold("orders"));
        assert!(is_frozen(&runs, &backup));
        assert!(refuse(&runs, &backup, Presence::SomebodyThere).is_ok());
        let snapshot =
            plan("20260102-000000-aaaaaa", "postgres.around_snapshot", Effects::of(EffectClass::Write).hold("orders"));
        assert!(is_frozen(&runs, &snapshot));
        let mut theirs =
            plan("20260102-000000-aaaaaa", "pgbackrest.backup", Effects::of(EffectClass::Write).hold("orders"));
        let expiring = refuse(&runs, &theirs, Presence::SomebodyThere).expect_err("it expires");
        assert!(expiring.message.contains("expire: never"), "{}", expiring.message);
        theirs.steps[0].with = json!({ "expire": "never" });
        assert!(refuse(&runs, &theirs, Presence::SomebodyThere).is_ok());
        assert!(is_frozen(&runs, &theirs), "nobody is there");
        theirs.steps[0].with = json!({ "expire": "{{ params.expire }}" });
        for (given, allowed) in [(json!("never"), true), (json!("configured"), false), (Value::Null, false)] {
            theirs.params = [("expire".to_owned(), given)].into();
            assert_eq!(refuse(&runs, &theirs, Presence::SomebodyThere).is_ok(), allowed, "{:?}", theirs.params);
        }
        let store = Target::Store { name: "primary".to_owned(), prefix: String::new() };
        let change = Effects::of(EffectClass::Write).target(Access::Write, store);
        let mut lifecycle = plan("20260102-000000-bbbbbb", "s3.lifecycle", change);
        lifecycle.locks.clear();
        assert!(refuse(&runs, &lifecycle, Presence::SomebodyThere).is_err());
    }
}
