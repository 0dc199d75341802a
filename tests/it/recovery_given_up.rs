//! A recovery that was given up after it had rescued the last WAL of a server, which is then started again: real clusters.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runbook::action::{BackupHandle, ObjectKey, PutOptions, Store};
use runbook::base::Digest;
use runbook::language::inventory::{CompressionFormat, StoreEntry};
use runbook::pgformat::{ControlFile, WalFileName};
use runbook::store::Opening;
use runbook::transfer::Packing;
use runbook::wal::{Destination, Identity, push_everywhere};
use serde_json::{Value, json};

use crate::pitr_plan::Asked;
use crate::support::cli::{Cli, Ran};
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
    let asked = Asked { site, cli: Cli::new() };
    asked.about("postgres");
    let (site, cli) = (&asked.site, &asked.cli);
    let name = rescue(site).await;
    site.cluster.up();
    insert(site, 4);
    // Nobody takes the beginning for the whole of the segment meanwhile.
    crate::support::cli::until("the commit waits", || {
        let figures = cli.run(&["wal", "status", "main", "--json"]).json()[0]["figures"].clone();
        assert!(figures["lag_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{figures}");
        figures["lag_s"].as_u64().is_some_and(|seconds| seconds > 0)
    });
    let told = format!("the archive has only the beginning of `{name}`");
    cli.run(&["pitr", "main"]).ends(0).prints(&told).prints(" in the archive, of ");
    site.cluster.kill();
    let run = site.run();
    let staged = run.stage(&backup).await;
    let ahead = format!("{:?}", run.check_ahead(&staged, json!({})).await);
    assert!(ahead.contains(&told) && ahead.contains("that only the server has of"), "{ahead}");
    assert!(!ahead.contains("all of its WAL is in the archive"), "{ahead}");
    run.stop().await;
    run.recover(&staged, json!({})).await;
    assert_eq!(rows(site), "1,2,3,4", "{}", site.said());
    assert!(site.said().contains("the archive had only the beginning of"), "{}", site.said());
    // From the archive alone it is all there, too.
    site.archive();
    from_the_archive_alone(site, &backup).await;
}

/// Two stores between which the shipped procedure copies: the site's and one elsewhere.
struct Copies {
    cli: Cli,
    there: Arc<dyn Store>,
}

impl Copies {
    fn of(site: &Site) -> Self {
        let (cli, url) = (Cli::new(), format!("file://{}", site.cluster.folder("elsewhere").display()));
        let there = StoreEntry { url: url.clone(), ..StoreEntry::default() };
        let opening = Opening::plain(&there, "there");
        opening.initialize().unwrap();
        let secrets: serde_json::Map<String, Value> =
            site.depot.secrets.0.keys().map(|name| (name.clone(), json!({ "file": cli.path(name) }))).collect();
        let stores = json!({ "here": site.depot.entry, "there": { "url": url } });
        cli.file("inventory.yaml", &json!({ "version": 1, "stores": stores, "secrets": secrets }).to_string());
        Self { cli, there: opening.open().unwrap() }
    }

    /// Copies with these secrets at hand.
    fn copy<'a>(&self, secrets: impl IntoIterator<Item = (&'a String, &'a String)>) -> Ran {
        for (name, value) in secrets {
            self.cli.file(name, value);
        }
        self.cli.run(&["run", "copy-offsite", "-p", "from=here", "-p", "to=there", "-p", "prefix=main"])
    }

    async fn put(&self, key: &ObjectKey, text: &str) {
        let metadata = [("sha256".to_owned(), Digest::of(text.as_bytes()).to_string())].into();
        let options = PutOptions { metadata, ..PutOptions::default() };
        self.there.put(key, Box::new(std::io::Cursor::new(text.to_owned().into_bytes())), options).await.unwrap();
    }

    /// The object of a WAL file, by the beginning of its name.
    async fn object(&self, name: &str) -> ObjectKey {
        let all = self.there.list("main/wal/").await.unwrap();
        all.into_iter().map(|facts| facts.key).find(|key| key.as_str().contains(&format!("/{name}"))).unwrap()
    }
}

#[tokio::test]
async fn a_copy_elsewhere_takes_the_segment_that_was_finished_since_and_names_what_is_another() {
    for depot in [Depot::default(), Depot::default().encrypted()] {
        let keys = depot.secrets.0.clone();
        let (site, _) = crashed(depot).await;
        let name = rescue(&site).await.to_string();
        let copies = Copies::of(&site);
        copies.copy(&keys).ends(0);
        site.cluster.up();
        insert(&site, 4);
        site.archive();
        let key = copies.object(&name).await;
        if !keys.is_empty() {
            let others: BTreeMap<String, String> = Depot::default().encrypted().secrets.0;
            copies.copy(&others).ends(10).says(&name).says("may go on from what the target has");
        }
        // Once another timeline has gone on from there, it is not known any more whose segment this is.
        let (folder, _) = key.as_str().rsplit_once("/00000001/").unwrap();
        let history = format!("{folder}/history/00000002.history").parse().unwrap();
        let log = u32::from_str_radix(&name[16..], 16).unwrap() << 24;
        copies.put(&history, &format!("1\t0/{:X}\tbefore a test\n", log + 0xA0)).await;
        copies.copy(&keys).ends(10).says(&name);
        copies.there.delete(&history).await.unwrap();

        copies.copy(&keys).ends(0).says("replace 1 ");
        copies.copy(&keys).ends(0).says("replace 0 ");
        let stored = |root: &Path| fs::read(root.join(key.as_str())).unwrap();
        assert!(
            stored(&site.depot.root) == stored(&site.cluster.dir().join("elsewhere")),
            "the whole segment is there"
        );
        copies.put(&key, "another segment").await;
        let told = copies.copy(&keys).ends(10);
        told.says("1 at the target have other content than at the source: `wal/").says(&name);
    }
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

/// Has the server archive in the other way from now on: compressed where the inventory says that it is not, and the reverse.
fn packed_otherwise(site: &Site) {
    let path = site.cluster.pgdata().join("wal.json");
    let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let is_plain = site.depot.entry.compression.as_ref().is_some_and(|set| set.format == CompressionFormat::None);
    config["store"]["compression"] = json!({ "format": if is_plain { "zstd" } else { "none" } });
    fs::write(&path, config.to_string()).unwrap();
}

/// The folder below another that holds a file.
fn folder_of(root: &Path, file: &str) -> PathBuf {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        if folder.join(file).exists() {
            return folder;
        }
        folders.extend(fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    panic!("`{file}` is nowhere");
}

/// The objects of a segment in the site's store.
fn objects(site: &Site, name: WalFileName) -> Vec<String> {
    let mut found = site.stored();
    found.retain(|object| object.starts_with(&name.to_string()));
    found
}

#[tokio::test]
async fn a_segment_that_is_packed_otherwise_than_its_rescued_beginning_takes_its_place() {
    let plain: StoreEntry = serde_json::from_value(json!({ "compression": { "format": "none" } })).unwrap();
    for depot in [compressed(), Depot { entry: plain, ..Depot::default() }] {
        let (site, backup) = crashed(depot).await;
        let name = rescue(&site).await;
        let begun = objects(&site, name);
        packed_otherwise(&site);
        let (folder, kept) = (folder_of(&site.depot.root, &begun[0]), site.cluster.dir().join("kept"));
        let copied = std::process::Command::new("cp").arg("-a").args([&folder, &kept]).status().unwrap();
        assert!(copied.success());
        site.cluster.up();
        insert(&site, 4);
        site.archive();
        assert_eq!(site.cluster.sql("SELECT failed_count FROM pg_stat_archiver"), "0", "{}", site.cluster.log());
        let finished = objects(&site, name);
        assert!(begun.len() == 1 && finished.len() == 1 && begun != finished, "{begun:?} {finished:?}");
        // In a store where nothing may be removed the beginning stays, and no reader takes it for the segment.
        for entry in fs::read_dir(&kept).unwrap().flatten() {
            if entry.file_name().to_string_lossy().contains(&begun[0]) {
                let place = folder.join(entry.file_name());
                fs::copy(entry.path(), &place).unwrap();
                site.cluster.give(&place);
            }
        }
        assert_eq!(objects(&site, name).len(), 2);
        from_the_archive_alone(&site, &backup).await;
    }
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
