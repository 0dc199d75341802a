//! What is frozen while a recovery is open, and what lifts it.

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
    let help = refused.help.unwrap_or_default();
    assert!(help.contains("lift-freeze") && help.contains("--despite-recovery"), "{help}");
    attempts(&mut live);
    end(live, Outcome::Succeeded);
    assert!(is_frozen(&runs, &prune()), "its success lifts nothing");
    let backup = plan("20260301-000000-bbbbbb", "postgres.base_backup", Effects::of(EffectClass::Write).hold("orders"));
    let refused = refuse(&runs, &backup, Presence::Nobody).expect_err("it is open");
    let help = refused.help.unwrap_or_default();
    assert!(help.contains("lift-freeze") && help.contains("runbook show 20260101-000000-aaaaaa"), "{help}");
    assert!(
        !help.contains("resume") && !help.contains("despite"),
        "it has ended, and a backup has no such option: {help}"
    );
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
    for (uses, freezes) in [("postgres.restore_dump", true), ("postgres.restore_base", true), ("postgres.erase", false)]
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
    let backup = plan("20260102-000000-aaaaaa", "postgres.base_backup", Effects::of(EffectClass::Write).hold("orders"));
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

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own file")]
fn a_clock_that_is_behind_a_run_names_it_and_a_reason_prunes_all_the_same() {
    let root = tempfile::tempdir().expect("a folder");
    let runs = Runs::open(root.path().join("state")).expect("opens");
    drop(begun(&runs, &plan("20260101-000000-aaaaaa", "shell", Effects::of(EffectClass::Write))));
    assert!(!is_frozen(&runs, &prune()));
    let ledger = root.path().join("state/ledger.jsonl");
    let text = std::fs::read_to_string(&ledger).expect("the ledger");
    let line: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    let at = line["at"].as_str().expect("a time");
    std::fs::write(&ledger, text.replace(at, "2199-01-01T00:00:00Z")).expect("writes");
    let refused = refuse(&runs, &prune(), Presence::Nobody).expect_err("the history is ahead");
    let said = &refused.message;
    assert!(said.contains("run `20260101-000000-aaaaaa` began at 2199-01-01T00:00:00Z"), "{said}");
    assert!(refused.help.is_some_and(|help| help.contains("--despite-clock REASON")));
    let mut despite = prune();
    despite.steps[0].with = json!({ "despite_clock": "NTP was off" });
    assert!(!is_frozen(&runs, &despite));
    despite.steps.push(prune().steps.remove(0));
    assert!(is_frozen(&runs, &despite), "a reason counts for its own step");
}
