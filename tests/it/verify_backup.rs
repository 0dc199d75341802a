//! What a verification of a base backup says and keeps: a verdict of what it has read, none of what it could not read.

use std::cell::Cell;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runbook::action::{Action as _, ActionError, BackupHandle, ObjectKey, RunContext, Store, StoreError};
use runbook::actions::postgres::{BaseBackup, BaseBackupOutput, VerifyBackup, VerifyBackupOutput};
use runbook::base::Digest;
use runbook::event::ErrorClass;
use runbook::language::inventory::{Compression, CompressionFormat, StoreEntry};
use runbook::pgformat::Lsn;
use serde_json::{Value, json};

use crate::support::interposed::{Interposer, interposed};
use crate::support::recovery::{Depot, Site};

async fn take(site: &Site, with: Value) -> BaseBackupOutput {
    BaseBackup.run(&serde_json::from_value(with).unwrap(), &site.run().context()).await.unwrap()
}

async fn verify(with: Value, context: &RunContext) -> Result<VerifyBackupOutput, ActionError> {
    VerifyBackup.run(&serde_json::from_value(with).unwrap(), context).await
}

/// Where a backup lies.
fn folder(site: &Site, backup: &BackupHandle) -> PathBuf {
    site.depot.root.join(format!("main/base/{}", backup.id))
}

/// What was kept of verifications so far, oldest first.
fn verdicts(site: &Site, backup: &BackupHandle) -> Vec<String> {
    let Ok(kept) = fs::read_dir(folder(site, backup).join("verified")) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = kept.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with(".rb-"));
    paths.sort();
    let verdict =
        |path: &PathBuf| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap()["verdict"].clone();
    paths.iter().map(|path| verdict(path).as_str().unwrap().to_owned()).collect()
}

/// How an object is not given.
type How = fn(String) -> StoreError;

/// One kind of object is not given.
struct Spoiled {
    part: &'static str,
    how: How,
}

impl Interposer for Spoiled {
    fn before_get(&self, key: &ObjectKey) -> Result<(), StoreError> {
        if key.as_str().contains(self.part) { Err((self.how)(key.to_string())) } else { Ok(()) }
    }
}

/// An attempt whose store fails to give one kind of object.
fn spoiled(site: &Site, part: &'static str, how: How) -> RunContext {
    let context = site.run().context();
    let stores = Arc::clone(&context.stores);
    let open = move |name: &str| -> Result<Arc<dyn Store>, ActionError> {
        Ok(interposed(stores(name)?, Spoiled { part, how }))
    };
    RunContext { stores: Arc::new(open), ..context }
}

fn refused(key: String) -> StoreError {
    StoreError::Refused { store: "primary".into(), what: format!("403 for `{key}`") }
}

fn archived(key: String) -> StoreError {
    StoreError::Archived { store: "primary".into(), key, class: "GLACIER".into() }
}

fn replaced(key: String) -> StoreError {
    StoreError::Replaced { store: "primary".into(), key }
}

fn silent(key: String) -> StoreError {
    let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
    StoreError::Unavailable { store: "primary".into(), what: format!("cannot read `{key}`"), source }
}

fn gone(key: String) -> StoreError {
    StoreError::NotFound { store: "primary".into(), key }
}

#[tokio::test]
async fn what_cannot_be_read_is_no_damage_and_leaves_no_verdict() {
    let site = Site::new();
    let backup = take(&site, json!({ "database": "main" })).await.backup;
    let with = json!({ "database": "main", "backup": backup });
    let ways: [(How, ErrorClass); 4] = [
        (refused, ErrorClass::Fatal),
        (archived, ErrorClass::Fatal),
        (replaced, ErrorClass::Retryable),
        (silent, ErrorClass::Retryable),
    ];
    for part in ["base.tar", "pg_wal.tar", "backup_manifest"] {
        for (how, class) in &ways {
            let error = verify(with.clone(), &spoiled(&site, part, *how)).await.unwrap_err();
            assert_eq!(error.info().class, *class, "{part}: {error}");
            assert!(!error.to_string().contains("does not hold"), "{part}: {error}");
            assert!(verdicts(&site, &backup).is_empty(), "{part}: {error}");
        }
    }
    let error = verify(with, &spoiled(&site, "base.tar", gone)).await.unwrap_err();
    assert!(error.to_string().contains("does not hold"), "{error}");
    assert_eq!(verdicts(&site, &backup), ["failed"]);
}

/// Changes one byte in the middle.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

#[tokio::test]
async fn damage_of_the_servers_manifest_or_of_configuration_takes_back_what_had_passed() {
    let site = Site::new();
    site.cluster.with_outside_hba();
    let backup = take(&site, json!({ "database": "main" })).await.backup;
    let folder = folder(&site, &backup);
    let with = json!({ "database": "main", "backup": backup });
    let passed = verify(with.clone(), &site.run().context()).await.unwrap();
    let objects = manifest(&folder)["objects"].as_array().unwrap().clone();
    let stored: u64 = objects.iter().map(|object| object["size_bytes"].as_u64().unwrap()).sum();
    assert_eq!(passed.read_bytes, stored);
    for role in ["backup_manifest", "config"] {
        let object = objects.iter().find(|object| object["role"] == role).unwrap();
        let path = folder.join(object["name"].as_str().unwrap());
        let whole = fs::read(&path).unwrap();
        let ways: [fn(&Path); 2] = [flip, |path| fs::remove_file(path).unwrap()];
        for damage in ways {
            verify(with.clone(), &site.run().context()).await.unwrap();
            assert_eq!(verdicts(&site, &backup).last().unwrap(), "passed");
            damage(&path);
            let params = serde_json::from_value(with.clone()).unwrap();
            let findings = VerifyBackup.check(&params, &site.run().check_context()).await.unwrap();
            assert!(!findings.refused(), "{role}: {:?}", findings.0);
            let error = verify(with.clone(), &site.run().context()).await.unwrap_err();
            assert!(error.to_string().contains("does not hold"), "{role}: {error}");
            assert_eq!(verdicts(&site, &backup).last().unwrap(), "failed", "{role}");
            fs::write(&path, &whole).unwrap();
        }
    }
}

#[tokio::test]
async fn a_second_copy_is_verified_by_its_own_manifest_however_it_is_packed() {
    let mut site = Site::new();
    let packed = Depot::default().encrypted();
    site.depot.secrets = packed.secrets;
    let url = format!("file://{}", site.cluster.folder("offsite").join("store").display());
    site.beside.lock().unwrap().insert("offsite".to_owned(), StoreEntry { url, ..packed.entry });
    let taken = take(&site, json!({ "database": "main", "stores": ["primary", "offsite"] })).await;
    assert_ne!(taken.copies[0].manifest, taken.copies[1].manifest);
    for store in ["primary", "offsite"] {
        let with = json!({ "database": "main", "backup": taken.backup, "store": store });
        let findings = VerifyBackup
            .check(&serde_json::from_value(with.clone()).unwrap(), &site.run().check_context())
            .await
            .unwrap();
        assert!(!findings.refused(), "{store}: {:?}", findings.0);
        let output = verify(with, &site.run().context()).await.unwrap();
        assert_eq!(output.backup.store, store);
    }
    let other = BackupHandle { database: "other".into(), ..taken.backup };
    let with = json!({ "database": "main", "backup": other, "store": "offsite" });
    assert!(verify(with, &site.run().context()).await.is_err());
}

/// Writes the WAL of a plain backup anew, with the segments that `choose` gives, as a copy by other programs would lie
/// there: without metadata, vouched for by `SHA256SUMS`.
fn repack(folder: &Path, choose: impl Fn(Vec<(PathBuf, Vec<u8>)>) -> Vec<(PathBuf, Vec<u8>)>) {
    let path = folder.join("pg_wal.tar");
    let bytes = fs::read(&path).unwrap();
    let mut segments = Vec::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let (mut entry, mut content) = (entry.unwrap(), Vec::new());
        entry.read_to_end(&mut content).unwrap();
        segments.push((entry.path().unwrap().into_owned(), content));
    }
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in choose(segments) {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    let bytes = builder.into_inner().unwrap();
    fs::write(&path, &bytes).unwrap();
    let mut manifest = manifest(folder);
    let mut sums = String::new();
    for object in manifest["objects"].as_array_mut().unwrap() {
        if object["name"] == "pg_wal.tar" {
            object["size_bytes"] = json!(bytes.len());
            object["sha256"] = json!(Digest::of(&bytes).to_string());
        }
        sums += &format!("{}  {}\n", object["sha256"].as_str().unwrap(), object["name"].as_str().unwrap());
    }
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    fs::write(folder.join("SHA256SUMS"), sums).unwrap();
    for hidden in [".rb-meta-manifest.json", ".rb-meta-pg_wal.tar"] {
        // It is not there any more the second time.
        let _ = fs::remove_file(folder.join(hidden));
    }
}

/// Takes a backup, and finishes segments while its data streams.
async fn take_over_segments(site: &Site) -> BaseBackupOutput {
    let over = Cell::new(false);
    let taking = async {
        let taken = take(site, json!({ "database": "main", "max_rate": "16MB" })).await;
        over.set(true);
        taken
    };
    let switching = async {
        let mut left = 3;
        while left > 0 && !over.get() {
            let streams = "SELECT count(*) FROM pg_stat_progress_basebackup WHERE phase LIKE 'streaming%'";
            if site.cluster.sql(streams) != "0" {
                site.cluster.sql("INSERT INTO t VALUES (1)");
                site.cluster.sql("SELECT pg_switch_wal()");
                left -= 1;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(taking, switching).0
}

/// The same again until it was slow enough to have many segments.
async fn take_long(site: &Site) -> BaseBackupOutput {
    for _ in 0..5 {
        let taken = take_over_segments(site).await;
        let segment = |lsn: &str| lsn.parse::<Lsn>().unwrap().0 >> 24;
        if segment(&taken.stop_lsn) - segment(&taken.start_lsn) > 2 {
            return taken;
        }
    }
    panic!("every backup was over before a segment could be finished");
}

#[tokio::test]
async fn wal_is_walked_in_its_order_whatever_order_it_lies_in_and_from_the_archive_where_it_is_missing() {
    let none = Compression { format: CompressionFormat::None, level: None };
    let entry = StoreEntry { compression: Some(none), ..StoreEntry::default() };
    let site = Site::over(Depot { entry, ..Depot::default() }, &[]);
    site.cluster.sql("CREATE TABLE t(n int)");
    let taken = take_long(&site).await;
    site.archive();
    let folder = folder(&site, &taken.backup);
    let newest = json!({ "database": "main" });
    let whole = verify(newest.clone(), &site.run().context()).await.unwrap().segments;
    assert!(whole.len() > 2 && whole.is_sorted(), "{whole:?}");

    repack(&folder, |segments| segments.into_iter().rev().collect());
    assert_eq!(verify(newest.clone(), &site.run().context()).await.unwrap().segments, whole);

    let missing = whole[1].clone();
    repack(&folder, |mut segments| {
        segments.retain(|(name, _)| *name != Path::new(&missing));
        segments
    });
    assert_eq!(verify(newest.clone(), &site.run().context()).await.unwrap().segments, whole);
    let kept = verdicts(&site, &taken.backup);
    let ways: [(How, ErrorClass); 2] = [(refused, ErrorClass::Fatal), (silent, ErrorClass::Retryable)];
    for (how, class) in ways {
        let error = verify(newest.clone(), &spoiled(&site, "main/wal/", how)).await.unwrap_err();
        assert_eq!(error.info().class, class, "{error}");
        assert_eq!(verdicts(&site, &taken.backup), kept, "{error}");
    }
    let error = verify(newest, &spoiled(&site, "main/wal/", gone)).await.unwrap_err();
    assert!(error.to_string().contains(&format!("`{missing}` is not in the backup")), "{error}");
    assert_eq!(verdicts(&site, &taken.backup).last().unwrap(), "failed");
}
