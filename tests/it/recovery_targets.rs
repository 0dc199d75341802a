//! Every way to say where a recovery ends, and what becomes of the server there, on real clusters.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runbook::action::{Action as _, ActionError, InstanceHandle};
use runbook::actions::postgres::{Fate, InstanceState, Query, RecoverOutput, RestorePoint};
use serde_json::{Value, json};

use crate::support::cli::until;
use crate::support::recovery::{Run, Site};
use crate::support::web::Web;

/// A site whose table has the rows 1 to 4, each committed on its own after the base backup of row 1.
struct Story {
    site: Site,
    backup: runbook::action::BackupHandle,
    /// Between the commits of rows 2 and 3.
    between: String,
    /// The transaction of row 3.
    third: u64,
}

impl Story {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let site = Site::with(settings);
        site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
        let backup = site.run().base_backup().await.backup;
        site.cluster.sql("INSERT INTO t VALUES (2)");
        site.cluster.sql("SELECT pg_create_restore_point('early')");
        let between = site.cluster.sql(
            "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM pg_sleep(0.01)",
        );
        site.cluster.sql("SELECT pg_sleep(0.01)");
        let third = site.cluster.sql("BEGIN; INSERT INTO t VALUES (3); SELECT txid_current(); COMMIT");
        site.cluster.sql("SELECT pg_create_restore_point('deployed')");
        site.cluster.sql("INSERT INTO t VALUES (4)");
        site.archive();
        Self { third: third.parse().unwrap(), site, backup, between }
    }

    async fn recovered(&self, run: &Run<'_>, target: Value) -> RecoverOutput {
        let staged = run.stage(&self.backup).await;
        run.stop().await;
        run.recover(&staged, target).await
    }

    fn rows(&self) -> String {
        self.site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t")
    }

    fn in_recovery(&self) -> String {
        self.site.cluster.sql("SELECT pg_is_in_recovery()")
    }
}

async fn goes_on(run: &Run<'_>, instance: &InstanceHandle, target: Value) -> Result<RecoverOutput, ActionError> {
    let mut with = json!({ "database": "main", "instance": instance });
    with.as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
    run.recover_with(with).await
}

#[tokio::test]
async fn each_target_gives_the_rows_up_to_it_and_without_it_those_before() {
    let story = Story::new(&[]).await;
    let targets = [
        // First: a promotion within the same second as a target time would make two timelines possible.
        (json!({ "target_time": story.between }), "1,2"),
        (json!({ "target": "immediate" }), "1"),
        // The timelines of the attempts before use the same numbers for transactions of their own.
        (json!({ "target_xid": story.third, "timeline": 1 }), "1,2,3"),
        (json!({ "target_xid": story.third, "inclusive": false, "timeline": 1 }), "1,2"),
        (json!({ "target_name": "deployed", "timeline": 1 }), "1,2,3"),
        (json!({ "target": "latest", "timeline": 1 }), "1,2,3,4"),
    ];
    for (target, rows) in targets {
        let run = story.site.run();
        let recovered = story.recovered(&run, target.clone()).await;
        assert_eq!(story.rows(), rows, "{target}: {}", story.site.said());
        assert_eq!((story.in_recovery().as_str(), recovered.state), ("f", InstanceState::Open), "{target}");
        assert!(recovered.archived.is_some() && recovered.instance.waits.is_none(), "{recovered:?}");
    }
}

#[tokio::test]
async fn a_server_that_waits_at_a_target_of_any_kind_is_seen_to_stand_there() {
    let story = Story::new(&[]).await;
    let end = story.site.cluster.sql("SELECT pg_create_restore_point('end')");
    story.site.cluster.sql("INSERT INTO t VALUES (5)");
    story.site.archive();
    let run = story.site.run();
    let first = story.recovered(&run, json!({ "target": "immediate", "action": "pause" })).await;
    for (target, rows) in [
        (json!({ "target_name": "early" }), "1,2"),
        (json!({ "target_time": story.between }), "1,2"),
        (json!({ "target_time": story.between, "inclusive": false }), "1,2"),
        (json!({ "target_xid": story.third, "inclusive": false }), "1,2"),
        (json!({ "target_xid": story.third }), "1,2,3"),
        (json!({ "target_lsn": end, "inclusive": false }), "1,2,3,4"),
        (json!({ "target_lsn": end }), "1,2,3,4"),
    ] {
        let mut with = target.clone();
        with["action"] = json!("pause");
        let on = goes_on(&run, &first.instance, with).await.unwrap_or_else(|error| panic!("{target}: {error}"));
        assert_eq!((on.state, story.rows().as_str()), (InstanceState::Paused, rows), "{target}");
    }
    assert!(!story.site.said().contains("replay is paused"), "{}", story.site.said());
}

/// `ALTER SYSTEM` writes in the encoding of its database, and is content with it.
#[tokio::test]
async fn settings_in_another_encoding_survive_a_recovery_byte_for_byte() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    site.cluster.sql("CREATE DATABASE lat ENCODING 'LATIN1' TEMPLATE template0");
    site.cluster.sql("ALTER DATABASE lat SET client_encoding = 'UTF8'");
    site.cluster.sql_in("lat", "ALTER SYSTEM SET search_path = 'schéma', public");
    let auto = site.cluster.pgdata().join("postgresql.auto.conf");
    let has = |auto: &Path| fs::read(auto).unwrap().windows(6).any(|bytes| bytes == b"sch\xE9ma");
    assert!(has(&auto));
    let backup = site.run().base_backup().await.backup;
    site.archive();
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.stop().await;
    let looked = run.recover(&staged, json!({ "target": "immediate", "action": "pause" })).await;
    goes_on(&run, &looked.instance, json!({ "target": "here" })).await.unwrap();
    assert!(has(&auto) && fs::read_to_string(&auto).is_err(), "its bytes are as they were");
    assert!(!fs::read(&auto).unwrap().windows(7).any(|bytes| bytes == b"runbook"), "and the recovery's are gone");
}

#[tokio::test]
async fn a_transaction_that_only_an_older_timeline_has_is_found_there() {
    let story = Story::new(&[]).await;
    story.recovered(&story.site.run(), json!({ "target_time": story.between })).await;
    story.site.cluster.sql("SELECT pg_create_restore_point('after')");
    story.site.archive();
    let recovered = story.recovered(&story.site.run(), json!({ "target_xid": story.third })).await;
    assert_eq!(story.rows(), "1,2,3");
    assert_eq!(recovered.timeline, 3);
    let nowhere = story.site.run();
    let staged = nowhere.stage(&story.backup).await;
    nowhere.stop().await;
    let error = nowhere.try_recover(&staged, json!({ "target_name": "never" })).await.unwrap_err();
    assert!(error.to_string().contains("contains the restore point `never`"), "{error}");
    assert!(error.info().help.as_deref().unwrap_or_default().contains("is as it was"), "{error:?}");
}

#[tokio::test]
async fn what_no_wal_contains_is_refused_before_the_swap_also_with_one_timeline_and_the_tail_is_searched() {
    let story = Story::new(&[]).await;
    story.site.cluster.sql("SELECT pg_create_restore_point('unarchived')");
    story.site.cluster.sql("INSERT INTO t VALUES (5)");
    let run = story.site.run();
    let staged = run.stage(&story.backup).await;
    run.stop().await;
    for (target, words) in [
        (json!({ "target_name": "befor-release" }), "contains the restore point `befor-release`"),
        (json!({ "target_xid": 4_000_000 }), "contains transaction 4000000"),
        (json!({ "target_xid": 4_000_000, "timeline": 1 }), "contains transaction 4000000"),
    ] {
        let error = run.try_recover(&staged, target).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.info().help.as_deref().unwrap_or_default().contains("is as it was"), "{error:?}");
    }
    // The old server's own WAL has it, though the archive does not.
    run.recover(&staged, json!({ "target_name": "unarchived" })).await;
    assert_eq!(story.rows(), "1,2,3,4");
}

#[tokio::test]
async fn a_recovery_that_pauses_can_be_read_goes_on_and_opens_where_it_is() {
    let story = Story::new(&[]).await;
    let run = story.site.run();
    let looked = story.recovered(&run, json!({ "target_time": story.between, "action": "pause" })).await;
    assert_eq!(
        (looked.state, story.rows().as_str(), story.in_recovery().as_str()),
        (InstanceState::Paused, "1,2", "t")
    );
    let back = goes_on(&run, &looked.instance, json!({ "target": "immediate" })).await.unwrap_err();
    assert!(back.to_string().contains("cannot go back"), "{back}");
    let on = json!({ "target_xid": story.third, "action": "pause" });
    let further = goes_on(&run, &looked.instance, on).await.unwrap();
    assert_eq!(
        (further.state, story.rows().as_str(), story.in_recovery().as_str()),
        (InstanceState::Paused, "1,2,3", "t")
    );
    // What replay has passed is refused before the server is touched: it can still be read, and go on.
    let begun = story.site.cluster.sql("SELECT pg_postmaster_start_time()");
    for behind in [json!({ "target_xid": story.third }), json!({ "target_name": "early" })] {
        let error = goes_on(&run, &further.instance, behind).await.unwrap_err();
        assert!(error.to_string().contains("cannot go back"), "{error}");
    }
    assert_eq!((story.rows().as_str(), story.site.cluster.sql("SELECT pg_postmaster_start_time()")), ("1,2,3", begun));
    let named = json!({ "target_name": "deployed", "action": "pause" });
    let further = goes_on(&run, &further.instance, named).await.unwrap();
    assert_eq!((further.state, story.rows().as_str()), (InstanceState::Paused, "1,2,3"));
    let open = goes_on(&run, &further.instance, json!({ "target": "here" })).await.unwrap();
    assert_eq!((open.state, open.timeline, story.in_recovery().as_str()), (InstanceState::Open, 2, "f"));
    assert!(open.archived.is_some());
    story.site.cluster.sql("INSERT INTO t VALUES (9)");
    assert_eq!(story.rows(), "1,2,3,9");
    let auto = fs::read_to_string(story.site.cluster.pgdata().join("postgresql.auto.conf")).unwrap();
    assert!(!auto.contains("recovery_target") && !auto.contains("restore_command"), "{auto}");
    for name in ["runbook-restore.json", "runbook-fetch.json", "standby.signal", "recovery.signal"] {
        assert!(!story.site.cluster.pgdata().join(name).exists(), "`{name}` is left");
    }
    let again = goes_on(&run, &open.instance, json!({})).await.unwrap_err();
    assert!(again.to_string().contains("does not wait"), "{again}");
}

#[tokio::test]
async fn a_paused_recovery_makes_room_for_an_earlier_target_in_the_same_run() {
    let story = Story::new(&[]).await;
    let location = story.site.cluster.folder("fast");
    let run = story.site.run();
    story.site.cluster.sql(&format!("CREATE TABLESPACE fast LOCATION '{}'", location.display()));
    story.site.cluster.sql("CREATE TABLE f(n int) TABLESPACE fast; INSERT INTO f VALUES (7)");
    let backup = run.base_backup().await.backup;
    let early = story.site.cluster.sql("SELECT pg_current_wal_insert_lsn()");
    story.site.cluster.sql("INSERT INTO f VALUES (8)");
    let staged = run.stage(&backup).await;
    run.stop().await;
    let first = run.recover(&staged, json!({ "action": "pause" })).await;
    let read = || story.site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM f");
    assert_eq!((first.state, read().as_str()), (InstanceState::Paused, "7,8"));
    let staged = run.stage(&backup).await;
    let second = run.recover(&staged, json!({ "target_lsn": early, "inclusive": false })).await;
    assert_eq!((second.state, read().as_str()), (InstanceState::Open, "7"), "{}", story.site.said());
    let beside: Vec<String> = fs::read_dir(story.site.cluster.dir())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(".runbook-"))
        .collect();
    assert_eq!(beside.len(), 2, "only what was there before is kept: {beside:?}");
    assert!(second.kept.unwrap().join("PG_VERSION").exists());
}

#[tokio::test]
async fn a_standby_follows_the_archive_and_opens_when_it_is_told() {
    let story = Story::new(&[]).await;
    let run = story.site.run();
    let standby = story.recovered(&run, json!({ "action": "standby" })).await;
    assert_eq!(
        (standby.state, story.rows().as_str(), story.in_recovery().as_str()),
        (InstanceState::Standby, "1,2,3,4", "t")
    );
    assert!(story.site.cluster.pgdata().join("standby.signal").exists());
    let open = goes_on(&run, &standby.instance, json!({ "target": "here" })).await.unwrap();
    assert_eq!((open.state, story.in_recovery().as_str()), (InstanceState::Open, "f"));
    story.site.cluster.sql("INSERT INTO t VALUES (5)");
}

#[tokio::test]
async fn what_was_destroyed_again_after_a_rescued_tail_comes_back_from_the_old_backup_and_the_archive_alone() {
    let story = Story::new(&[]).await;
    story.site.cluster.sql("INSERT INTO t VALUES (5)");
    story.site.cluster.kill();
    story.recovered(&story.site.run(), json!({})).await;
    assert_eq!(story.rows(), "1,2,3,4,5");
    story.site.cluster.sql("INSERT INTO t VALUES (6)");
    story.site.archive();
    story.site.cluster.kill();
    fs::remove_dir_all(story.site.cluster.pgdata()).unwrap();
    let recovered = story.recovered(&story.site.run(), json!({})).await;
    assert_eq!((story.rows().as_str(), recovered.timeline), ("1,2,3,4,5,6", 3));
}

#[tokio::test]
async fn tables_that_no_recovery_brings_back_are_named_before_and_after() {
    let site = Site::new();
    site.cluster.sql("CREATE DATABASE shop");
    site.cluster
        .sql_in("shop", "CREATE UNLOGGED TABLE cache AS SELECT generate_series(1, 10) AS n; CREATE TABLE t(n int)");
    let run = site.run();
    let backup = run.base_backup().await;
    let staged = run.stage(&backup.backup).await;
    let ahead = run.check_ahead(&staged, json!({})).await;
    assert!(format!("{:?}", ahead.0).contains("1 unlogged: shop: public.cache"), "{:?}", ahead.0);
    run.stop().await;
    let recovered = run.recover(&staged, json!({})).await;
    assert_eq!(recovered.emptied, ["shop: public.cache"]);
    assert!(site.said().contains("tables are empty, as every recovery leaves them"), "{}", site.said());
    assert_eq!(site.cluster.sql_in("shop", "SELECT count(*) FROM cache"), "0");
}

#[tokio::test]
async fn slots_come_back_prepared_transactions_are_told_and_settings_the_wal_needs_are_raised() {
    let site = Site::with(&[("max_prepared_transactions", "0"), ("wal_level", "logical"), ("max_connections", "40")]);
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let backup = run.base_backup().await.backup;
    // Raised after the backup: its own configuration has both lower.
    site.cluster.stop("fast");
    site.cluster.configure(&[("max_prepared_transactions", "5"), ("max_connections", "60")]);
    site.cluster.up();
    site.cluster.sql("SELECT pg_create_physical_replication_slot('standby_1')");
    site.cluster.sql("SELECT pg_create_logical_replication_slot('reports', 'pgoutput')");
    site.cluster.sql(
        "CREATE SUBSCRIPTION \"Prices\" CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false, slot_name = 'prices')",
    );
    site.cluster.sql("ALTER SUBSCRIPTION \"Prices\" ENABLE");
    site.cluster.sql("BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'order-77'");
    site.cluster.sql("INSERT INTO t VALUES (3)");
    site.cluster.kill();
    let staged = run.stage(&backup).await;
    run.stop().await;
    let recovered = run.recover(&staged, json!({})).await;
    assert_eq!(site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), "1,3");
    assert_eq!(recovered.prepared.len(), 1, "{recovered:?}");
    assert!(recovered.prepared[0].contains("order-77"), "{recovered:?}");
    let mut fates: Vec<(&str, Fate)> = recovered.slots.iter().map(|slot| (slot.name.as_str(), slot.fate)).collect();
    fates.sort_by_key(|(name, _)| *name);
    assert_eq!(fates, [("reports", Fate::Lost), ("standby_1", Fate::Recreated)]);
    assert_eq!(site.cluster.sql("SELECT string_agg(slot_name, ',') FROM pg_replication_slots"), "standby_1");
    assert!(site.said().contains("max_prepared_transactions"), "{}", site.said());
    assert_eq!(recovered.subscriptions, ["Prices (postgres)"]);
    let said = site.said();
    assert!(
        said.contains("slot `prices` of its publisher") && said.contains("ALTER SUBSCRIPTION \"Prices\" DISABLE"),
        "{said}"
    );
    site.cluster.sql("COMMIT PREPARED 'order-77'");
    assert_eq!(site.cluster.sql("SELECT count(*) FROM t"), "3");
}

#[tokio::test]
async fn slots_that_the_restored_configuration_has_no_room_for_are_told_and_temporary_ones_stay_gone() {
    let site = Site::with(&[("max_replication_slots", "2")]);
    let run = site.run();
    let backup = run.base_backup().await.backup;
    site.cluster.stop("fast");
    site.cluster.configure(&[("max_replication_slots", "9")]);
    site.cluster.up();
    for number in 1..=3 {
        site.cluster.sql(&format!("SELECT pg_create_physical_replication_slot('standby_{number}')"));
    }
    let holding = "SELECT pg_create_physical_replication_slot('copying', false, true); SELECT pg_sleep(600)";
    let mut copying = site.cluster.client("postgres", holding).stdout(std::process::Stdio::null()).spawn().unwrap();
    until("the temporary slot is there", || site.cluster.sql("SELECT count(*) FROM pg_replication_slots") == "4");
    site.cluster.kill();
    let _ended = copying.wait().unwrap();
    let staged = run.stage(&backup).await;
    run.stop().await;
    let recovered = run.recover(&staged, json!({})).await;
    let with = |fate: Fate| recovered.slots.iter().filter(|slot| slot.fate == fate).count();
    assert_eq!((with(Fate::Recreated), with(Fate::Failed), recovered.slots.len()), (2, 1, 3), "{:?}", recovered.slots);
    let failed = recovered.slots.iter().find(|slot| slot.fate == Fate::Failed).unwrap();
    let statement = format!("SELECT pg_create_physical_replication_slot('{}')", failed.name);
    let said = site.said();
    assert!(said.contains(&statement) && said.contains("`max_replication_slots` at 3"), "{said}");
    site.cluster.sql("ALTER SYSTEM SET max_replication_slots = 3");
    site.cluster.stop("fast");
    site.cluster.up();
    site.cluster.sql(&statement);
}

/// A process of that name that was started with a configuration, and does nothing.
fn watcher(site: &Site, name: &str, config: &Path) -> std::process::Child {
    let script = site.cluster.dir().join(name);
    fs::write(&script, "#!/bin/sh\nexec 3>\"$1.began\"\nread never\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let child = std::process::Command::new(&script).arg(config).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let began = config.with_extension(format!("{}.began", config.extension().unwrap().display()));
    until("it runs", || began.exists());
    child
}

#[tokio::test]
async fn a_server_that_repmgrd_looks_after_is_not_recovered_while_it_runs() {
    let site = Site::new();
    let run = site.run();
    let backup = run.base_backup().await.backup;
    let staged = run.stage(&backup).await;
    run.stop().await;
    let config = site.cluster.dir().join("repmgr.conf");
    let named = |folder: &Path| fs::write(&config, format!("data_directory='{}'\n", folder.display())).unwrap();
    named(&site.cluster.pgdata());
    let mut repmgrd = watcher(&site, "repmgrd", &config);
    let refused = serde_json::to_string(&run.check_recover(&staged, json!({})).await.0).unwrap();
    let error = run.try_recover(&staged, json!({})).await.unwrap_err();
    // It looks after another server.
    named(Path::new("/var/lib/other"));
    let recovered = run.try_recover(&staged, json!({})).await;
    repmgrd.kill().unwrap();
    repmgrd.wait().unwrap();
    assert!(refused.contains("`repmgrd`") && refused.contains("repmgr service pause"), "{refused}");
    assert!(error.to_string().contains("looks after database `main`"), "{error}");
    recovered.unwrap();
}

#[tokio::test]
async fn a_program_that_looks_after_the_server_is_found_until_it_is_paused() {
    let site = Site::new();
    let run = site.run();
    let backup = run.base_backup().await.backup;
    let staged = run.stage(&backup).await;
    run.stop().await;
    let pgdata = site.cluster.pgdata();
    let config = site.cluster.dir().join("patroni.yml");
    fs::write(&config, format!("postgresql:\n  data_dir: {}\n", pgdata.display())).unwrap();
    let mut patroni = watcher(&site, "patroni", &config);
    let refused = serde_json::to_string(&run.check_recover(&staged, json!({})).await.0).unwrap();
    let error = run.try_recover(&staged, json!({})).await.unwrap_err();
    // The copy in the data directory may be older than the last word, and is gone with a lost disk.
    let paused = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = std::sync::Arc::clone(&paused);
    let api = Web::start(move |_| {
        let pause = if told.load(std::sync::atomic::Ordering::SeqCst) { ", \"pause\": true" } else { "" };
        (200, format!("{{\"state\": \"stopped\", \"patroni\": {{\"version\": \"4.0.4\"}}{pause}}}"))
    });
    let address = api.url("").replace("http://", "");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}restapi:\n  listen: 0.0.0.0:1\n  connect_address: {address}\n")).unwrap();
    fs::write(pgdata.join("patroni.dynamic.json"), "{\"pause\": true, \"ttl\": 30}").unwrap();
    let stale = run.try_recover(&staged, json!({})).await.unwrap_err();
    fs::remove_dir_all(&pgdata).unwrap();
    paused.store(true, std::sync::atomic::Ordering::SeqCst);
    let recovered = run.try_recover(&staged, json!({})).await;
    patroni.kill().unwrap();
    patroni.wait().unwrap();
    assert!(refused.contains("`patroni`") && refused.contains("patronictl pause"), "{refused}");
    assert!(refused.contains("names no `restapi`"), "{refused}");
    assert!(stale.to_string().contains("looks after database `main`"), "{stale}");
    assert!(api.at("/patroni").len() >= 2);
    assert!(error.to_string().contains("looks after database `main`"), "{error}");
    recovered.unwrap();
}

#[tokio::test]
async fn a_standby_that_answers_is_named_as_the_faster_way_before_anything_is_stopped() {
    let site = Site::with(&[("max_wal_senders", "5"), ("wal_keep_size", "64MB")]);
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let standby = site.standby();
    until("it follows", || site.cluster.sql("SELECT count(*) FROM pg_stat_replication") == "1");
    let backup = site.run().base_backup().await.backup;
    let run = site.run();
    let staged = run.stage(&backup).await;
    let found = run.check_ahead(&staged, json!({})).await;
    let told = serde_json::to_string(&found.0).unwrap();
    assert!(told.contains(&format!("127.0.0.1:{}", standby.port())) && told.contains("faster way"), "{told}");
    // It came before the backup or after it: the server itself tells.
    assert!(told.contains("standbys follow this server, and keep what a recovery gives up"), "{told}");
    let described = site.manifests();
    assert!(described.contains("\"standbys\""), "{described}");
    // It has what happened since a target as well.
    let before = json!({ "target_lsn": site.cluster.sql("SELECT pg_current_wal_lsn()") });
    let told = serde_json::to_string(&run.check_ahead(&staged, before).await.0).unwrap();
    assert!(!told.contains("faster way"), "{told}");
    // At the place of one that is gone a standby of another cluster may answer.
    let other = Site::with(&[("max_wal_senders", "5"), ("wal_keep_size", "64MB")]);
    let foreign = other.standby();
    let fact = format!("127.0.0.1:{}", foreign.port());
    site.standbys.lock().unwrap().push(fact.clone());
    drop(standby);
    let told = serde_json::to_string(&run.check_ahead(&staged, json!({})).await.0).unwrap();
    assert!(!told.contains(&fact) && !told.contains("faster way"), "{told}");
    drop(foreign);
    let told = serde_json::to_string(&run.check_ahead(&staged, json!({})).await.0).unwrap();
    assert!(!told.contains("faster way"), "{told}");
}

#[test]
fn combinations_that_mean_nothing_are_refused_before_anything_runs() {
    let site = Site::new();
    let run = site.run();
    let staged = json!({ "database": "main", "backup": { "database": "main", "store": "primary", "id": "x", "kind": "postgres.base", "manifest": "0000000000000000000000000000000000000000000000000000000000000000" }, "dir": "/x" });
    for (with, word) in [
        (json!({ "staged": staged, "target": "immediate", "target_xid": 7 }), "at most one target"),
        (json!({ "staged": staged, "inclusive": false }), "can be left out"),
        (json!({ "staged": staged, "target_xid": 7, "action": "standby" }), "stops at no target"),
        (json!({ "target_xid": 7 }), "exactly one of"),
        (json!({ "staged": staged, "target": "here" }), "opens an `instance`"),
        (json!({ "staged": staged, "timeline": 0 }), "no timeline 0"),
    ] {
        let fault = run.faults_of_recover(with.clone());
        assert!(fault.contains(word), "{with}: {fault}");
    }
}

#[tokio::test]
async fn what_a_backup_brought_along_neither_clears_an_archive_nor_leads_to_another_server() {
    let site = Site::with(&[("max_wal_senders", "5"), ("wal_keep_size", "64MB")]);
    let ran = site.cluster.folder("cleaned").join("ran");
    site.cluster.configure(&[("archive_cleanup_command", &format!("touch {}", ran.display()))]);
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    // A standby shows that the command is one: it runs at each of its restartpoints.
    let standby = site.standby();
    site.cluster.sql("CHECKPOINT");
    let caught_up = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", site.cluster.sql("SELECT pg_current_wal_lsn()"));
    until("the standby has caught up", || standby.sql(&caught_up) == "t");
    standby.sql("CHECKPOINT");
    assert!(ran.exists(), "{}", standby.log());
    drop(standby);
    fs::remove_file(&ran).unwrap();
    let elsewhere = format!("host=127.0.0.1 port={} user=postgres", site.cluster.port());
    site.cluster.sql(&format!("ALTER SYSTEM SET primary_conninfo = '{elsewhere}'"));
    let backup = site.run().base_backup().await.backup;
    site.cluster.sql("INSERT INTO t VALUES (2); CHECKPOINT");
    site.archive();
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.stop().await;
    let looked = run.recover(&staged, json!({ "action": "pause" })).await;
    assert_eq!(looked.state, InstanceState::Paused, "{}", site.said());
    site.cluster.sql("CHECKPOINT");
    assert!(!ran.exists(), "the recovery ran the restored `archive_cleanup_command`");
    let settings = "SELECT current_setting('primary_conninfo') || (SELECT count(*) FROM pg_stat_wal_receiver)";
    assert_eq!(site.cluster.sql(settings), "0");
    goes_on(&run, &looked.instance, json!({ "target": "here" })).await.unwrap();
    until("its own settings count again", || site.cluster.sql("SHOW primary_conninfo") == elsewhere);
}

#[tokio::test]
async fn a_promotion_is_followed_by_its_checkpoint_and_commits_that_would_wait_are_told() {
    let story = Story::new(&[("checkpoint_timeout", "30min"), ("shared_buffers", "32MB")]).await;
    // Written, and not reloaded: production goes on, what is restored from here on waits.
    story.site.cluster.configure(&[("synchronous_standby_names", "nobody")]);
    let run = story.site.run();
    let backup = run.base_backup().await.backup;
    story.site.cluster.sql("CREATE TABLE many AS SELECT n, repeat('x', 900) FROM generate_series(1, 8000) n");
    story.site.archive();
    let staged = run.stage(&backup).await;
    run.stop().await;
    let looked = run.recover(&staged, json!({ "action": "pause" })).await;
    assert_eq!(looked.waits_for_standby, None, "a server that waits takes no commits");
    let open = goes_on(&run, &looked.instance, json!({ "target": "here" })).await.unwrap();
    // The server's own checkpoint after a promotion is spread over many minutes.
    let timeline = "SELECT timeline_id FROM pg_control_checkpoint()";
    assert_eq!(story.site.cluster.sql(timeline), open.timeline.to_string(), "{}", story.site.said());
    assert_eq!(open.waits_for_standby.as_deref(), Some("nobody"));
    assert!(story.site.said().contains("every commit waits"), "{}", story.site.said());
    story.site.cluster.sql("SET synchronous_commit = local; INSERT INTO t VALUES (9)");
    story.site.cluster.sql("ALTER SYSTEM SET synchronous_standby_names = ''");
    story.site.cluster.sql("SELECT pg_reload_conf()");
    until("commits go on", || story.site.cluster.sql("SHOW synchronous_standby_names").is_empty());
    story.site.cluster.sql("INSERT INTO t VALUES (10)");
}

#[tokio::test]
async fn a_restore_point_waits_until_its_segment_is_archived_and_says_or_refuses_when_it_is_late() {
    let site = Site::new();
    let run = site.run();
    let make = async |more: Value| {
        let mut with = json!({ "database": "main", "name": "before" });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        RestorePoint.run(&serde_json::from_value(with).unwrap(), &run.context()).await
    };
    let made = make(json!({})).await.unwrap();
    assert!(made.archived && site.stored().iter().any(|name| name.starts_with(&made.segment)), "{made:?}");
    let archive_with = |command: &str| {
        site.cluster.sql(&format!("ALTER SYSTEM SET archive_command = '{command}'"));
        site.cluster.sql("SELECT pg_reload_conf()");
    };
    archive_with("false # wal push ");
    let late = make(json!({ "within": "1s" })).await.unwrap();
    assert!(!late.archived, "{late:?}");
    assert!(
        site.said().contains(&format!("`{}` did not reach the archive within 1s", late.segment)),
        "{}",
        site.said()
    );
    let refused = make(json!({ "within": "1s", "on_late": "fail" })).await.unwrap_err();
    assert!(refused.to_string().contains("nobody can recover to the restore point"), "{refused}");
    // Another program's archive is known by the archiver's word alone.
    archive_with("true");
    assert!(make(json!({})).await.unwrap().archived);
}

#[tokio::test]
async fn a_drill_waits_for_a_segment_that_a_later_one_overtook_on_its_way() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int)");
    let backup = site.run().base_backup().await;
    for n in 1..=3 {
        site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
        site.archive();
    }
    let site = site.drill();
    let run = site.run();
    let staged = run.stage(&backup.backup).await;
    let segments = segments(&site);
    let [.., overtaken, later] = segments.as_slice() else { panic!("{segments:?}") };
    let aside = site.cluster.dir().join("aside");
    fs::rename(overtaken, &aside).unwrap();
    // It came just now.
    let bytes = fs::read(later).unwrap();
    fs::write(later, bytes).unwrap();
    let arrives = async {
        while !site.said().contains("looking again") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        fs::rename(&aside, overtaken).unwrap();
    };
    let (recovered, ()) = tokio::join!(run.recover(&staged, json!({})), arrives);
    let params = json!({ "database": "main", "instance": recovered.instance, "sql": "SELECT count(*) FROM t" });
    let answer = Query.run(&serde_json::from_value(params).unwrap(), &run.context()).await.unwrap();
    assert_eq!(answer.value, json!(3));
}

/// The files of the archived segments, in order.
fn segments(site: &Site) -> Vec<PathBuf> {
    let wal = site.depot.root.join("main/wal");
    let cluster = fs::read_to_string(wal.join("cluster")).unwrap();
    let folder = wal.join(cluster.trim()).join("00000001");
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().len() == 24);
    found.retain(|path| !path.to_str().unwrap().contains(".backup"));
    found.sort();
    found
}
