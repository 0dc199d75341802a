//! A recovery that was given up after it had rescued the last WAL of a server, which is then started again: real clusters.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use runbook::action::BackupHandle;
use runbook::language::inventory::StoreEntry;
use runbook::pgformat::{ControlFile, WalFileName};
use runbook::store::Opening;
use runbook::transfer::Packing;
use runbook::wal::{Destination, Identity, push_everywhere};
use serde_json::json;

use crate::support::recovery::{Depot, Site};

fn insert(site: &Site, n: u32) {
    site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
}

fn rows(site: &Site) -> String {
    site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t")
}

/// A backup of row 1, row 2 archived, row 3 in a segment that is not finished; crashed.
async fn crashed(depot: Depot) -> (Site, BackupHandle) {
    let site = Site::over(depot, &[("autovacuum", "off")]);
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let backup = site.run().base_backup().await.backup;
    insert(&site, 2);
    site.archive();
    insert(&site, 3);
    (site, backup)
}

/// Brings the segment that is being written into the archive, as a recovery does before it moves anything.
async fn rescue(site: &Site) -> WalFileName {
    let name = site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    site.cluster.stop("immediate");
    let control = ControlFile::parse(&fs::read(site.cluster.pgdata().join(ControlFile::PATH)).unwrap()).unwrap();
    let identity = Identity { system_id: control.system_id, segment_size: Some(control.segment_size) };
    let store = Opening::new(&site.depot.entry, "primary", Arc::new(site.depot.secrets.clone())).open().unwrap();
    let packing = Packing::of(&site.depot.entry, &site.depot.secrets).unwrap();
    let to = Destination { store: store.as_ref(), prefix: "main", identity, packing: &packing };
    let (path, name): (PathBuf, WalFileName) =
        (site.cluster.pgdata().join("pg_wal").join(&name), name.parse().unwrap());
    let missed = push_everywhere(&[to], 1, (&path, name, &identity)).await.unwrap();
    assert!(missed.is_empty(), "{missed:?}");
    name
}

/// Loses the machine and recovers without anything of it: all four rows are back.
async fn from_the_archive_alone(site: &Site, backup: &BackupHandle) {
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let run = site.run();
    let staged = run.stage(backup).await;
    run.recover(&staged, json!({})).await;
    assert_eq!(rows(site), "1,2,3,4", "{}", site.said());
}

fn compressed() -> Depot {
    let compressed: StoreEntry = serde_json::from_value(json!({ "compression": { "format": "zstd" } })).unwrap();
    Depot { entry: compressed, ..Depot::default() }
}

#[tokio::test]
async fn a_server_that_is_started_again_goes_on_archiving_the_segment_that_was_rescued_of_it() {
    for depot in [Depot::default(), compressed(), Depot::default().encrypted()] {
        let (site, backup) = crashed(depot).await;
        rescue(&site).await;
        site.cluster.up();
        insert(&site, 4);
        site.archive();
        assert_eq!(site.cluster.sql("SELECT failed_count FROM pg_stat_archiver"), "0", "{}", site.cluster.log());
        from_the_archive_alone(&site, &backup).await;
    }
}

#[tokio::test]
async fn what_it_wrote_on_in_that_segment_is_rescued_by_the_next_recovery() {
    let (site, backup) = crashed(Depot::default()).await;
    rescue(&site).await;
    site.cluster.up();
    insert(&site, 4);
    site.cluster.kill();
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.stop().await;
    run.recover(&staged, json!({})).await;
    assert_eq!(rows(&site), "1,2,3,4", "{}", site.said());
    assert!(site.said().contains("the archive had only the beginning of"), "{}", site.said());
    // From the archive alone it is all there, too.
    site.archive();
    from_the_archive_alone(&site, &backup).await;
}

#[tokio::test]
async fn a_server_whose_place_a_finished_recovery_took_finishes_no_segment_of_the_archive() {
    let (site, backup) = crashed(Depot::default()).await;
    let name = rescue(&site).await;
    let old = site.cluster.dir().join("old");
    let copied = std::process::Command::new("cp").arg("-a").arg(site.cluster.pgdata()).arg(&old).status().unwrap();
    assert!(copied.success());
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.recover(&staged, json!({})).await;
    site.archive();
    site.cluster.stop("immediate");
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    fs::rename(&old, site.cluster.pgdata()).unwrap();
    site.cluster.up();
    insert(&site, 9);
    site.cluster.sql("SELECT pg_switch_wal()");
    crate::support::cli::until("the archive refuses it", || {
        site.cluster.sql("SELECT failed_count > 0 FROM pg_stat_archiver") == "t"
    });
    assert!(site.cluster.log().contains(&format!("`{name}` is in the archive already with other content")));
}

#[tokio::test]
async fn what_a_server_wrote_whose_place_was_taken_is_left_and_told() {
    let (site, backup) = crashed(Depot::default()).await;
    let name = rescue(&site).await;
    let old = site.cluster.dir().join("old");
    let copied = std::process::Command::new("cp").arg("-a").arg(site.cluster.pgdata()).arg(&old).status().unwrap();
    assert!(copied.success());
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.recover(&staged, json!({})).await;
    insert(&site, 4);
    site.archive();
    site.cluster.stop("immediate");
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    // By mistake somebody starts the server again that had been replaced.
    fs::rename(&old, site.cluster.pgdata()).unwrap();
    site.cluster.up();
    insert(&site, 9);
    site.cluster.kill();
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.recover(&staged, json!({})).await;
    assert_eq!(rows(&site), "1,2,3,4", "{}", site.said());
    let told = format!("`{name}` is unfinished in the archive, and another timeline has gone on from there");
    assert!(site.said().contains(&told), "{}", site.said());
}

#[tokio::test]
async fn a_copy_of_that_segment_that_is_damaged_is_told_and_opens_nothing_without_its_rows() {
    let (site, backup) = crashed(Depot::default()).await;
    let name = rescue(&site).await;
    let object = object(&site, &name.to_string());
    let whole = fs::read(&object).unwrap();
    fs::write(&object, "no segment").unwrap();
    site.cluster.up();
    insert(&site, 4);
    site.cluster.kill();
    let run = site.run();
    let staged = run.stage(&backup).await;
    let error = run.try_recover(&staged, json!({})).await.unwrap_err();
    let told = format!("`{name}` cannot be read from the archive");
    assert!(site.said().contains(&told), "{error}: {}", site.said());
    assert!(!site.cluster.try_sql("SELECT 1").status.success(), "{error}");
    // With the copy as it was the same recovery goes on.
    fs::write(&object, whole).unwrap();
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.recover(&staged, json!({})).await;
    assert_eq!(rows(&site), "1,2,3,4", "{}", site.said());
}

/// The file in which a segment is stored.
fn object(site: &Site, name: &str) -> PathBuf {
    let (mut folders, mut found) = (vec![site.depot.root.join("main/wal")], None);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            match path.is_dir() {
                true => folders.push(path),
                false if file.starts_with(name) => found = Some(path),
                false => {}
            }
        }
    }
    found.unwrap()
}
