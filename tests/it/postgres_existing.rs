//! Restores where there is no room for two, and into mount points.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use runbook::action::{Action as _, ActionError, BackupHandle, BoxFuture, Reporter, RunContext};
use runbook::actions::postgres::{RestoreBase, RestoreBaseOutput, RestoreBaseParams};
use runbook::event::{ErrorClass, Progress};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::pitr_plan::Asked;
use crate::support::mount;
use crate::support::recovery::{Run, Site};

fn params(backup: &BackupHandle, existing: &str) -> RestoreBaseParams {
    serde_json::from_value(json!({ "database": "main", "backup": backup, "existing": existing })).unwrap()
}

async fn restore(run: &Run<'_>, backup: &BackupHandle, existing: &str) -> Result<RestoreBaseOutput, ActionError> {
    RestoreBase.run(&params(backup, existing), &run.context()).await
}

fn rows(site: &Site) -> String {
    site.cluster.sql("SELECT count(*) || ' ' || sum(n) FROM t")
}

/// A site with a big table, a backup, and rows that came later: archived ones, and one that never was.
async fn used(site: &Site) -> BackupHandle {
    site.cluster.sql("CREATE TABLE big AS SELECT n, repeat('x', 500) AS text FROM generate_series(1, 20000) AS n");
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t SELECT generate_series(1, 100)");
    let backup = site.run().base_backup().await.backup;
    site.cluster.sql("CREATE TABLE later AS SELECT 1 AS n; INSERT INTO t VALUES (1000)");
    site.cluster.sql("UPDATE big SET text = 'y' WHERE n % 1000 = 0");
    site.archive();
    site.cluster.sql("INSERT INTO t VALUES (2000)");
    site.cluster.stop("immediate");
    backup
}

#[tokio::test]
async fn a_delta_writes_only_what_differs_and_gives_back_every_row() {
    let site = Site::new();
    let backup = used(&site).await;
    let pgdata = site.cluster.pgdata();
    // Damage that neither size nor time tells.
    let node = {
        site.cluster.up();
        let node = site.cluster.sql("SELECT pg_relation_filepath('big')");
        site.cluster.sql("CHECKPOINT");
        site.cluster.stop("immediate");
        node
    };
    let path = pgdata.join(&node);
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[100_000..100_064].fill(0x5a);
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    file.set_modified(before).unwrap();
    fs::write(pgdata.join("base/999999"), "what the backup does not have").unwrap();
    site.cluster.give(&pgdata.join("base/999999"));

    let run = site.run();
    let output = restore(&run, &backup, "delta").await.unwrap();
    let size = fs::metadata(output.staged.dir.join(&node)).unwrap().len();
    assert!(output.reused_bytes.unwrap() > size / 2, "{:?} of {size}", output.reused_bytes);
    assert!(!output.staged.dir.join("base/999999").exists());
    let recovered = run.recover(&output.staged, json!({})).await;
    assert_eq!(rows(&site), "102 8050", "{}", site.said());
    assert_eq!(site.cluster.sql("SELECT count(*), count(DISTINCT n), min(length(text)) FROM big"), "20000|20000|1");
    assert!(site.said().contains("rescued from"), "{}", site.said());
    let kept = recovered.kept.unwrap();
    assert!(kept.join("pg_wal").exists() && !kept.join("base").exists());
    assert!(site.said().contains("what was left of the old data is kept"), "{}", site.said());
}

#[tokio::test]
async fn a_replaced_data_directory_frees_its_room_first_and_keeps_the_wal_that_was_never_archived() {
    let site = Site::new();
    let place = site.cluster.folder("space");
    site.cluster.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", place.display()));
    site.cluster.sql("CREATE TABLE s(n int) TABLESPACE space; INSERT INTO s VALUES (7)");
    let backup = used(&site).await;
    let run = site.run();
    let output = restore(&run, &backup, "replace").await.unwrap();
    assert!(!site.cluster.pgdata().join("base").exists() && site.cluster.pgdata().join("pg_wal").exists());
    run.recover(&output.staged, json!({})).await;
    assert_eq!((rows(&site).as_str(), site.cluster.sql("SELECT n FROM s").as_str()), ("102 8050", "7"));
    assert_eq!(site.cluster.sql("SELECT count(*) FROM later"), "1");
}

/// Ends the attempt as soon as it says something.
struct EndAt {
    words: &'static str,
    cancel: CancellationToken,
    told: Arc<dyn Reporter>,
}

impl Reporter for EndAt {
    fn progress(&self, progress: Progress) {
        self.told.progress(progress);
    }
    fn note(&self, message: String, data: Value) {
        if message.contains(self.words) {
            self.cancel.cancel();
        }
        self.told.note(message, data);
    }
    fn register(&self, resource: String, data: Value) -> BoxFuture<'_, Result<(), ActionError>> {
        self.told.register(resource, data)
    }
    fn removed(&self, resource: String) {
        self.told.removed(resource);
    }
}

fn cut_when(words: &'static str, cx: RunContext) -> RunContext {
    let reporter = EndAt { words, cancel: cx.cancel.clone(), told: Arc::clone(&cx.reporter) };
    RunContext { reporter: Arc::new(reporter), ..cx }
}

#[tokio::test]
async fn what_a_restore_took_apart_starts_no_server_and_the_step_goes_on_from_there() {
    for existing in ["delta", "replace"] {
        let site = Site::new();
        let backup = used(&site).await;
        let (run, pgdata) = (site.run(), site.cluster.pgdata());
        let cx = cut_when("stay there", run.context());
        let error = RestoreBase.run(&params(&backup, existing), &cx).await.unwrap_err();
        assert_eq!(error.info().class, ErrorClass::Cancelled, "{error}");
        assert!(!site.cluster.try_up().status.success(), "{existing}");
        assert!(!pgdata.join("PG_VERSION").exists());
        assert!(fs::read_to_string(pgdata.join("runbook-unusable.txt")).unwrap().contains("runbook resume"));
        let staged = restore(&run, &backup, existing).await.unwrap().staged;
        run.recover(&staged, json!({})).await;
        assert_eq!(rows(&site), "102 8050", "{existing}: {}", site.said());
    }
}

#[tokio::test]
async fn status_tells_of_data_that_was_taken_apart_to_restore_and_not_to_start_its_server() {
    let asked = Asked::new();
    asked.commit(1);
    let backup = asked.site.run().base_backup().await.backup;
    asked.commit(2);
    asked.site.cluster.stop("fast");
    let status = || {
        let ran = asked.cli.run(&["status", "main"]).ends(2);
        format!("{}{}", ran.out, ran.err).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(status().contains("its data was shut down in order, so start it"), "{}", status());
    let run = asked.site.run();
    let cx = cut_when("stay there", run.context());
    RestoreBase.run(&params(&backup, "replace"), &cx).await.unwrap_err();
    let told = status();
    assert!(
        told.contains("had taken its old data apart and did not end") && told.contains("runbook restore main"),
        "{told}"
    );
    assert!(!told.contains("start it"), "{told}");
}

#[tokio::test]
async fn another_run_finds_the_wal_in_what_an_earlier_one_took_apart() {
    let site = Site::new();
    let backup = used(&site).await;
    let first = site.run();
    let cx = cut_when("stay there", first.context());
    RestoreBase.run(&params(&backup, "replace"), &cx).await.unwrap_err();
    let second = site.run();
    let staged = second.stage(&backup).await;
    second.recover(&staged, json!({})).await;
    assert_eq!(rows(&site), "102 8050", "{}", site.said());
}

#[tokio::test]
async fn nothing_is_given_up_for_a_live_server_or_a_damaged_backup() {
    let site = Site::new();
    let backup = used(&site).await;
    site.cluster.up();
    let run = site.run();
    for existing in ["delta", "replace"] {
        let found = RestoreBase.check(&params(&backup, existing), &run.check_context()).await.unwrap();
        assert!(found.refused(), "{found:?}");
        let error = restore(&run, &backup, existing).await.unwrap_err();
        assert!(error.to_string().contains("is alive"), "{error}");
    }
    assert_eq!(rows(&site), "102 8050");
    site.cluster.stop("immediate");
    spoil(&site.depot.root, "base.tar");
    for existing in ["delta", "replace"] {
        let error = restore(&site.run(), &backup, existing).await.unwrap_err();
        assert!(error.to_string().contains("does not hold"), "{error}");
    }
    site.cluster.up();
    assert_eq!(rows(&site), "102 8050");
}

/// Turns one byte in the middle of every object whose name begins so.
fn spoil(folder: &Path, begins: &str) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            spoil(&entry.path(), begins);
        } else if entry.file_name().to_string_lossy().starts_with(begins) {
            let mut bytes = fs::read(entry.path()).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            fs::write(entry.path(), bytes).unwrap();
        }
    }
}

#[tokio::test]
async fn wal_counts_on_the_disk_that_a_linked_folder_lies_on() {
    if !mount::mine("postgres_existing::wal_counts_on_the_disk_that_a_linked_folder_lies_on") {
        return;
    }
    let site = Site::new();
    site.cluster.stop("fast");
    let (pgdata, disk) = (site.cluster.pgdata(), site.cluster.folder("disk"));
    let _mount = mount::memory(&disk);
    let place = disk.join("wal");
    let moved = std::process::Command::new("cp").arg("-a").args([&pgdata.join("pg_wal"), &place]).status().unwrap();
    assert!(moved.success());
    fs::remove_dir_all(pgdata.join("pg_wal")).unwrap();
    std::os::unix::fs::symlink(&place, pgdata.join("pg_wal")).unwrap();
    site.cluster.up();
    let backup = used(&site).await;
    let run = site.run();
    let judged = async || RestoreBase.check(&params(&backup, "keep_beside"), &run.check_context()).await.unwrap();
    let tight = judged().await;
    assert!(!tight.refused() && format!("{tight:?}").contains("its replay may keep 512"), "{tight:?}");
    // Room for the data there is plenty, for its WAL there is not.
    let free = rustix::fs::statvfs(&disk).unwrap();
    let filler = vec![0_u8; usize::try_from(free.f_bavail * free.f_frsize).unwrap() - (4 << 20)];
    fs::write(disk.join("filler"), filler).unwrap();
    let refused = judged().await;
    assert!(refused.refused(), "{refused:?}");
    let error = restore(&run, &backup, "keep_beside").await.unwrap_err();
    assert!(error.to_string().contains(&format!("`{}` has", disk.display())), "{error}");
    fs::remove_file(disk.join("filler")).unwrap();
    let staged = restore(&run, &backup, "keep_beside").await.unwrap().staged;
    run.recover(&staged, json!({})).await;
    assert_eq!(rows(&site), "102 8050");
}

#[tokio::test]
async fn a_data_directory_and_a_tablespace_that_are_mount_points_are_swapped_within_them() {
    if !mount::mine(
        "postgres_existing::a_data_directory_and_a_tablespace_that_are_mount_points_are_swapped_within_them",
    ) {
        return;
    }
    let site = Site::new();
    site.cluster.stop("fast");
    let (pgdata, place) = (site.cluster.pgdata(), site.cluster.folder("space"));
    let _mounts = [mount::bind(&pgdata), mount::memory(&place)];
    site.cluster.give(&place);
    fs::create_dir(place.join("lost+found")).unwrap();
    site.cluster.up();
    site.cluster.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", place.display()));
    site.cluster.sql("CREATE TABLE s(n int) TABLESPACE space; INSERT INTO s VALUES (7)");
    let backup = used(&site).await;
    // Kept beside, then over what is there: the place itself is never moved.
    for (existing, sum) in [("keep_beside", "102 8050"), ("delta", "102 8050"), ("replace", "102 8050")] {
        let run = site.run();
        run.stop().await;
        let staged = restore(&run, &backup, existing).await.unwrap().staged;
        assert!(staged.dir.starts_with(&pgdata), "{}", staged.dir.display());
        let recovered = run.recover(&staged, json!({})).await;
        assert_eq!((rows(&site).as_str(), site.cluster.sql("SELECT n FROM s").as_str()), (sum, "7"), "{existing}");
        let kept = recovered.kept.unwrap();
        assert!(kept.starts_with(&pgdata) && kept.join("pg_wal").exists(), "{}", kept.display());
        assert!(!staged.dir.exists() && place.join("lost+found").exists());
    }
    // What is kept within is no part of the next backup.
    let run = site.run();
    let backup = run.base_backup().await.backup;
    run.stop().await;
    let staged = run.stage(&backup).await;
    let names = fs::read_dir(&staged.dir).unwrap().flatten().map(|entry| entry.file_name());
    let names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(!names.iter().any(|name| name.starts_with("pgsql_tmp")), "{names:?}");
}
