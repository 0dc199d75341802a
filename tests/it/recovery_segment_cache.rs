//! What a search of the WAL has proven is what the server replays: it is not read from the archive again.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use runbook::action::{Action as _, BackupHandle};
use runbook::actions::postgres::{Query, Recover, RecoverOutput};
use serde_json::json;

use crate::support::recovery::{Run, Site};

/// Segments after the backup.
const ROWS: u32 = 5;

/// A cluster with a row in each of several archived segments after its backup.
async fn archived() -> (Site, BackupHandle) {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int)");
    let backup = site.run().base_backup().await.backup;
    for row in 0..ROWS {
        site.cluster.sql(&format!("INSERT INTO t VALUES ({row})"));
        site.archive();
    }
    (site, backup)
}

/// A program that is called as ours is, and does something before the first fetch, which is the trial.
fn before_the_first_fetch(site: &Site, deed: &str) -> PathBuf {
    let (script, dir) = (site.cluster.dir().join("fetching"), site.cluster.dir().display().to_string());
    let text = format!(
        "#!/bin/sh\nif test \"$2\" = fetch && mkdir {dir}/first 2>/dev/null; then\n{deed}\nfi\nexec {} \"$@\"\n",
        env!("CARGO_BIN_EXE_runbook")
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// A command that removes archived segments, of which `which` chooses from a sorted list.
fn burn(site: &Site, which: &str) -> String {
    let archive = site.depot.root.join("main/wal");
    format!("find {} -name '0*.zst' | sort | {which} | xargs rm -f", archive.display())
}

/// All but the newest one, with which a fetch is tried out.
const BUT_THE_NEWEST: &str = "head -n -1";

async fn recover(run: &Run<'_>, backup: &BackupHandle, program: PathBuf) -> Result<RecoverOutput, String> {
    let staged = run.stage(backup).await;
    let recovered = Recover::new(program).run(&run.recover_params(&staged, json!({})), &run.context()).await;
    recovered.map_err(|error| format!("{:#?}", error.info()))
}

/// What was left beside the data directory for a server that asks for WAL.
fn left(pgdata: &Path) -> Vec<String> {
    let names = fs::read_dir(pgdata.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.contains("runbook-ahead")).collect()
}

#[tokio::test]
async fn a_recovery_lays_what_it_looked_through_where_the_server_asks_for_it() {
    let (site, backup) = archived().await;
    site.cluster.stop("immediate");
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let listed = site.cluster.dir().join("listed");
    let list = format!("ls {}.runbook-ahead-*/*/ahead-* > {}", site.cluster.pgdata().display(), listed.display());
    let program = before_the_first_fetch(&site, &list);
    let run = site.run();
    recover(&run, &backup, program).await.unwrap();
    assert_eq!(site.cluster.sql("SELECT count(*) FROM t"), ROWS.to_string());
    let kept = fs::read_to_string(listed).unwrap();
    assert!(kept.lines().count() >= ROWS as usize - 1, "all of them but the one that is tried out: {kept}");
    assert_eq!(left(&site.cluster.pgdata()), Vec::<String>::new());
}

#[tokio::test]
async fn the_trial_asks_the_archive_whatever_was_kept_and_nothing_stays_when_it_fails() {
    let (site, backup) = archived().await;
    site.cluster.stop("immediate");
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let program = before_the_first_fetch(&site, &burn(&site, "cat"));
    let run = site.run();
    let error = recover(&run, &backup, program).await.unwrap_err();
    assert!(error.contains("cannot fetch"), "{error}");
    assert_eq!(left(&site.cluster.pgdata()), Vec::<String>::new());
}

#[tokio::test]
async fn a_drill_replays_what_it_looked_through_without_the_archive() {
    let (site, backup) = archived().await;
    let site = site.drill();
    let program = before_the_first_fetch(&site, &burn(&site, BUT_THE_NEWEST));
    let run = site.run();
    let recovered = recover(&run, &backup, program).await.unwrap();
    let query = json!({ "database": "main", "instance": recovered.instance, "sql": "SELECT count(*) FROM t" });
    let rows = Query.run(&serde_json::from_value(query).unwrap(), &run.context()).await.unwrap().value;
    assert_eq!(rows, json!(ROWS));
    assert_eq!(left(&run.dir.join("main/pgdata")), Vec::<String>::new());
}
