//! Which backup a point-in-time recovery begins with, and what is refused while production still runs.

use std::fs;

use serde_json::Value;

use crate::support::cli::Cli;
use crate::support::moto::Moto;
use crate::support::place::key;
use crate::support::postgres::Cluster;
use crate::support::production::Production;
use crate::support::recovery::{Depot, Known};
use crate::support::s3::{self, BUCKET, Behind, entry, open};

const REAL: [&str; 4] = ["-p", "incident_at=now", "--confirm", "production"];

fn pitr(cli: &Cli, mode: &str, given: &[&str]) -> crate::support::cli::Ran {
    let mut all = vec![mode, "pitr", "-p", "database=main"];
    given.iter().for_each(|one| all.extend(["-p", *one]));
    if mode != "drill" {
        all.extend(&REAL[..2]);
    }
    if mode == "run" {
        all.extend(&REAL[2..]);
    }
    cli.run(&all)
}

fn started(cluster: &Cluster) -> String {
    cluster.sql("SELECT pg_postmaster_start_time(), pg_is_in_recovery()")
}

/// The backup that the one run took.
fn newest_backup(cli: &Cli) -> String {
    let of = |event: &Value| event["kind"]["output"]["backup"]["id"].as_str().map(str::to_owned);
    cli.journal().iter().find_map(of).expect("a backup")
}

/// The loss in a run's last event.
fn loss(cli: &Cli) -> Value {
    let journal = cli.journal();
    let ended = journal.iter().rfind(|event| event["kind"]["type"] == "run_finished").expect("it ended");
    ended["kind"]["figures"]["rpo"].clone()
}

#[test]
fn a_target_between_two_backups_is_recovered_from_the_older_one_and_one_that_is_nowhere_stops_nothing() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cluster.sql("SELECT pg_create_restore_point('before-release')");
    let lsn = cluster.sql("SELECT pg_current_wal_insert_lsn()");
    let xid = cluster.sql("BEGIN; DELETE FROM t WHERE n > 10; SELECT txid_current(); COMMIT");
    cli.run(&["run", "base-backup", "-p", "database=main", "--confirm", "production"]).ends(0);
    production.site.archive();
    let newest = newest_backup(cli);
    fs::remove_dir_all(cli.state()).unwrap();
    let before = started(cluster);
    // Nothing that cannot be reached stops anything: not a name that nobody gave, not a transaction that never was.
    let nowhere = pitr(cli, "run", &["recover_to_name=befor-release"]).ends(4);
    nowhere.says("no WAL that a recovery could replay contains the restore point `befor-release`");
    pitr(cli, "run", &["recover_to_xid=4000000"]).ends(4).says("transaction 4000000");
    let newest = format!("backup={newest}");
    let lsn = format!("recover_to_lsn={lsn}");
    pitr(cli, "run", &[&newest, &lsn]).ends(4).says("does not lead to");
    assert_eq!(started(cluster), before);
    // A drill sees the archive alone, and proves the rows of that moment.
    pitr(cli, "drill", &["recover_to_name=before-release"]).ends(0);
    // What only the running server has leads on from the archive.
    let last = cluster.sql("BEGIN; INSERT INTO t VALUES (5000); SELECT txid_current(); COMMIT");
    pitr(cli, "dry-run", &[&format!("recover_to_xid={last}")]).ends(0).prints("the server still has them");
    assert_eq!(started(cluster), before);
    fs::remove_dir_all(cli.state()).unwrap();
    pitr(cli, "run", &[&format!("recover_to_xid={xid}"), "inclusive=false"]).ends(0);
    assert_eq!(cluster.sql("SELECT count(*), sum(n) FROM t"), "1000|500500");
    let loss = loss(cli);
    assert!(loss["chosen_ms"].as_u64().is_some_and(|ms| ms > 0), "what lies after it was given up by choice: {loss}");
}

#[test]
fn a_dump_that_was_chosen_by_its_time_is_a_chosen_loss() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cluster.sql("CREATE DATABASE shop");
    cli.run(&["run", "daily-backup", "-p", "database=main", "--confirm", "production"]).ends(0);
    let before =
        cluster.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    fs::remove_dir_all(cli.state()).unwrap();
    let before = format!("before={before}");
    cli.run(&["drill", "restore-dump", "-p", "database=main", "-p", "dbname=shop", "-p", &before]).ends(0);
    let loss = loss(cli);
    assert!(loss["chosen_ms"].is_u64(), "{loss}");
}

#[test]
fn a_drill_in_which_no_step_takes_part_is_refused_and_counts_for_nothing() {
    let production = Production::new();
    let ran = production.cli.run(&["drill", "setup-archiving", "-p", "database=main"]).ends(4);
    ran.says("no step of `setup-archiving` takes part in a drill");
    assert!(production.cli.runs().is_empty());
}

/// A bucket that keeps versions.
fn versioned() -> (Moto, Depot) {
    let moto = Moto::start();
    Behind::at(&moto.url()).ask("PUT", BUCKET, &["x-amz-bucket-object-lock-enabled: true"]);
    let secrets = s3::secrets();
    let known = ["id", "key"].map(|name| (name.to_owned(), secrets.get(name).unwrap().reveal().to_owned()));
    let depot = Depot { entry: entry(&moto.url()), secrets: Known(known.into()), ..Depot::default() };
    (moto, depot)
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_backups_that_somebody_deleted_come_back_from_their_versions_before_one_is_chosen() {
    let (_moto, depot) = versioned();
    let store = open(&depot.entry);
    let production = Production::over(depot);
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let now =
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM pg_sleep(1.1)";
    let clean = cluster.sql(now);
    production.site.archive();
    let then = cluster.sql(now);
    // The server tells its times by the second.
    cluster.sql("SELECT pg_sleep(1.1)");
    for facts in store.list("main/base/").await.unwrap() {
        store.delete(&key(facts.key.as_str())).await.unwrap();
    }
    let (clean, then) = (format!("clean_at={clean}"), format!("versions_at={then}"));
    let run = ["run", "ransomware", "-p", "database=main", "-p", "store=primary", "-p", &clean];
    let without = cli.run(&[&run[..], &REAL].concat()).ends(4);
    without.says("there is no backup");
    assert_eq!(cluster.sql("SELECT count(*) FROM t"), "1000", "nothing was stopped");
    cli.run(&[&run[..], &["-p", &then], &REAL].concat()).ends(13);
    cli.run(&["approve", "last", "revoke", "--comment", "done"]).ends(0);
    cli.run(&["resume", "last"]).ends(13);
    assert_eq!((cli.status("choose").as_str(), cli.status("examine").as_str()), ("succeeded", "succeeded"));
}
