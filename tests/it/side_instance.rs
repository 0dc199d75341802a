//! Backups restored beside a live database: real clusters, which must not notice.

use std::fs;

use runbook::action::{Action as _, ActionError, BackupHandle, PlanContext};
use runbook::actions::postgres::{Dump, Query, SideInstance, SideInstanceOutput, SideInstanceParams};
use serde_json::{Value, json};

use crate::support::recovery::{Run, Site};

fn params(backup: &BackupHandle, more: Value) -> SideInstanceParams {
    let mut with = json!({ "database": "main", "backup": backup });
    with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(with).unwrap()
}

async fn try_side(run: &Run<'_>, backup: &BackupHandle, more: Value) -> Result<SideInstanceOutput, ActionError> {
    SideInstance::new(env!("CARGO_BIN_EXE_runbook").into()).run(&params(backup, more), &run.context()).await
}

async fn side(run: &Run<'_>, backup: &BackupHandle, more: Value) -> SideInstanceOutput {
    try_side(run, backup, more).await.unwrap_or_else(|error| panic!("{:#?}", error.info()))
}

async fn ask(run: &Run<'_>, side: &SideInstanceOutput, sql: &str) -> Value {
    let params = json!({ "database": "main", "instance": side.instance, "sql": sql });
    Query.run(&serde_json::from_value(params).unwrap(), &run.context()).await.unwrap().value
}

fn now(site: &Site) -> String {
    let text =
        site.cluster.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    site.cluster.sql("SELECT pg_sleep(0.01)");
    text
}

/// Removes what the run registered, as the engine does at its end.
async fn remove(site: &Site, run: &Run<'_>) {
    let registered = site.notes.1.lock().unwrap().clone();
    for (resource, data) in registered.iter().rev() {
        SideInstance::default().remove(resource, data, &run.context()).await.unwrap();
    }
}

#[tokio::test]
async fn yesterdays_data_is_looked_at_beside_a_live_server_that_does_not_notice() {
    let site = Site::with(&[("shared_preload_libraries", "pg_stat_statements"), ("wal_level", "logical")]);
    let pid_file = site.cluster.dir().join("external.pid");
    site.cluster.sql(&format!("ALTER SYSTEM SET external_pid_file = '{}'", pid_file.display()));
    fs::write(&pid_file, "production's").unwrap();
    site.cluster.give(&pid_file);
    let location = site.cluster.folder("fast");
    site.cluster.sql(&format!("CREATE TABLESPACE fast LOCATION '{}'", location.display()));
    site.cluster.sql("CREATE TABLE t(n int) TABLESPACE fast; INSERT INTO t VALUES (1)");
    site.cluster.sql(
        "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=1 dbname=postgres' PUBLICATION p WITH (connect = false)",
    );
    site.cluster.sql("ALTER SUBSCRIPTION s ENABLE");
    let run = site.run();
    let backup = run.base_backup().await.backup;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    let then = now(&site);
    site.cluster.sql("DELETE FROM t");
    site.archive();
    let (stored, pid) = (site.stored().len(), site.cluster.pid());
    let copy = side(&run, &backup, json!({ "target_time": then, "memory": "2GiB" })).await;
    assert_eq!(ask(&run, &copy, "SELECT count(*) FROM t").await, json!(2));
    assert_eq!(copy.not_preloaded, ["pg_stat_statements"]);
    assert_eq!(copy.databases, ["postgres"]);
    assert!(
        copy.session.starts_with("psql -h ") && copy.session.ends_with("-U postgres -d postgres"),
        "{}",
        copy.session
    );
    for (sql, value) in [
        ("SELECT count(*) FROM pg_subscription WHERE subenabled", json!(0)),
        ("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'logical%'", json!(0)),
        ("SHOW listen_addresses", json!("")),
        ("SHOW archive_mode", json!("off")),
        ("SHOW archive_command", json!("(disabled)")),
        ("SHOW external_pid_file", json!("")),
        ("SHOW shared_preload_libraries", json!("")),
    ] {
        assert_eq!(ask(&run, &copy, sql).await, value, "{sql}");
    }
    let postmaster = fs::read_to_string(copy.instance.pgdata.join("postmaster.pid")).unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", postmaster.lines().next().unwrap())).unwrap();
    let address_space = limits.lines().find(|line| line.starts_with("Max address space")).unwrap();
    assert!(address_space.contains("2147483648"), "{address_space}");
    assert_eq!(site.stored().len(), stored, "the side instance archived something");
    remove(&site, &run).await;
    assert!(!run.dir.join("side/main/copy").exists());
    assert_eq!((site.cluster.sql("SELECT count(*) FROM t"), site.cluster.pid()), ("0".to_owned(), pid));
    assert!(location.exists());
    assert_eq!(fs::read_to_string(pid_file).unwrap(), "production's");
}

#[tokio::test]
async fn a_step_that_is_made_again_begins_anew_and_another_steps_instance_is_left_alone() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let backup = run.base_backup().await.backup;
    let first = side(&run, &backup, json!({})).await;
    assert_eq!(ask(&run, &first, "SELECT count(*) FROM t").await, json!(1));
    let again = side(&run, &backup, json!({})).await;
    assert_eq!(ask(&run, &again, "SELECT count(*) FROM t").await, json!(1));
    let mut other = run.context();
    other.step = "other".parse().unwrap();
    let action = SideInstance::new(env!("CARGO_BIN_EXE_runbook").into());
    let error = action.run(&params(&backup, json!({})), &other).await.unwrap_err();
    assert!(error.to_string().contains("step `step` of this run has a side instance `copy`"), "{error}");
    let beside = action.run(&params(&backup, json!({ "name": "two" })), &other).await.unwrap();
    assert_eq!(ask(&run, &beside, "SELECT count(*) FROM t").await, json!(1));
    assert_eq!(ask(&run, &again, "SELECT count(*) FROM t").await, json!(1));
    remove(&site, &run).await;
    assert!(!run.dir.join("side/main/two").exists());
}

#[tokio::test]
async fn a_copy_that_would_lack_what_the_live_server_never_archived_is_refused_and_the_newest_is_made_with_a_warning() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let backup = run.base_backup().await.backup;
    site.cluster.sql("ALTER SYSTEM SET archive_command = ''");
    site.cluster.sql("SELECT pg_reload_conf()");
    site.cluster.sql("INSERT INTO t VALUES (2)");
    let then = now(&site);
    let error = try_side(&run, &backup, json!({ "target_time": then })).await.unwrap_err();
    let told = error.to_string();
    assert!(told.contains("would be missing in the copy (the live server archives no WAL)"), "{told}");
    assert!(
        error.info().help.as_ref().is_some_and(|help| help.contains("runbook wal status main")),
        "{:#?}",
        error.info()
    );
    remove(&site, &run).await;
    // What the archive leads to is a copy all the same, and it is said that it is not all.
    let newest = side(&site.run(), &backup, json!({})).await;
    assert_eq!(newest.databases, ["postgres"]);
    assert!(site.said().contains("warning: the live server has written WAL up to"), "{}", site.said());
    // A server that is down cannot finish anything: its own `pg_wal` tells that it holds more.
    site.cluster.stop("fast");
    let error = try_side(&site.run(), &backup, json!({ "target_time": then })).await.unwrap_err();
    assert!(error.to_string().contains("are only in the server's own `pg_wal`"), "{error}");
}

#[tokio::test]
async fn a_way_that_leads_nowhere_is_refused_before_a_byte_is_staged() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let backup = run.base_backup().await.backup;
    let verdict = async |more: Value| {
        let found = SideInstance::new(env!("CARGO_BIN_EXE_runbook").into());
        let found = found.check(&params(&backup, more), &run.check_context()).await.unwrap();
        (found.refused(), format!("{found:?}"))
    };
    let insert = |n: u32| {
        site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
        let segment = site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
        site.archive();
        segment
    };
    let before = now(&site);
    insert(2);
    let lost = insert(3);
    let after = now(&site);
    insert(4);
    let (refused, told) = verdict(json!({ "target_time": after })).await;
    assert!(!refused && told.contains("the archive leads there"), "{told}");
    let (refused, told) = verdict(json!({ "target_time": "2099-01-01T00:00:00Z" })).await;
    assert!(refused && told.contains("is still to come"), "{told}");
    // Neither the archive nor the server itself has that segment any more.
    let mut gone = 0;
    for folder in [site.depot.root.clone(), site.cluster.pgdata().join("pg_wal")] {
        gone += remove_named(&folder, &lost);
    }
    assert!(gone > 0, "no file of {lost}");
    let (refused, told) = verdict(json!({ "target_time": after })).await;
    assert!(
        refused && told.contains("nor does the server's own `pg_wal`") && told.contains("choose a moment before"),
        "{told}"
    );
    assert!(!told.contains("run pitr"), "no way to a copy is one that replaces the database: {told}");
    let (refused, told) = verdict(json!({ "target_time": before })).await;
    assert!(!refused, "{told}");
    assert!(!run.dir.join("side").exists(), "something was staged");
}

/// Removes the files below a folder whose names begin so; tells how many there were.
fn remove_named(folder: &std::path::Path, name: &str) -> usize {
    let mut removed = 0;
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            removed += remove_named(&entry.path(), name);
        } else if entry.file_name().to_string_lossy().starts_with(name) {
            fs::remove_file(entry.path()).unwrap();
            removed += 1;
        }
    }
    removed
}

#[tokio::test]
async fn a_dump_is_looked_at_in_an_empty_server_of_its_own() {
    let site = Site::new();
    site.cluster
        .sql("CREATE ROLE keeper; CREATE TABLE t(n int); INSERT INTO t VALUES (1), (2); ALTER TABLE t OWNER TO keeper");
    let run = site.run();
    let dumped = Dump.run(&serde_json::from_value(json!({ "database": "main" })).unwrap(), &run.context()).await;
    let dumped = dumped.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    let handle = dumped.backup.clone();
    site.cluster.sql("DELETE FROM t");
    let error = try_side(&run, &handle, json!({ "target_xid": 7 })).await.unwrap_err();
    assert!(error.to_string().contains("is a dump: it is of one moment"), "{error}");
    let copy = side(&run, &handle, json!({})).await;
    assert_eq!(ask(&run, &copy, "SELECT count(*) FROM t").await, json!(2));
    assert_eq!(ask(&run, &copy, "SELECT tableowner FROM pg_tables WHERE tablename = 't'").await, json!("keeper"));
    assert_eq!((copy.recovered_to_lsn.clone(), copy.recovered_to_time.is_some()), (None, true));
    assert_eq!(ask(&run, &copy, "SHOW listen_addresses").await, json!(""));
    let again = side(&run, &handle, json!({})).await;
    assert_eq!(ask(&run, &again, "SELECT count(*) FROM t").await, json!(2));
    remove(&site, &run).await;
    assert!(!run.dir.join("side/main/copy").exists());
}

#[test]
fn a_library_that_acts_by_itself_is_never_preloaded_and_a_name_leads_nowhere_else() {
    let site = Site::new();
    let run = site.run();
    let inventory = run.context().about.inventory;
    let cx = PlanContext {
        inventory: &inventory,
        mode: runbook::action::Mode::Real,
        scratch: std::path::Path::new("/nowhere"),
        host: "local",
    };
    let faults = |more: Value| {
        let mut with = json!({ "database": "main", "backup": { "$late": "steps.a.backup" } });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let faults = SideInstance::default().effects(&serde_json::from_value(with).unwrap(), &cx).unwrap_err();
        faults.into_iter().map(|fault| fault.message).collect::<Vec<_>>().join("; ")
    };
    assert!(faults(json!({ "preload": ["$libdir/pg_cron"] })).contains("acts by itself"));
    assert!(faults(json!({ "name": "../main" })).contains("no name of a side instance"));
    assert!(faults(json!({ "target_lsn": "0/1", "target_xid": 7 })).contains("at most one target"));
    assert!(faults(json!({ "memory": "1MiB" })).contains("256 MiB at least"));
}
