//! A recovery that another run takes up, and one that opened and was never proven: real clusters.

use std::fs;
use std::path::PathBuf;

use runbook::action::{Action, BackupHandle};
use runbook::actions::postgres::{InstanceState, Recover, RecoverOutput, Start};
use runbook::event::ErrorClass;
use serde_json::{Value, json};

use crate::support::recovery::{Run, Site};

fn rows(site: &Site) -> String {
    site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t")
}

fn insert(site: &Site, n: u32) {
    site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
}

/// A backup of row 1; row 2, a restore point and row 3 are archived.
async fn filled(site: &Site) -> BackupHandle {
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let backup = site.run().base_backup().await.backup;
    insert(site, 2);
    site.cluster.sql("SELECT pg_create_restore_point('here')");
    insert(site, 3);
    site.archive();
    backup
}

/// Demands that a run has frozen the backups.
#[track_caller]
fn is_frozen_by(run: &Run<'_>, site: &Site) {
    assert!(site.stored().contains(&format!("{}.json", run.id)), "{:?}", site.stored());
}

#[tokio::test]
async fn a_recovery_that_waits_is_taken_up_as_it_was_asked_and_opens_without_a_store_that_died() {
    let site = Site::new();
    site.archive_offsite();
    let backup = filled(&site).await;
    let first = site.run();
    let staged = first.stage(&backup).await;
    first.stop().await;
    let asked = json!({ "target_name": "here", "action": "pause" });
    let looked = first.recover(&staged, asked.clone()).await;
    assert_eq!((looked.state, rows(&site).as_str()), (InstanceState::Paused, "1,2"));

    let second = site.run();
    let refused = |target: Value| {
        let (run, staged) = (&second, &staged);
        async move { run.try_recover(staged, target).await.unwrap_err() }
    };
    let opens = refused(json!({ "target_name": "here" })).await;
    assert!(opens.to_string().contains("has another `action` at its end"), "{opens}");
    let along = refused(json!({ "target_name": "here", "action": "pause", "timeline": 2 })).await;
    assert!(along.to_string().contains("has another timeline"), "{along}");
    assert_eq!(rows(&site), "1,2", "it waits as before");
    let foreign = site.run().stage(&backup).await;
    let ahead = format!("{:?}", second.check_ahead(&foreign, json!({})).await);
    let error = second.try_recover(&foreign, json!({})).await.unwrap_err();
    assert!(error.info().help.clone().unwrap_or_default().contains("the step that stages"), "{error:?}");
    assert!(ahead.contains("the step that stages"), "{ahead}");
    second.recover(&staged, asked).await;
    is_frozen_by(&second, &site);

    // One of its stores burns while people look at it.
    let offsite = site.cluster.dir().join("offsite");
    fs::rename(&offsite, site.cluster.dir().join("burnt")).unwrap();
    fs::write(&offsite, "no store any more").unwrap();
    let here = json!({ "database": "main", "instance": looked.instance, "target": "here" });
    let third = site.run();
    let error = third.recover_with(here.clone()).await.unwrap_err();
    let help = error.info().help.clone().unwrap_or_default();
    assert!(help.contains("store `offsite`") && help.contains("--from"), "{error:?}");
    site.wal_stores.lock().unwrap().clear();
    site.beside.lock().unwrap().clear();
    let open = third.recover_with(here).await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    assert_eq!((open.state, rows(&site).as_str()), (InstanceState::Open, "1,2"));
    assert!(site.said().contains("the stores that the inventory names now"), "{}", site.said());
    is_frozen_by(&third, &site);
}

/// Recovers everything there is with a run of its own.
async fn newest(site: &Site, backup: &BackupHandle) -> (Value, RecoverOutput) {
    let run = site.run();
    let staged = run.stage(backup).await;
    let marker = fs::read(staged.dir.join("runbook-restore.json")).unwrap();
    run.stop().await;
    (serde_json::from_slice(&marker).unwrap(), run.recover(&staged, json!({})).await)
}

#[tokio::test]
async fn a_server_whose_recovery_opened_it_and_was_never_proven_is_a_server_as_any_other() {
    let site = Site::new();
    let backup = filled(&site).await;
    let (mut marker, opened) = newest(&site, &backup).await;
    // As a recovery leaves it that ends before its proof; and somebody has used it ever since.
    marker["opened"] = json!({ "timeline": opened.timeline, "newest_commit": null, "is_short": false });
    let path = site.cluster.pgdata().join("runbook-restore.json");
    fs::write(&path, marker.to_string()).unwrap();
    site.cluster.give(&path);
    insert(&site, 4);
    site.cluster.stop("fast");
    let run = site.run();
    let start = serde_json::from_value(json!({ "database": "main" })).unwrap();
    let started = Start.run(&start, &run.context()).await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    assert!(started.started && started.original, "{started:?}");
    // It is lost with commits that are not archived: they are rescued, and it is the witness of that.
    insert(&site, 5);
    site.cluster.stop("immediate");
    let (_, again) = newest(&site, &backup).await;
    assert_eq!(rows(&site), "1,2,3,4,5");
    assert!(!site.said().contains("was left by the unfinished recovery"), "{}", site.said());
    assert_eq!(serde_json::to_value(again.loss.coverage).unwrap(), json!("to_last_flushed"));
    assert!(again.as_of.is_some() && again.as_of == again.recovered_to_time, "{again:?}");
}

/// The newest archived segment of timeline 1.
fn last_of_the_first(site: &Site) -> PathBuf {
    let is_segment = |name: &str| name.len() >= 24 && name.bytes().take(24).all(|byte| byte.is_ascii_hexdigit());
    let (mut folders, mut found) = (vec![site.depot.root.join("main/wal")], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match path.is_dir() {
                true => folders.push(path),
                // It may be packed.
                false if is_segment(&name) && name.starts_with("00000001") => found.push((name, path)),
                false => {}
            }
        }
    }
    found.into_iter().max().unwrap().1
}

#[tokio::test]
async fn a_damaged_end_of_a_timeline_that_was_left_keeps_nobody_from_a_time_on_the_next_one() {
    let site = Site::new();
    let backup = filled(&site).await;
    let (_, first) = newest(&site, &backup).await;
    assert_eq!(first.timeline, 2);
    insert(&site, 4);
    let now =
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM pg_sleep(0.01)";
    let between = site.cluster.sql(now);
    site.cluster.sql("SELECT pg_sleep(0.01)");
    insert(&site, 5);
    site.archive();
    let abandoned = last_of_the_first(&site);
    let mut bytes = fs::read(&abandoned).unwrap();
    let middle = bytes.len() / 2;
    bytes[0] ^= 1;
    bytes[middle] ^= 1;
    fs::write(&abandoned, bytes).unwrap();
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.stop().await;
    run.recover(&staged, json!({ "target_time": between })).await;
    assert_eq!(rows(&site), "1,2,3,4", "{}", site.said());
}

#[tokio::test]
async fn a_recovery_that_is_cancelled_before_its_swap_leaves_the_old_server_where_it_is() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let staged = run.stage(&run.base_backup().await.backup).await;
    run.stop().await;
    let cx = run.context();
    cx.cancel.cancel();
    let params = run.recover_params(&staged, json!({}));
    let error = Recover::new(env!("CARGO_BIN_EXE_runbook").into()).run(&params, &cx).await.unwrap_err();
    assert_eq!(error.info().class, ErrorClass::Cancelled, "{:#?}", error.info());
    assert!(error.info().help.as_ref().unwrap().contains("is as it was, and its server can be started"), "{error}");
    assert!(staged.dir.exists(), "what was copied is still there");
    site.cluster.up();
    assert_eq!(site.cluster.sql("SELECT count(*), pg_is_in_recovery() FROM t"), "1|f");
    site.cluster.stop("fast");
    // The same step goes on from there.
    run.recover(&staged, json!({})).await;
    assert_eq!(site.cluster.sql("SELECT count(*) FROM t"), "1");
}
