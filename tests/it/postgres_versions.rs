//! The same disasters with every supported major version of PostgreSQL.

use std::fs;

use runbook::action::Action as _;
use serde_json::json;

use crate::support::postgres::programs_of;
use crate::support::recovery::{Depot, Site};

/// A server with a tablespace is lost with its last commits unarchived; it comes back whole, and once more to a time.
async fn comes_back(major: u32) {
    let site = Site::by(programs_of(major), Depot::default(), &[]);
    let rows = || site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t");
    let place = site.cluster.folder("space");
    site.cluster.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", place.display()));
    site.cluster.sql("CREATE TABLE t(n int PRIMARY KEY) TABLESPACE space; INSERT INTO t VALUES (1)");
    assert!(site.cluster.sql("SHOW server_version").starts_with(&major.to_string()));
    let first = site.run();
    let backup = first.base_backup().await;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    let moment =
        site.cluster.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    // A promotion is known to the second only.
    site.cluster.sql("SELECT pg_sleep(1.1); INSERT INTO t VALUES (3)");
    site.archive();
    site.cluster.sql("INSERT INTO t VALUES (4)");
    site.cluster.kill();
    let staged = first.stage(&backup.backup).await;
    first.stop().await;
    let recovered = first.recover(&staged, json!({})).await;
    assert_eq!(rows(), "1,2,3,4", "{}", site.said());
    assert_eq!(recovered.timeline, 2);
    site.cluster.sql("INSERT INTO t VALUES (5)");
    site.archive();
    // The old base backup again, to a time on the old timeline, and then from the archive alone to the newest row.
    let second = site.run();
    let staged = second.stage(&backup.backup).await;
    second.stop().await;
    second.recover(&staged, json!({ "target_time": moment })).await;
    assert_eq!(rows(), "1,2", "{}", site.said());
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let third = site.run();
    let staged = third.stage(&backup.backup).await;
    third.recover(&staged, json!({ "timeline": 2 })).await;
    assert_eq!(rows(), "1,2,3,4,5", "{}", site.said());
}

#[tokio::test]
async fn postgresql_13_comes_back() {
    comes_back(13).await;
}

#[tokio::test]
async fn postgresql_14_comes_back() {
    comes_back(14).await;
}

#[tokio::test]
async fn postgresql_16_comes_back() {
    comes_back(16).await;
}

#[tokio::test]
async fn postgresql_17_comes_back() {
    comes_back(17).await;
}

#[tokio::test]
async fn postgresql_18_comes_back() {
    comes_back(18).await;
}

#[tokio::test]
async fn a_file_that_would_promote_a_standby_opens_no_server_that_is_looked_at() {
    let site = Site::by(programs_of(14), Depot::default(), &[]);
    let trigger = site.cluster.dir().join("trigger");
    site.cluster.configure(&[("promote_trigger_file", &trigger.display().to_string())]);
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let backup = run.base_backup().await;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.archive();
    fs::write(&trigger, "").unwrap();
    let staged = run.stage(&backup.backup).await;
    run.stop().await;
    let looked = run.recover(&staged, json!({ "action": "pause" })).await;
    assert_eq!(site.cluster.sql("SELECT pg_is_in_recovery(), count(*) FROM t"), "t|2");
    let open = json!({ "database": "main", "instance": looked.instance, "target": "here" });
    run.recover_with(open).await.unwrap();
    assert_eq!(site.cluster.sql("SELECT pg_is_in_recovery(), count(*) FROM t"), "f|2");
}

/// Up to 14 a server that recovers removes all statistics files of its `stats_temp_directory`.
#[tokio::test]
async fn a_drill_leaves_the_live_servers_statistics_alone() {
    let site = Site::by(programs_of(14), Depot::default(), &[]);
    let statistics = site.cluster.folder("statistics");
    site.cluster.sql(&format!("ALTER SYSTEM SET stats_temp_directory = '{}'", statistics.display()));
    let file = statistics.join("db_4711.stat");
    fs::write(&file, "the live server's").unwrap();
    site.cluster.give(&file);
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let backup = site.run().base_backup().await;
    site.archive();
    let site = site.drill();
    let run = site.run();
    let staged = run.stage(&backup.backup).await;
    run.recover(&staged, json!({})).await;
    let left: Vec<_> = fs::read_dir(&statistics).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [file]);
    let (resource, data) = site.notes.1.lock().unwrap().first().cloned().unwrap();
    runbook::actions::postgres::RestoreBase.remove(&resource, &data, &run.context()).await.unwrap();
}

/// Without the file the server runs on, and refuses to tell what it would read from it: that costs no backup.
#[tokio::test]
async fn a_server_that_lost_its_file_of_user_maps_is_backed_up_all_the_same() {
    let site = Site::by(programs_of(16), Depot::default(), &[]);
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    fs::remove_file(site.cluster.pgdata().join("pg_ident.conf")).unwrap();
    let refused = site.cluster.try_sql("SELECT * FROM pg_ident_file_mappings");
    assert!(!refused.status.success(), "what this test is about");
    site.run().base_backup().await;
}
