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
        bad_pages: Vec::new(),
        configuration: None,
        preload_libraries: Vec::new(),
        server_version: "15.18".to_owned(),
        system_id: SystemId(7),
        timeline: Timeline(1),
        start_lsn: "0/2000028".parse().unwrap(),
        stop_lsn: "0/2000100".parse().unwrap(),
        segment_size: SegmentSize::DEFAULT,
        tablespaces: Vec::new(),
        slots: Vec::new(),
        standbys: Vec::new(),
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
    let findings = check(&bench, "backup.find", newest.clone()).await.unwrap();
    assert!(
        findings.0.iter().any(|one| one.help.is_some() && one.message.contains("passed over: `two`")),
        "{findings:?}"
    );
    assert_eq!(run(&bench, "backup.find", newest).await.unwrap()["id"], json!("one"));
    let named = json!({ "database": "orders", "id": "two" });
    assert!(check(&bench, "backup.find", named.clone()).await.unwrap().refused(), "an object is missing");
    assert!(run(&bench, "backup.find", named).await.is_err());
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

fn objects(bench: &Bench, names: &[(&str, &str)]) {
    for (key, content) in names {
        let path = bench.path("store").join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::write(bench.path("store/.rb-store"), "{}").unwrap();
}

async fn put(bench: &Bench, key: &str, content: &str) {
    fs::write(bench.path("file"), content).unwrap();
    let with = json!({ "store": "primary", "key": key, "path": bench.path("file"), "overwrite": true });
    run(bench, "store.put", with).await.unwrap();
}

#[tokio::test]
async fn the_object_that_fits_is_found_and_none_is_an_error() {
    let bench = Bench::new();
    objects(&bench, &[("d/one.dump", "1"), ("d/two.dump", "22"), ("d/three.txt", "333"), ("e/x.dump", "4444")]);
    let times = [("d/one.dump", 300), ("d/two.dump", 200), ("d/three.txt", 100), ("e/x.dump", 400)];
    for (key, age) in times {
        let file = fs::File::options().write(true).open(bench.path("store").join(key)).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
    }
    let find = async |more: Value| {
        let mut with = json!({ "store": "primary", "prefix": "d/" });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        run(&bench, "store.find", with).await
    };
    assert_eq!(find(json!({})).await.unwrap()["key"], json!("d/three.txt"));
    let dump = find(json!({ "name": "*.dump" })).await.unwrap();
    assert_eq!((&dump["key"], &dump["count"], &dump["size_bytes"]), (&json!("d/two.dump"), &json!(2), &json!(2)));
    assert_eq!(find(json!({ "which": "oldest" })).await.unwrap()["key"], json!("d/one.dump"));
    assert_eq!(find(json!({ "which": "largest", "prefix": "" })).await.unwrap()["key"], json!("e/x.dump"));
    assert_eq!(find(json!({ "older_than": "250s" })).await.unwrap()["key"], json!("d/one.dump"));
    assert_eq!(find(json!({ "younger_than": "150s" })).await.unwrap()["count"], json!(1));
    assert_eq!(find(json!({ "min_size": "2", "name": "*.dump" })).await.unwrap()["count"], json!(1));
    assert!(find(json!({ "name": "*.gz" })).await.unwrap_err().to_string().contains("none of 3 objects"));
    let none = find(json!({ "name": "*.gz", "allow_none": true })).await.unwrap();
    assert_eq!((&none["key"], &none["count"]), (&Value::Null, &json!(0)));
}

#[tokio::test]
async fn objects_are_copied_with_proof_and_never_over_others_unless_it_is_said() {
    let bench = Bench::new();
    put(&bench, "d/one", "1").await;
    put(&bench, "d/sub/two", "22").await;
    let copy = async |from: Value, to: Value, overwrite: bool| {
        let mut with = json!({ "from": from, "to": to, "overwrite": overwrite });
        with["from"]["store"] = json!("primary");
        with["to"]["store"] = json!("primary");
        run(&bench, "store.copy", with).await
    };
    let all = copy(json!({ "prefix": "d/" }), json!({ "prefix": "copy/" }), false).await.unwrap();
    assert_eq!((&all["count"], &all["size_bytes"]), (&json!(2), &json!(3)));
    assert_eq!(fs::read_to_string(bench.path("store/copy/sub/two")).unwrap(), "22");
    copy(json!({ "prefix": "d/" }), json!({ "prefix": "copy/" }), false).await.expect("twice is once");
    put(&bench, "d/one", "x").await;
    put(&bench, "d/zzz", "new").await;
    let error = copy(json!({ "prefix": "d/" }), json!({ "prefix": "copy/" }), false).await.unwrap_err();
    assert!(error.to_string().contains("`copy/one`"), "{error}");
    assert!(!bench.path("store/copy/zzz").exists(), "nothing is copied when one would clash");
    copy(json!({ "key": "d/one" }), json!({ "key": "copy/one" }), true).await.unwrap();
    assert_eq!(fs::read_to_string(bench.path("store/copy/one")).unwrap(), "x");
    fs::write(bench.path("store/d/one"), "y").unwrap();
    assert!(copy(json!({ "key": "d/one" }), json!({ "key": "e" }), false).await.is_err(), "a damaged source");
    assert!(copy(json!({ "prefix": "none/" }), json!({ "prefix": "f/" }), false).await.is_err(), "nothing to copy");
}

#[tokio::test]
async fn objects_are_verified_against_what_was_recorded_or_a_sidecar() {
    let bench = Bench::new();
    put(&bench, "d/one", "1").await;
    put(&bench, "d/two", "22").await;
    let verify = async |with: Value| run(&bench, "store.verify", with).await;
    let all = json!({ "store": "primary", "prefix": "d/" });
    assert_eq!(verify(all.clone()).await.unwrap(), json!({ "count": 2, "size_bytes": 3 }));
    let sums = format!("{}  one\n{}  two\n", Digest::of(b"1"), Digest::of(b"22"));
    put(&bench, "d/all.sha256", &sums).await;
    let sidecar = json!({ "store": "primary", "sidecar": "d/all.sha256" });
    assert_eq!(verify(sidecar.clone()).await.unwrap()["count"], json!(2));
    fs::write(bench.path("store/d/two"), "2x").unwrap();
    let facts = json!({ "store": "primary", "sidecar": "d/all.sha256", "level": "facts" });
    verify(facts.clone()).await.expect("facts do not read the bytes");
    for with in [all.clone(), sidecar.clone()] {
        assert!(verify(with).await.unwrap_err().to_string().contains("`d/two` has the SHA-256"));
    }
    fs::remove_file(bench.path("store/d/two")).unwrap();
    assert!(verify(facts).await.unwrap_err().to_string().contains("`d/two` is missing"));
    objects(&bench, &[("d/foreign", "no digest")]);
    assert!(verify(all).await.unwrap_err().to_string().contains("`d/foreign` has no recorded SHA-256"));
    assert!(verify(json!({ "store": "primary", "prefix": "none/" })).await.is_err(), "nothing is no proof");
}

#[tokio::test]
async fn what_a_store_does_not_keep_is_said() {
    let bench = Bench::new();
    put(&bench, "one", "1").await;
    let with = json!({ "store": "primary", "key": "one", "path": bench.path("to"), "as_of": "2026-01-01T00:00:00Z" });
    assert!(run(&bench, "store.get", with).await.unwrap_err().to_string().contains("keeps no versions"));
    let with = json!({ "store": "primary", "prefix": "", "as_of": "2026-01-01T00:00:00Z" });
    assert!(run(&bench, "store.restore_versions", with).await.unwrap_err().to_string().contains("keeps no versions"));
    let with = json!({ "store": "primary", "key": "one", "version": "1" });
    assert!(run(&bench, "store.delete", with).await.unwrap_err().to_string().contains("keeps no versions"));
    let ready = run(&bench, "store.retrieve", json!({ "store": "primary", "prefix": "" })).await.unwrap();
    assert_eq!(ready, json!({ "count": 1, "asked": 0, "ready": 1 }));
    assert!(bench.path("store/one").exists());
}
