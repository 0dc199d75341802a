use std::collections::BTreeMap;

use super::{Again, Status, Unkept, of};
use crate::actions::postgres::recovery::server_status::{Contradiction, LostDatabase, ServerStatus};
use crate::actions::postgres::session::connect::Refusal;
use crate::base::Timestamp;
use crate::catalog::health::{Figures as Measured, Finding, Health, Level};
use crate::cli::onward::Onward;
use crate::cli::status::gather::{Beside, Drilled, Limits, Missing, Newest, Proven, Restorable, Stopper, Unfinished};
use crate::event::{Figures, Outcome};
use crate::journal::RunStatus;

/// One whose newest backup was proven just now.
fn healthy() -> Status {
    let (at, run) = (Timestamp::UNIX_EPOCH, "20260101-000000-bbbbbb".to_owned());
    Status {
        database: "orders".to_owned(),
        environment: "production".to_owned(),
        at,
        server: ServerStatus { answers: true, ..ServerStatus::default() },
        managed: false,
        stanza: None,
        wal: None,
        backup: Some(Newest { id: "b2".to_owned(), ended_at: at, size_bytes: 1, sound: true }),
        backups: 2,
        unsound: 0,
        restorable: None,
        snapshot: None,
        locked: None,
        store_fault: String::new(),
        missing: BTreeMap::new(),
        undumped: BTreeMap::new(),
        told_by: None,
        beside: Vec::new(),
        expected: Vec::new(),
        together: None,
        limits: Limits::default(),
        proof: Some(Proven { backup: "b1".to_owned(), at, passed: true, took_ms: 1, run, unkept: None }),
        damaged: Vec::new(),
        drill: None,
        forecast: None,
        forecast_fault: String::new(),
        open: None,
        frozen: Vec::new(),
        unfinished: Vec::new(),
        stopped_by: None,
        unforgotten: None,
        left: Vec::new(),
        level: Level::Ok,
        next: Vec::new(),
    }
}

fn drill(outcome: Outcome) -> Drilled {
    let run = "20260101-000000-aaaaaa".parse().expect("an id");
    Drilled { run, at: None, outcome, figures: Box::new(Figures::default()) }
}

#[track_caller]
fn advises(status: &Status, level: Level, words: &str) {
    let next = of(status, &Again::default());
    assert!(next.len() == 1 && next[0].text.contains(words), "no `{words}` in {next:?}");
    assert_eq!(next[0].level, level);
}

#[test]
fn a_damaged_backup_a_silent_store_and_a_failed_drill_are_not_all_is_well() {
    let mut status = healthy();
    assert!(of(&status, &Again::default()).is_empty());
    status.drill = Some(drill(Outcome::Succeeded));
    assert!(of(&status, &Again::default()).is_empty());
    status.drill = Some(drill(Outcome::Failed));
    let show = "the last drill ended with `failed`: runbook show 20260101-000000-aaaaaa";
    advises(&status, Level::Warning, show);
    let mut damaged = healthy();
    damaged.backup.as_mut().expect("a backup").sound = false;
    advises(
        &damaged,
        Level::Critical,
        "the newest base backup `b2` is not sound, and no other is: runbook backup orders",
    );
    let other = |id: &str| Newest { id: id.to_owned(), ..healthy().backup.expect("a backup") };
    damaged.restorable = Some(Restorable { backup: other("b1"), store: None });
    advises(
        &damaged,
        Level::Critical,
        "the newest base backup `b2` is not sound; the newest that can be restored is `b1`",
    );
    damaged.restorable = Some(Restorable { backup: other("b2"), store: Some("offsite".to_owned()) });
    advises(&damaged, Level::Warning, "a restore reads that of store `offsite`: runbook backup orders");
    let alone = Status { backup: None, proof: None, snapshot: Some(other("s1")), ..healthy() };
    advises(&alone, Level::Warning, "no base backup beside the volume snapshots");
    let silent = Status { backup: None, proof: None, store_fault: "it does not answer".to_owned(), ..healthy() };
    advises(&silent, Level::Unknown, "what base backups there are is not known");
}

#[test]
fn a_backup_of_a_server_that_is_down_comes_after_what_brings_it_up() {
    let mut down = Status { backup: None, proof: None, ..healthy() };
    down.server.answers = false;
    let next = of(&down, &Again::default());
    assert!(next[0].text.starts_with("the server does not answer"), "{next:?}");
    let words = "there is no base backup: once its server takes sessions again, runbook backup orders";
    assert!(next.iter().skip(1).any(|one| one.text == words), "{next:?}");
}

#[test]
fn each_silent_store_is_told_by_itself_with_what_it_keeps_from_being_done() {
    let beside = |fault: &str, is_ahead: bool| {
        let backup = is_ahead.then(|| Newest { id: "b3".to_owned(), ..healthy().backup.expect("a backup") });
        vec![Beside { store: "offsite".to_owned(), fault: fault.to_owned(), backups: 1, backup, is_ahead }]
    };
    let own = "no route to `primary`".to_owned();
    let own = Status { store_fault: own, told_by: Some("offsite".to_owned()), ..healthy() };
    advises(&own, Level::Critical, "`offsite` has backups that one can be made from");
    advises(&own, Level::Critical, "runbook backup orders --at-least 1");
    let other = Status { beside: beside("no route to `offsite`", false), ..healthy() };
    advises(&other, Level::Warning, "runbook backup orders --at-least 1");
    let ahead = Status { beside: beside("", true), ..healthy() };
    advises(&ahead, Level::Warning, "store `offsite` has a newer base backup, `b3`, which no restore looks for there");
    assert!(of(&Status { beside: beside("", false), ..healthy() }, &Again::default()).is_empty());
}

#[test]
fn what_the_inventory_expects_counts_instead_of_the_usual_limits() {
    let mut old = healthy();
    old.backup.as_mut().expect("a backup").ended_at = "1969-12-01T00:00:00Z".parse().expect("a time");
    advises(&old, Level::Warning, "the newest base backup is old: runbook backup orders");
    old.limits = Limits { age: true, proof: true, dbnames: false };
    old.proof = None;
    assert!(of(&old, &Again::default()).is_empty(), "the inventory allows it");
    let message = "the newest is 4w 3d old (max 26h)".to_owned();
    old.expected.push(Health {
        name: "nightly".to_owned(),
        source: "orders".to_owned(),
        kind: "postgres.base".to_owned(),
        store: "primary".to_owned(),
        level: Level::Critical,
        findings: vec![Finding { level: Level::Critical, message }],
        figures: Measured::default(),
    });
    advises(&old, Level::Critical, "`nightly`: the newest is 4w 3d old (max 26h): runbook backups health");
}

#[test]
fn a_restore_that_failed_after_one_that_passed_is_critical() {
    let mut failed = healthy();
    failed.proof.as_mut().expect("a proof").passed = false;
    let words =
        "the restore of backup `b1` failed its checks in run 20260101-000000-bbbbbb: runbook drill full-db-loss";
    advises(&failed, Level::Critical, words);
}

#[test]
fn a_copy_that_a_drill_found_damaged_is_told_until_its_store_knows_it() {
    let copy = Unkept {
        run: "20260101-000000-cccccc".parse().expect("an id"),
        backup: "b2".to_owned(),
        kind: "postgres.base".to_owned(),
        store: "primary".to_owned(),
        at: Timestamp::UNIX_EPOCH,
    };
    let status = Status { damaged: vec![copy], ..healthy() };
    advises(&status, Level::Warning, "runbook backups prove 20260101-000000-cccccc tells the store");
}

#[test]
fn an_entry_that_the_server_contradicts_comes_first_whatever_else_is_well() {
    let contradictions = vec![Contradiction { what: "another cluster".to_owned(), help: "correct it".to_owned() }];
    let server = ServerStatus { answers: true, contradictions, ..ServerStatus::default() };
    advises(&Status { server, ..healthy() }, Level::Critical, "another cluster: correct it");
}

#[test]
fn a_server_that_refuses_the_login_is_never_answered_with_a_restore() {
    let refusing = |refuses| Status { server: ServerStatus { refuses, ..ServerStatus::default() }, ..healthy() };
    advises(&refusing(Some(Refusal::Login)), Level::Critical, "nothing has to be restored");
    let lost = refusing(Some(Refusal::Session));
    advises(&lost, Level::Critical, "read its log first; if its data is gone: runbook restore orders");
    let startable = Some("pg_ctl start".to_owned());
    let stopped = Status { server: ServerStatus { startable, ..ServerStatus::default() }, ..healthy() };
    advises(&stopped, Level::Critical, "shut down in order, so start it: pg_ctl start; only if");
    // Stopped on purpose by a run that waits: a compromised server must not run again.
    let waiting = Unfinished {
        run: "20260101-000000-dddddd".parse().expect("an id"),
        name: "ransomware".to_owned(),
        status: RunStatus::Suspended,
        onward: Onward::Answer,
        has_stopped: true,
    };
    let ended = Stopper {
        run: "20260101-000000-eeeeee".parse().expect("an id"),
        name: "ransomware".to_owned(),
        outcome: Some(Outcome::Failed),
    };
    let stopped = Status { stopped_by: Some(ended), ..stopped };
    advises(&stopped, Level::Critical, "has stopped it and is over (failed), and no run since has started it");
    let held = of(&Status { unfinished: vec![waiting], ..stopped }, &Again::default());
    assert!(held.iter().any(|one| one.text.contains("`ransomware` has stopped it and has not ended")), "{held:?}");
    assert!(!held.iter().any(|one| one.text.contains("so start it")), "{held:?}");
    let down = Status { server: ServerStatus::default(), ..healthy() };
    advises(&down, Level::Critical, "the server does not answer: runbook restore orders");
    // One that crashed is started before anything is restored, and what may have brought it down comes first.
    let startable = Some("pg_ctl start".to_owned());
    let crashed = ServerStatus { startable, crashed: true, ..ServerStatus::default() };
    let words = "read its log, then start it: pg_ctl start (crash recovery brings back every commit); only if it does not come \
                 up: runbook restore orders";
    advises(&Status { server: crashed.clone(), ..healthy() }, Level::Critical, words);
    let full_disks = vec!["the disk of `/data` is full".to_owned()];
    let full = of(&Status { server: ServerStatus { full_disks, ..crashed }, ..healthy() }, &Again::default());
    assert!(full[0].text == "the disk of `/data` is full" && full[0].level == Level::Critical, "{full:?}");
}

#[test]
fn a_database_that_was_dropped_is_never_answered_with_a_restore_that_drops_it_again() {
    let lost = Some(LostDatabase { dbname: "shop".to_owned(), why: "it does not exist".to_owned() });
    let server = ServerStatus { answers: true, lost, ..ServerStatus::default() };
    let status = Status { server, ..healthy() };
    advises(&status, Level::Critical, "run restore-dump -p database=orders -p dbname=shop");
    advises(&status, Level::Critical, "runbook wal search orders --drops");
    assert!(!of(&status, &Again::default())[0].text.contains("runbook restore orders"));
    // One that dumps name: told as long as it may be missed.
    let (day, old) =
        (Timestamp::from_second(86_400).expect("a time"), Timestamp::from_second(9 * 86_400).expect("a time"));
    let missing = BTreeMap::from([("billing".to_owned(), Missing { dumped_at: day, is_shut: false })]);
    let mut status = Status { at: day, missing, ..healthy() };
    advises(&status, Level::Warning, "no database `billing` any more");
    advises(&status, Level::Warning, "run restore-dump -p database=orders -p dbname=billing");
    status.missing.insert("billing".to_owned(), Missing { dumped_at: day, is_shut: true });
    advises(&status, Level::Warning, "in `psql`: ALTER DATABASE \"billing\" ALLOW_CONNECTIONS true");
    assert!(!of(&status, &Again::default())[0].text.contains("restore-dump"));
    status.at = old;
    assert!(of(&status, &Again::default()).iter().all(|one| !one.text.contains("billing")));
}

#[test]
fn a_database_of_pgbackrest_is_sent_to_the_procedures_that_know_it() {
    let stanza = Some("main".to_owned());
    let mut down = Status { stanza, proof: None, drill: Some(drill(Outcome::Succeeded)), ..healthy() };
    down.drill.as_mut().expect("a drill").at = Some(Timestamp::UNIX_EPOCH);
    assert!(of(&down, &Again::default()).is_empty(), "its drill proves it");
    down.server.answers = false;
    advises(&down, Level::Critical, "runbook restore orders");
}
