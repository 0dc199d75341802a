//! `store.*`, `checksum.*` and `backup.find` on real files and a real store.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use runbook::action::{ActionError, Findings, ReadStore, Store};
use runbook::base::Digest;
use runbook::catalog::{BackupPlace, KIND_POSTGRES_BASE, Manifest, ManifestObject, ObjectRole, PostgresFacts, commit};
use runbook::event::ErrorClass;
use runbook::language::inventory::{Database, Inventory, StoreEntry};
use runbook::pgformat::{SegmentSize, SystemId, Timeline};
use serde_json::{Value, json};

use crate::support::host::{Bench, action};

fn entry(bench: &Bench) -> StoreEntry {
    StoreEntry { url: format!("file://{}", bench.path("store").display()), ..StoreEntry::default() }
}

fn inventory(bench: &Bench) -> Inventory {
    let mut inventory = Inventory::default();
    inventory.stores.insert("primary".to_owned(), entry(bench));
    let database = Database { store: Some("primary".to_owned()), ..Database::default() };
    inventory.databases.insert("orders".to_owned(), database);
    inventory.databases.insert("lone".to_owned(), Database::default());
    inventory
}

fn open(bench: &Bench) -> Arc<dyn Store> {
    runbook::store::Opening::plain(&entry(bench), "primary").open().unwrap()
}

async fn run(bench: &Bench, name: &str, with: Value) -> Result<Value, ActionError> {
    let mut cx = bench.run_context(inventory(bench));
    let store = open(bench);
    cx.stores = Arc::new(move |_| Ok(Arc::clone(&store)));
    action(name).run(&with, &cx).await
}

async fn check(bench: &Bench, name: &str, with: Value) -> Result<Findings, ActionError> {
    let mut cx = bench.check_context(inventory(bench));
    let store = runbook::store::Opening::plain(&entry(bench), "primary").open_read().unwrap();
    cx.stores = Arc::new(move |_| -> Result<Arc<dyn ReadStore>, ActionError> { Ok(Arc::clone(&store)) });
    action(name).check(&with, &cx).await
}

#[tokio::test]
async fn a_file_goes_into_a_store_and_comes_back() {
    let bench = Bench::new();
    let (from, to) = (bench.path("from"), bench.path("to"));
    fs::write(&from, "content").unwrap();
    let with = json!({ "store": "primary", "key": "d/one", "path": from });
    let put = run(&bench, "store.put", with.clone()).await.unwrap();
    assert_eq!((&put["sha256"], &put["existed"]), (&json!(Digest::of(b"content")), &json!(false)));
    assert_eq!(run(&bench, "store.put", with.clone()).await.unwrap()["existed"], json!(true), "twice is once");
    fs::write(&from, "other").unwrap();
    assert_eq!(run(&bench, "store.put", with).await.unwrap_err().info().class, ErrorClass::Fatal);
    let listed = run(&bench, "store.list", json!({ "store": "primary", "prefix": "d/" })).await.unwrap();
    assert_eq!((&listed["count"], &listed["objects"][0]["key"]), (&json!(1), &json!("d/one")));
    let with = json!({ "store": "primary", "key": "d/one", "path": to });
    assert!(!check(&bench, "store.get", with.clone()).await.unwrap().refused());
    run(&bench, "store.get", with.clone()).await.unwrap();
    run(&bench, "store.get", with.clone()).await.unwrap();
    assert_eq!(fs::read_to_string(&to).unwrap(), "content");
    fs::write(&to, "mine").unwrap();
    assert!(run(&bench, "store.get", with.clone()).await.is_err(), "what is there is kept");
    assert_eq!(fs::read_to_string(&to).unwrap(), "mine");
    let with = json!({ "store": "primary", "key": "d/one", "path": to, "overwrite": true });
    run(&bench, "store.get", with).await.unwrap();
    assert_eq!(fs::read_to_string(&to).unwrap(), "content");
    let with = json!({ "store": "primary", "key": "d/one" });
    assert_eq!(run(&bench, "store.delete", with.clone()).await.unwrap()["existed"], json!(true));
    assert_eq!(run(&bench, "store.delete", with).await.unwrap()["existed"], json!(false));
}

#[tokio::test]
async fn a_damaged_object_never_gets_the_name_of_the_file() {
    let bench = Bench::new();
    let (from, to) = (bench.path("from"), bench.path("to"));
    fs::write(&from, "content").unwrap();
    run(&bench, "store.put", json!({ "store": "primary", "key": "one", "path": from })).await.unwrap();
    fs::write(bench.path("store/one"), "contend").unwrap();
    let error = run(&bench, "store.get", json!({ "store": "primary", "key": "one", "path": to })).await.unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(!to.exists() && !bench.path(".to.runbook-part").exists());
}

#[tokio::test]
async fn a_sidecar_is_understood_by_sha256sum_and_every_damage_is_found() {
    let bench = Bench::new();
    fs::create_dir(bench.path("sub")).unwrap();
    let files = [bench.path("a"), bench.path("sub/b c"), bench.path("back\\slash")];
    for file in &files {
        fs::write(file, file.to_str().unwrap()).unwrap();
    }
    let sidecar = bench.path("all.sha256");
    let written = run(&bench, "checksum.write", json!({ "files": files, "sidecar": sidecar })).await.unwrap();
    assert_eq!(written["count"], json!(3));
    let mut sha256sum = Command::new("sha256sum");
    let status = sha256sum.args(["--strict", "--quiet", "-c", "all.sha256"]).current_dir(bench.dir.path()).status();
    assert!(status.unwrap().success());
    let verify = async || run(&bench, "checksum.verify", json!({ "sidecar": sidecar })).await;
    assert_eq!(verify().await.unwrap()["count"], json!(3));
    fs::write(&files[1], "changed").unwrap();
    assert!(verify().await.unwrap_err().to_string().contains("`sub/b c`"));
    fs::remove_file(&files[1]).unwrap();
    assert!(verify().await.is_err(), "a missing file");
    for text in ["", "nonsense\n", &format!("{}  /etc/hostname\n", Digest::of(b"x"))] {
        fs::write(&sidecar, text).unwrap();
        assert!(verify().await.is_err(), "{text:?}");
        assert!(check(&bench, "checksum.verify", json!({ "sidecar": sidecar })).await.unwrap().refused());
    }
    fs::remove_file(&sidecar).unwrap();
    assert!(verify().await.is_err(), "a missing sidecar");
}

async fn backup(bench: &Bench, id: &str, stopped_at: &str) {
    let store = open(bench);
    let key = BackupPlace::new("orders", (KIND_POSTGRES_BASE, None), id).key("base.tar").unwrap();
    store.put(&key, Box::new(std::io::Cursor::new(b"data".to_vec())), Default::default()).await.unwrap();
    let object = ManifestObject::new("base.tar", 4, Digest::of(b"data"), ObjectRole::Data);
    let postgres = PostgresFacts {
        server_version: "15.18".to_owned(),
        system_id: SystemId(7),
        timeline: Timeline(1),
        start_lsn: "0/2000028".parse().unwrap(),
        stop_lsn: "0/2000100".parse().unwrap(),
        segment_size: SegmentSize::DEFAULT,
        tablespaces: Vec::new(),
        slots: Vec::new(),
        data_checksums: None,
        archiving: None,
        databases: Vec::new(),
    };
    let ended = stopped_at.parse().unwrap();
    let manifest = Manifest {
        postgres: Some(postgres),
        objects: vec![object],
        ..Manifest::new(id, KIND_POSTGRES_BASE, "orders", (ended, ended))
    };
    commit(&*store, "orders", manifest).await.unwrap();
}

#[tokio::test]
async fn the_backup_that_fits_is_found_or_the_step_is_refused() {
    let bench = Bench::new();
    let newest = json!({ "database": "orders", "kind": "postgres.base" });
    assert!(check(&bench, "backup.find", newest.clone()).await.is_err(), "there is no store yet");
    backup(&bench, "one", "2026-01-01T00:00:00Z").await;
    backup(&bench, "two", "2026-01-02T00:00:00Z").await;
    let found = run(&bench, "backup.find", newest.clone()).await.unwrap();
    assert_eq!((&found["id"], &found["backup"]["database"]), (&json!("two"), &json!("orders")));
    let before = json!({ "database": "orders", "before": "2026-01-02T01:00:00+01:00" });
    assert_eq!(run(&bench, "backup.find", before).await.unwrap()["id"], json!("one"));
    let by_id = json!({ "database": "orders", "id": "one" });
    assert_eq!(run(&bench, "backup.find", by_id).await.unwrap()["id"], json!("one"));
    let too_early = json!({ "database": "orders", "before": "2025-01-01T00:00:00Z" });
    assert!(check(&bench, "backup.find", too_early.clone()).await.unwrap().refused());
    assert!(run(&bench, "backup.find", too_early).await.is_err());
    let pending = json!({ "database": "orders", "before": { "$late": "steps.ask.at" } });
    assert!(!check(&bench, "backup.find", pending).await.unwrap().refused());
    fs::remove_file(bench.path("store/orders/base/two/base.tar")).unwrap();
    assert!(check(&bench, "backup.find", newest.clone()).await.unwrap().refused(), "an object is missing");
    assert!(run(&bench, "backup.find", newest).await.is_err());
}

#[tokio::test]
async fn arguments_that_make_no_sense_are_named() {
    let bench = Bench::new();
    let inventory = inventory(&bench);
    let cx = runbook::action::PlanContext {
        inventory: &inventory,
        mode: runbook::action::Mode::Real,
        scratch: bench.dir.path(),
        host: "local",
    };
    for (name, with, path) in [
        ("backup.find", json!({ "database": "orders", "before": "2026-01-02 10:00" }), "/before"),
        ("backup.find", json!({ "database": "lone" }), "/database"),
        ("store.put", json!({ "store": "primary", "key": "../x", "path": "/x" }), "/key"),
        ("store.get", json!({ "store": "primary", "key": "x", "path": "x" }), "/path"),
        ("checksum.write", json!({ "files": ["/b/f"], "sidecar": "/a/x" }), "/files/0"),
        ("checksum.verify", json!({ "sidecar": "x" }), "/sidecar"),
    ] {
        let faults = action(name).effects(&with, &cx).unwrap_err();
        assert_eq!(faults[0].path, path, "{name}: {faults:?}");
    }
}
