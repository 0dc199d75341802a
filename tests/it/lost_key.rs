//! The key of one store is gone: what it has counts like a damaged copy, and what another store has is taken.

use std::fs;
use std::path::{Path, PathBuf};

use runbook::action::{Action as _, NoSecrets};
use runbook::actions::backup::Verify;
use runbook::actions::postgres::VerifyBackup;
use runbook::pgformat::{SegmentSize, WalFileName};
use runbook::transfer::Packing;
use runbook::wal::{Destination, Identity, Keys, Source, push_everywhere, read_file};
use serde_json::{Value, json};

use crate::support::cli::{Cli, Ran};
use crate::support::recovery::{Depot, Site};

/// The one object of a segment in a store's folder.
fn object(root: &Path, name: &str) -> PathBuf {
    let mut folders = vec![root.join("main/wal")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let own = entry.file_name().to_string_lossy().into_owned();
            match entry.path().is_dir() {
                true => folders.push(entry.path()),
                false if own.starts_with(name) => return entry.path(),
                false => {}
            }
        }
    }
    panic!("no `{name}` below {}", root.display())
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Fetches a segment as a server of the site does, with what `secrets` says.
fn fetch(site: &Site, cli: &Cli, name: &str, secrets: &Value) -> Ran {
    let offsite = site.beside.lock().unwrap()["offsite"].clone();
    let config = json!({
        "stores": [site.depot.entry, offsite], "secrets": secrets, "prefix": "main",
        "pgdata": site.cluster.pgdata(), "retry_for": "0s",
    });
    let config = cli.file("fetch.json", &config.to_string());
    let target = cli.path("fetched");
    let words = ["wal", "fetch", "--config", config.to_str().unwrap(), name, target.to_str().unwrap()];
    cli.run(&words)
}

#[tokio::test]
async fn backups_and_wal_whose_key_is_gone_come_from_the_store_that_can_be_read() {
    let mut site = Site::over(Depot::default().encrypted(), &[]);
    site.archive_offsite();
    site.backup_stores.lock().unwrap().push("offsite".to_owned());
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let backup = site.run().base_backup().await.backup;
    let name = site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.archive();
    site.cluster.stop("immediate");
    fs::remove_dir_all(site.cluster.pgdata().join("pg_wal")).unwrap();
    fs::remove_dir_all(site.cluster.dir().join("spool")).unwrap();
    site.depot.secrets.0.remove("identity");
    // What a server asks for.
    let (cli, nowhere) = (Cli::new(), json!({ "identity": { "file": "nowhere" } }));
    fetch(&site, &cli, &name, &nowhere).ends(0);
    let damaged = object(&site.cluster.dir().join("offsite"), &name);
    let whole = fs::read(&damaged).unwrap();
    flip(&damaged);
    let (primary, offsite) = (site.depot.entry.url.clone(), format!("file://{}/offsite", site.cluster.dir().display()));
    fetch(&site, &cli, &name, &nowhere).ends(126).says(&primary).says(&offsite);
    fs::write(&damaged, whole).unwrap();
    // A verification of the copy that cannot be opened says where there is one that can.
    let run = site.run();
    let params = serde_json::from_value(json!({ "database": "main", "backup": backup })).unwrap();
    let error = VerifyBackup.run(&params, &run.context()).await.unwrap_err();
    let help = error.info().help.clone().unwrap_or_default();
    assert!(help.contains("store `primary`") && help.contains("`offsite`"), "{error}: {help}");
    let params = json!({ "database": "main", "backup": backup, "level": "content" });
    let params = serde_json::from_value(params).unwrap();
    let error = Verify.run(&params, &run.context()).await.unwrap_err().to_string();
    assert!(error.contains("cannot be read in store `primary`") && error.contains("store `offsite`"), "{error}");
    assert!(!site.manifests().contains("is damaged"), "a key that is gone is no damage of what is stored");
    let staged = run.stage(&backup).await;
    assert_eq!((backup.store.as_str(), staged.backup.store.as_str()), ("primary", "offsite"));
    run.recover(&staged, json!({})).await;
    assert_eq!(site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), "1,2");
    let said = site.said();
    assert!(said.contains("cannot be restored from store `primary`"), "{said}");
    assert!(said.contains("the WAL in store `primary` cannot be opened here"), "{said}");
}

/// Puts the beginning of a segment, so many pages of it, in the place of what a store has.
async fn begin(site: &Site, (store, root): (&str, &Path), name: &str, pages: usize) {
    let cx = site.run().context();
    let (store, segment): (_, WalFileName) = (cx.store(store).unwrap(), name.parse().unwrap());
    let system_id = fs::read_to_string(root.join("main/wal/cluster")).unwrap().trim().parse().unwrap();
    let identity = Identity { system_id, segment_size: Some(SegmentSize::DEFAULT) };
    let keys = Keys { settings: None, secrets: &NoSecrets };
    let source = Source { store: store.as_read(), prefix: "main", identity, keys };
    let mut bytes = read_file(&source, segment).await.unwrap();
    bytes[pages * 8192..].fill(0);
    fs::remove_file(object(root, name)).unwrap();
    let path = site.cluster.dir().join(format!("beginning-{pages}"));
    fs::write(&path, &bytes).unwrap();
    let packing = Packing::plain();
    let to = Destination { store: &*store, prefix: "main", identity, packing: &packing };
    push_everywhere(&[to], 1, (&path, segment, &identity)).await.unwrap();
}

#[tokio::test]
async fn a_damaged_twin_of_an_unfinished_segment_is_in_nobodys_way_and_one_that_went_further_is() {
    let site = Site::new();
    site.archive_offsite();
    site.cluster.sql("CREATE TABLE t(n int)");
    site.archive();
    let name = site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())");
    site.cluster.sql("INSERT INTO t SELECT generate_series(1, 2000)");
    site.archive();
    site.cluster.stop("immediate");
    let (primary, offsite) = (site.cluster.dir().join("store"), site.cluster.dir().join("offsite"));
    begin(&site, ("primary", &primary), &name, 3).await;
    begin(&site, ("offsite", &offsite), &name, 3).await;
    let (cli, none) = (Cli::new(), json!({}));
    fetch(&site, &cli, &name, &none).ends(0);
    let whole = fs::read(cli.path("fetched")).unwrap();
    flip(&object(&primary, &name));
    fetch(&site, &cli, &name, &none).ends(0);
    assert_eq!(fs::read(cli.path("fetched")).unwrap(), whole);
    flip(&object(&primary, &name));
    begin(&site, ("offsite", &offsite), &name, 2).await;
    // The longer one is whole: it is delivered, whatever became of the shorter one.
    flip(&object(&offsite, &name));
    fetch(&site, &cli, &name, &none).ends(0);
    assert_eq!(fs::read(cli.path("fetched")).unwrap(), whole);
    // And the shorter one is not, while the longer one may come back.
    flip(&object(&offsite, &name));
    flip(&object(&primary, &name));
    fetch(&site, &cli, &name, &none).ends(126).says(&format!("file://{}", primary.display()));
}
