//! Backups of files: made in several stores, found, verified, held, fetched; and what is said of damage.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use runbook::action::{ActionError, Findings, ObjectKey, ReadStore, Recovery, Store, StoreError};
use runbook::actions::backup::ReadBudget;
use runbook::base::units::ByteSize;
use runbook::catalog::Index;
use runbook::event::ErrorClass;
use runbook::language::inventory::{Inventory, StoreEntry};
use serde_json::{Value, json};

use crate::support::cli::Cli;
use crate::support::host::{Bench, action};
use crate::support::interposed::{Interposer, interposed};
use crate::support::sshd::Sshd;

const STORES: [&str; 2] = ["primary", "offsite"];

fn entry(bench: &Bench, name: &str) -> StoreEntry {
    StoreEntry { url: format!("file://{}", bench.path(name).display()), ..StoreEntry::default() }
}

fn inventory(bench: &Bench) -> Inventory {
    let stores = STORES.map(|name| (name.to_owned(), entry(bench, name)));
    Inventory { stores: stores.into(), ..Inventory::default() }
}

fn open(bench: &Bench, name: &str) -> Arc<dyn Store> {
    runbook::store::Opening::plain(&entry(bench, name), name).open().unwrap()
}

async fn run(bench: &Bench, name: &str, with: Value) -> Result<Value, ActionError> {
    let mut cx = bench.run_context(inventory(bench));
    let stores: Vec<Arc<dyn Store>> = STORES.iter().map(|name| open(bench, name)).collect();
    cx.stores = Arc::new(move |name| Ok(Arc::clone(stores.iter().find(|store| store.name() == name).unwrap())));
    action(name).run(&with, &cx).await
}

async fn check(bench: &Bench, name: &str, with: Value) -> Findings {
    let mut cx = bench.check_context(inventory(bench));
    let folder = STORES.map(|name| entry(bench, name));
    cx.stores = Arc::new(move |name| -> Result<Arc<dyn ReadStore>, ActionError> {
        let at = STORES.iter().position(|known| *known == name).unwrap();
        Ok(runbook::store::Opening::plain(&folder[at], name).open_read().unwrap())
    });
    action(name).check(&with, &cx).await.unwrap()
}

/// A bench with a folder and a file to back up.
fn bench() -> Bench {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("media/deep/er")).unwrap();
    fs::write(bench.path("media/one"), "one").unwrap();
    fs::write(bench.path("media/deep/er/two"), vec![7; 100_000]).unwrap();
    std::os::unix::fs::symlink("../one", bench.path("media/deep/link")).unwrap();
    fs::write(bench.path("notes.txt"), "notes").unwrap();
    bench
}

fn both(bench: &Bench) -> Value {
    json!({ "source": "media", "paths": [bench.path("media"), bench.path("notes.txt")], "stores": STORES, "tier": "weekly" })
}

fn folder(bench: &Bench, store: &str, made: &Value) -> std::path::PathBuf {
    bench.path(store).join(made["copies"][0]["folder"].as_str().unwrap())
}

#[tokio::test]
async fn a_backup_lies_in_every_store_with_its_tier_and_comes_back_as_it_was() {
    let bench = bench();
    let made = run(&bench, "backup.create", both(&bench)).await.unwrap();
    assert_eq!(made["copies"].as_array().unwrap().len(), 2, "{made}");
    for store in STORES {
        let folder = folder(&bench, store, &made);
        assert!(folder.ends_with(format!("media/files/weekly/{}", made["id"].as_str().unwrap())));
        for name in ["manifest.json", "SHA256SUMS", "RESTORE.md", "restore.sh"] {
            assert!(folder.join(name).is_file(), "{name} in {}", folder.display());
        }
    }
    let with = json!({ "source": "media", "store": "offsite", "tier": "weekly" });
    let found = run(&bench, "backup.find", with).await.unwrap();
    assert_eq!(found["id"], made["id"]);
    let into = bench.path("back");
    let with = json!({ "source": "media", "store": "offsite", "backup": found["backup"], "into": into });
    assert!(!check(&bench, "backup.get", with.clone()).await.refused());
    run(&bench, "backup.get", with.clone()).await.unwrap();
    assert_eq!(found["backup"]["store"], "offsite");
    let manifest = fs::read_to_string(folder(&bench, "offsite", &made).join("manifest.json")).unwrap();
    assert!(manifest.contains("\"environment\""), "retention judges by the environment: {manifest}");
    assert_eq!(fs::read_to_string(into.join("notes.txt")).unwrap(), "notes");
    assert_eq!(fs::read(into.join("media/deep/er/two")).unwrap(), vec![7; 100_000]);
    assert_eq!(fs::read_link(into.join("media/deep/link")).unwrap(), Path::new("../one"));
    assert!(check(&bench, "backup.get", with.clone()).await.refused(), "nothing is overwritten");
    assert!(run(&bench, "backup.get", with).await.is_err());
}

#[tokio::test]
async fn a_second_attempt_finds_what_the_first_one_finished() {
    let bench = bench();
    let with = json!({ "source": "dump", "paths": [bench.path("notes.txt")], "stores": STORES, "remove_local": true });
    let first = run(&bench, "backup.create", with.clone()).await.unwrap();
    assert!(first["removed"] == true && !bench.path("notes.txt").exists());
    let again = run(&bench, "backup.create", with.clone()).await.unwrap();
    assert_eq!(again["backup"], first["backup"]);
    assert!(again["copies"].as_array().unwrap().iter().all(|copy| copy["existed"] == true));
    // An attempt that ended after the first store goes on with the second one.
    let manifest = bench.path("offsite").join(first["copies"][1]["folder"].as_str().unwrap()).join("manifest.json");
    open(&bench, "offsite").delete(&key(&bench, &manifest)).await.unwrap();
    fs::write(bench.path("notes.txt"), "other").unwrap();
    let error = run(&bench, "backup.create", with.clone()).await.unwrap_err();
    assert!(error.to_string().contains("changed"), "{error}");
    assert_eq!(fs::read_to_string(bench.path("notes.txt")).unwrap(), "other", "what is no backup is kept");
    fs::write(bench.path("notes.txt"), "notes").unwrap();
    let mended = run(&bench, "backup.create", with).await.unwrap();
    assert!(mended["removed"] == true && !bench.path("notes.txt").exists());
}

#[tokio::test]
async fn a_step_takes_the_copy_in_the_store_it_names_and_says_when_there_is_none() {
    let bench = bench();
    let made = run(&bench, "backup.create", both(&bench)).await.unwrap();
    let elsewhere = STORES.iter().find(|store| made["backup"]["store"] != **store).unwrap();
    let with = json!({ "source": "media", "store": elsewhere, "backup": made["backup"], "level": "content" });
    let verified = run(&bench, "backup.verify", with.clone()).await.unwrap();
    assert_eq!(verified["verified"][0], made["id"]);
    fs::remove_file(folder(&bench, elsewhere, &made).join("manifest.json")).unwrap();
    let error = run(&bench, "backup.verify", with).await.unwrap_err();
    assert!(error.to_string().contains("has no copy"), "{error}");
}

#[tokio::test]
async fn a_check_refuses_stores_that_do_not_answer_unless_enough_others_do() {
    let bench = bench();
    fs::create_dir_all(bench.path("primary")).unwrap();
    fs::write(bench.path("offsite"), "a file where a folder should be").unwrap();
    assert!(check(&bench, "backup.create", both(&bench)).await.refused());
    let mut with = both(&bench);
    with["at_least"] = json!(1);
    assert!(!check(&bench, "backup.create", with).await.refused());
}

fn key(bench: &Bench, path: &Path) -> runbook::action::ObjectKey {
    path.strip_prefix(bench.path("offsite")).unwrap().to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn one_store_may_fail_when_enough_others_have_it_and_then_nothing_is_removed() {
    let bench = bench();
    fs::write(bench.path("offsite"), "no folder").unwrap();
    let with = |at_least: usize| json!({ "source": "n", "paths": [bench.path("notes.txt")], "stores": STORES, "at_least": at_least, "remove_local": true });
    let error = run(&bench, "backup.create", with(2)).await.unwrap_err();
    assert!(error.to_string().contains("1 of 2 stores") && error.to_string().contains("offsite"), "{error}");
    let made = run(&bench, "backup.create", with(1)).await.unwrap();
    assert_eq!((&made["failed"][0]["store"], &made["removed"]), (&json!("offsite"), &json!(false)));
    assert!(bench.path("notes.txt").exists());
}

#[tokio::test]
async fn every_kind_of_damage_is_found_and_kept_beside_the_manifest() {
    let bench = bench();
    let made = run(&bench, "backup.create", both(&bench)).await.unwrap();
    let object = folder(&bench, "primary", &made);
    let names: Vec<_> =
        fs::read_dir(&object).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let tar = object.join(names.iter().find(|name| name.starts_with("media.tar")).unwrap());
    let whole = fs::read(&tar).unwrap();
    let with = |level: &str| json!({ "source": "media", "store": "primary", "backup": made["backup"], "level": level });
    for level in ["manifest", "sizes", "digests", "content"] {
        run(&bench, "backup.verify", with(level)).await.unwrap();
    }
    let find = json!({ "source": "media", "store": "primary", "verified": true });
    assert_eq!(run(&bench, "backup.find", find.clone()).await.unwrap()["id"], made["id"]);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damage in [flipped, whole[..whole.len() - 1].to_vec(), vec![0; whole.len()]] {
        fs::write(&tar, &damage).unwrap();
        for level in ["digests", "content"] {
            let error = run(&bench, "backup.verify", with(level)).await.unwrap_err();
            assert!(error.to_string().contains("media.tar"), "{error}");
        }
        let get =
            json!({ "source": "media", "store": "primary", "backup": made["backup"], "into": bench.path("back") });
        assert!(run(&bench, "backup.get", get).await.is_err());
        assert!(!bench.path("back").exists(), "nothing unproven gets its name");
    }
    let refused = check(&bench, "backup.find", find).await;
    assert!(refused.refused(), "{refused:?}");
}

#[tokio::test]
async fn a_backup_with_an_empty_folder_is_whole_and_comes_back() {
    let bench = bench();
    fs::create_dir(bench.path("uploads")).unwrap();
    let paths = [bench.path("uploads"), bench.path("notes.txt")];
    let made = json!({ "source": "media", "paths": paths, "stores": STORES });
    let made = run(&bench, "backup.create", made).await.unwrap();
    let verify = json!({ "source": "media", "store": "primary", "backup": made["backup"], "level": "content" });
    run(&bench, "backup.verify", verify).await.unwrap();
    let get = json!({ "source": "media", "store": "primary", "backup": made["backup"], "into": bench.path("back") });
    run(&bench, "backup.get", get).await.unwrap();
    assert_eq!(fs::read_dir(bench.path("back/uploads")).unwrap().count(), 0);
}

/// What a fetch has left beside the folder that it was to make.
fn hidden(bench: &Bench) -> Vec<String> {
    let names = fs::read_dir(bench.dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

/// Cancels the attempt that reads the archive of the folder.
struct Cancelling(tokio_util::sync::CancellationToken);

impl Interposer for Cancelling {
    fn before_get(&self, key: &runbook::action::ObjectKey) -> Result<(), runbook::action::StoreError> {
        if key.as_str().contains("media.tar") {
            self.0.cancel();
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_fetch_that_fails_or_is_cancelled_leaves_nothing_behind_and_one_that_was_cut_off_is_known() {
    let bench = bench();
    // The file comes first, and is whole.
    let made = json!({ "source": "media", "paths": [bench.path("notes.txt"), bench.path("media")], "stores": STORES });
    let made = run(&bench, "backup.create", made).await.unwrap();
    let into = bench.path("back");
    let with = json!({ "source": "media", "store": "primary", "backup": made["backup"], "into": into });
    let object = folder(&bench, "primary", &made);
    let names = fs::read_dir(&object).unwrap().map(|entry| entry.unwrap().path());
    let tar = names.into_iter().find(|path| path.to_string_lossy().contains("/media.tar")).unwrap();
    let whole = fs::read(&tar).unwrap();
    fs::write(&tar, &whole[..whole.len() / 2]).unwrap();
    assert!(run(&bench, "backup.get", with.clone()).await.is_err());
    assert_eq!(hidden(&bench), [""; 0], "no plain content stays");
    fs::write(&tar, &whole).unwrap();
    let mut cx = bench.run_context(inventory(&bench));
    cx.cancel = tokio_util::sync::CancellationToken::new();
    let store = interposed(open(&bench, "primary"), Cancelling(cx.cancel.clone()));
    cx.stores = Arc::new(move |_| Ok(Arc::clone(&store)));
    let error = action("backup.get").run(&with, &cx).await.unwrap_err();
    assert!(error.to_string().contains("the folder was not made"), "{error}");
    assert!(hidden(&bench).is_empty() && !into.exists(), "{:?}", hidden(&bench));
    let recover = async || {
        action("backup.get").recover(&with, &bench.interrupted(), &bench.check_context(inventory(&bench))).await
    };
    assert_eq!(recover().await.unwrap(), Recovery::Rerun);
    let got = run(&bench, "backup.get", with.clone()).await.unwrap();
    assert_eq!(recover().await.unwrap(), Recovery::Adopt(got), "the folder is this attempt's");
    fs::remove_file(bench.attempt().join("fetched.json")).unwrap();
    assert_eq!(
        recover().await.unwrap(),
        Recovery::Rerun,
        "somebody else's folder: the next attempt says that it exists"
    );
}

#[tokio::test]
async fn a_file_that_somebody_writes_to_all_the_time_is_no_backup() {
    let bench = bench();
    let path = bench.path("state.db");
    fs::write(&path, vec![1; 32 << 20]).unwrap();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let (path, done) = (path.clone(), Arc::clone(&done));
        std::thread::spawn(move || {
            let file = fs::File::options().write(true).open(path).unwrap();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                std::os::unix::fs::FileExt::write_at(&file, b"new", 100).unwrap();
            }
        })
    };
    let with = json!({ "source": "media", "paths": [path], "stores": ["primary"] });
    let error = run(&bench, "backup.create", with.clone()).await.unwrap_err();
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    assert!(format!("{error:?}").contains("changed while it was read"), "{error:?}");
    let listed = crate::support::cli::listing(&bench.path("primary"));
    assert!(!listed.iter().any(|line| line.contains("manifest.json")), "{listed:#?}");
    run(&bench, "backup.create", with).await.unwrap();
}

#[tokio::test]
async fn demands_on_size_and_encryption_are_held() {
    let bench = bench();
    let made = run(&bench, "backup.create", both(&bench)).await.unwrap();
    let with = |more: Value| {
        let mut with = json!({ "source": "media", "store": "primary", "backup": made["backup"], "level": "sizes" });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with
    };
    for (demand, said) in
        [(json!({ "encrypted": "required" }), "not encrypted"), (json!({ "min_size": "1GiB" }), "less than")]
    {
        let error = run(&bench, "backup.verify", with(demand)).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_budget_reads_first_what_was_never_verified() {
    let bench = bench();
    for name in ["a", "b", "c"] {
        let mut cx = bench.run_context(inventory(&bench));
        cx.step = name.parse().unwrap();
        let store = open(&bench, "primary");
        cx.stores = Arc::new(move |_| Ok(Arc::clone(&store)));
        let with = json!({ "source": "n", "paths": [bench.path("notes.txt")], "stores": ["primary"] });
        action("backup.create").run(&with, &cx).await.unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    for left in [2, 2, 2] {
        let with = json!({ "source": "n", "store": "primary", "budget": "1B" });
        let verified = run(&bench, "backup.verify", with).await.unwrap();
        assert_eq!((&verified["left"], verified["verified"].as_array().unwrap().len()), (&json!(left), 1));
        seen.insert(verified["verified"][0].as_str().unwrap().to_owned());
    }
    assert_eq!(seen.len(), 3, "each night another one");
}

#[tokio::test]
async fn a_damaged_backup_takes_its_turn_and_not_every_night() {
    let bench = bench();
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let mut cx = bench.run_context(inventory(&bench));
        cx.step = name.parse().unwrap();
        let store = open(&bench, "primary");
        cx.stores = Arc::new(move |_| Ok(Arc::clone(&store)));
        let with = json!({ "source": "n", "paths": [bench.path("notes.txt")], "stores": ["primary"] });
        let made = action("backup.create").run(&with, &cx).await.unwrap();
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    let folder = fs::read_dir(bench.path("primary/n")).unwrap().flatten().map(|family| family.path().join(&ids[0]));
    let folder = folder.into_iter().find(|folder| folder.is_dir()).unwrap();
    let object =
        fs::read_dir(folder).unwrap().flatten().find(|one| one.file_name().display().to_string().contains("notes"));
    let object = object.unwrap().path();
    let mut bytes = fs::read(&object).unwrap();
    bytes[0] ^= 1;
    fs::write(&object, bytes).unwrap();
    let mut nights = Vec::new();
    for _ in 0..6 {
        let with = json!({ "source": "n", "store": "primary", "budget": "1B" });
        nights.push(match run(&bench, "backup.verify", with).await {
            Ok(verified) => verified["verified"][0].as_str().unwrap().to_owned(),
            Err(error) if error.to_string().contains(&ids[0]) => ids[0].clone(),
            Err(error) => panic!("{error}"),
        });
    }
    assert_eq!(nights, [&ids[..], &ids[..]].concat());
}

#[tokio::test]
async fn what_could_not_be_read_spends_nothing_of_a_budget() {
    let bench = bench();
    run(&bench, "backup.create", both(&bench)).await.unwrap();
    let list = runbook::catalog::list(open(&bench, "primary").as_read(), "media").await.unwrap();
    let backup = &list.backups[0];
    let mut budget = ReadBudget::new(ByteSize(1));
    assert!(budget.covers(backup), "the first, however large it is");
    assert!(budget.covers(backup), "nothing was read of the first");
    budget.took(1);
    assert!(!budget.covers(backup));
}

#[tokio::test]
async fn what_was_read_before_is_not_read_again_and_never_trusted_over_the_store() {
    let bench = bench();
    run(&bench, "backup.create", both(&bench)).await.unwrap();
    let store = open(&bench, "primary");
    let (state, url) = (bench.path("state"), entry(&bench, "primary").url);
    let list = async |index: &Index| {
        let list = runbook::catalog::Catalog::of(store.as_read()).with_index(index).everything().await.unwrap();
        index.save().unwrap();
        (list.backups.len(), list.damaged.len())
    };
    assert_eq!(list(&Index::open(&state, &url)).await, (1, 0));
    let file = fs::read_dir(&state).unwrap().next().unwrap().unwrap().path();
    assert!(fs::read_to_string(&file).unwrap().contains("manifest.json"));
    fs::write(&file, "torn").unwrap();
    assert_eq!(list(&Index::open(&state, &url)).await, (1, 0), "a torn index is an empty one");
    let found = fs::read_to_string(&file).unwrap();
    fs::write(&file, found.replace("weekly", "hourly")).unwrap();
    assert_eq!(list(&Index::open(&state, &url)).await, (1, 0), "an altered entry is read again");
    fs::remove_dir_all(bench.path("primary/media")).unwrap();
    assert_eq!(list(&Index::open(&state, &url)).await, (0, 0), "what the store has not is not there");
}

/// A user with two stores, one of which cannot be reached.
fn cli() -> Cli {
    let cli = Cli::new();
    fs::create_dir_all(cli.path("media")).unwrap();
    cli.file("media/one", "one");
    cli.file(
        "inventory.yaml",
        &format!(
            "version: 1\nstores:\n  near: {{ url: 'file://{0}/near' }}\n  far: {{ url: 'file://{0}/missing/far' }}\n",
            cli.path("").display().to_string().trim_end_matches('/')
        ),
    );
    cli.file(
        "runbook.yaml",
        &format!(
            "version: 1\nname: nightly\nsteps:\n  - id: keep\n    uses: backup.create\n    with: {{ source: media, paths: ['{}'], stores: [near] }}\n",
            cli.path("media").display()
        ),
    );
    cli.run(&["run", "runbook.yaml"]).ends(0);
    cli
}

#[test]
fn a_store_that_gives_no_answer_is_said_and_hides_no_other() {
    let cli = cli();
    let listed = cli.run(&["backups", "list"]).ends(10);
    assert!(listed.out.contains("media") && listed.err.contains("`far`"), "{listed:?}");
    let listed = cli.run(&["backups", "list", "--store", "near", "--json"]).ends(0).json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1);
    assert_eq!(listed["backups"][0]["kind"], "files");
    cli.run(&["backups", "list", "--store", "nowhere"]).ends(2);
    let none = cli.run(&["backups", "list", "--store", "near", "--source", "other"]).ends(0);
    assert!(none.out.is_empty() && none.err.contains("no backups"), "{none:?}");
}

#[test]
fn a_reason_is_said_once_and_an_unsound_inventory_is_shown_with_its_places() {
    let cli = cli();
    let nowhere = cli.run(&["backups", "list", "--store", "file:///nowhere/at/all"]).ends(10);
    assert_eq!(nowhere.err.matches("os error 2").count(), 1, "{nowhere:?}");
    assert!(!nowhere.err.contains("no backups in"), "{nowhere:?}");
    cli.file("bad.yaml", "version: 1\nstorse: {}\n");
    cli.run(&["backups", "list", "--inventory", "bad.yaml"])
        .ends(3)
        .says("bad.yaml:2:1")
        .says("did you mean `stores`?");
    cli.run(&["doctor"]).ends(2).says("--store");
}

#[test]
fn a_backup_is_held_shown_verified_and_let_go() {
    let cli = cli();
    let near = |args: &[&str]| {
        let mut all = vec!["backups"];
        all.extend(args);
        all.extend(["--store", "near"]);
        cli.run(&all)
    };
    let id = near(&["list", "--json"]).ends(0).json()["backups"][0]["id"].as_str().unwrap().to_owned();
    near(&["hold", &id]).ends(2);
    near(&["hold", &id, "--reason", "case 4711"]).ends(0);
    near(&["hold", &id, "--reason", "case 4711"]).ends(0);
    let shown = near(&["show", &id]).ends(0);
    assert!(shown.out.contains("case 4711") && shown.out.contains("tester"), "{shown:?}");
    near(&["verify", &id, "--level", "content"]).ends(0);
    let listed = near(&["list"]).ends(0).out;
    assert!(listed.contains("held") && listed.contains("verified"), "{listed}");
    near(&["hold", &id, "--lift"]).ends(2);
    near(&["hold", &id, "--lift", "--reason", "closed"]).ends(0).prints("held no more: closed");
    assert!(!near(&["list"]).ends(0).out.contains("held"));
    near(&["hold", &id, "--lift", "--reason", "again"]).ends(0).prints("was not held");
    near(&["hold", &id, "--reason", "case 4712"]).ends(0);
    let shown = near(&["show", &id]).ends(0).out;
    assert!(
        shown.contains("case 4711; lifted") && shown.contains(": closed") && shown.contains("case 4712"),
        "{shown}"
    );
    near(&["hold", &id, "--reason", "a test", "--until", "2199-01-01T00:00:00Z"]).ends(0);
    let listed = near(&["list"]).ends(0).out;
    assert!(listed.contains("held") && !listed.contains("held until"), "the one that lasts longest counts: {listed}");
    let lifted = near(&["hold", &id, "--lift", "--reason", "tested"]).ends(0);
    lifted.prints("(\"a test\") is lifted: tested").prints("still held: case 4712 by ");
    assert!(near(&["list"]).ends(0).out.contains("held"));
    near(&["hold", &id, "--lift", "--reason", "settled"]).ends(0).prints("held no more: settled");
    // A manifest that rots where it lies is not believed from what was read before.
    let folder = cli.path("near").join(near(&["show", &id, "--json"]).ends(0).json()[0]["folder"].as_str().unwrap());
    let manifest = folder.join("manifest.json");
    let (good, modified) = (fs::read(&manifest).unwrap(), fs::metadata(&manifest).unwrap().modified().unwrap());
    let rewrite = |text: &[u8]| {
        fs::write(&manifest, text).unwrap();
        fs::File::options().write(true).open(&manifest).unwrap().set_modified(modified).unwrap();
    };
    let mut rotten = good.clone();
    rotten[0] ^= 1;
    rewrite(&rotten);
    assert!(!near(&["list"]).ends(0).out.contains("DAMAGED"), "the listing has it from before");
    near(&["verify", &id, "--level", "manifest"]).ends(10).prints("its manifest is damaged");
    rewrite(&good);
    near(&["verify", &id]).ends(0);
    let sums = fs::read(folder.join("SHA256SUMS")).unwrap();
    fs::write(folder.join("SHA256SUMS"), "nonsense").unwrap();
    near(&["verify", &id]).ends(0).says("`SHA256SUMS` is not what the manifest says");
    fs::write(folder.join("SHA256SUMS"), sums).unwrap();
    near(&["show", "nonsense"]).ends(2);
    let folder = near(&["show", &id, "--json"]).ends(0).json()[0]["folder"].as_str().unwrap().to_owned();
    let object = cli.path("near").join(folder);
    let names = fs::read_dir(&object).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let tar = object.join(names.into_iter().find(|name| name.starts_with("media.tar")).unwrap());
    let mut bytes = fs::read(&tar).unwrap();
    bytes[0] ^= 1;
    fs::write(&tar, bytes).unwrap();
    let damaged = near(&["verify", "--all", "--budget", "1GB"]).ends(10);
    assert!(damaged.out.contains("DAMAGED"), "{damaged:?}");
    assert!(near(&["list"]).ends(0).out.contains("DAMAGED"));
    fs::write(object.join("manifest.json"), "{}").unwrap();
    let torn = near(&["list"]).ends(0);
    assert!(torn.out.contains("DAMAGED") && torn.out.contains("manifest.json"), "{torn:?}");
    let torn = near(&["verify", &id]).ends(10);
    assert!(torn.err.contains("cannot be used"), "{torn:?}");
}

#[tokio::test]
async fn what_pg_dump_did_not_write_and_what_pg_restore_does_not_know_is_no_damage() {
    let bench = bench();
    // A custom dump of a version to come, one that a script packed, and its sum.
    fs::write(bench.path("orders.dump"), b"PGDMP\x01\x63\x00\x04\x08\x01").unwrap();
    fs::write(bench.path("orders.sql.gz"), b"\x1f\x8b\x08\x00\x00\x00\x00\x00").unwrap();
    fs::write(bench.path("orders.dump.sha256"), "5f8b0c  orders.dump\n").unwrap();
    let paths = ["orders.dump", "orders.sql.gz", "orders.dump.sha256"].map(|name| bench.path(name));
    let with = json!({ "source": "orders", "kind": "postgres.dump", "paths": paths, "stores": STORES });
    let made = run(&bench, "backup.create", with).await.unwrap();
    let verify =
        |made: &Value| json!({ "source": "orders", "store": "primary", "backup": made["backup"], "level": "content" });
    let verified = run(&bench, "backup.verify", verify(&made)).await.unwrap();
    let skipped = verified["skipped"].as_array().unwrap();
    assert_eq!((&verified["verified"][0], skipped.len()), (&made["id"], 3), "{verified}");
    for (words, told) in ["older than the dump", "gzip", "text without"].iter().zip(skipped) {
        assert!(told.as_str().unwrap().contains(words), "{told}");
    }
    fs::write(bench.path("cut.sql"), "--\n-- PostgreSQL database dump\n--\nSELECT 1;\n").unwrap();
    let with = json!({ "source": "orders", "kind": "postgres.dump", "tier": "weekly", "paths": [bench.path("cut.sql")], "stores": STORES });
    let cut = run(&bench, "backup.create", with).await.unwrap();
    let error = run(&bench, "backup.verify", verify(&cut)).await.unwrap_err();
    assert!(error.to_string().contains("ends before the end of its dump"), "{error}");
}

/// A store that breaks off in what lies below a folder.
struct BreaksOff(&'static str);

impl Interposer for BreaksOff {
    fn before_get(&self, key: &ObjectKey) -> Result<(), StoreError> {
        if !key.as_str().contains(self.0) || !key.as_str().contains("notes.txt") {
            return Ok(());
        }
        let source = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        Err(StoreError::Unavailable { store: "primary".into(), what: format!("cannot read `{key}`"), source })
    }
}

#[tokio::test]
async fn damage_that_was_found_is_told_although_a_later_backup_could_not_be_read() {
    let bench = bench();
    let with =
        |tier: &str| json!({ "source": "n", "tier": tier, "paths": [bench.path("notes.txt")], "stores": STORES });
    let first = run(&bench, "backup.create", with("daily")).await.unwrap();
    run(&bench, "backup.create", with("weekly")).await.unwrap();
    let names = fs::read_dir(folder(&bench, "primary", &first)).unwrap().map(|entry| entry.unwrap().path());
    let is_object = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("notes.txt");
    fs::write(names.into_iter().find(is_object).unwrap(), "other").unwrap();
    let mut cx = bench.run_context(inventory(&bench));
    let store = interposed(open(&bench, "primary"), BreaksOff("/weekly/"));
    cx.stores = Arc::new(move |_| Ok(Arc::clone(&store)));
    let verify = json!({ "source": "n", "store": "primary", "budget": "1GB" });
    let error = action("backup.verify").run(&verify, &cx).await.unwrap_err();
    assert_eq!(error.info().class, ErrorClass::Fatal, "a retry would begin with the others: {error}");
    for words in ["1 of 2 backups do not hold", "another size", "could not be read"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(bench.lines.0.lock().unwrap().iter().any(|line| line.contains("does not hold")), "it is told at once");
}

#[test]
fn dated_dumps_are_imported_where_they_lie_and_only_when_asked_to() {
    let cli = cli();
    let dump = "--\n-- PostgreSQL database dump complete\n--\n";
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, dump.as_bytes()).unwrap();
    let folder = cli.path("near/old/daily");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("orders_20260128_143002.sql.gz"), packer.finish().unwrap()).unwrap();
    fs::write(folder.join("orders_20260129_143002.sql.enc"), "Salted__12345678").unwrap();
    fs::write(folder.join("orders_20260130_143002.sql"), "Salted__12345678").unwrap();
    let before = crate::support::cli::listing(&cli.path("near"));
    let dry = cli.run(&["backups", "import", "near", "old/daily", "--json"]).ends(0).json();
    assert_eq!(dry["would_import"].as_array().unwrap().len(), 3, "{dry}");
    assert_eq!(crate::support::cli::listing(&cli.path("near")), before, "a dry import writes nothing");
    let wrote = cli.run(&["backups", "import", "near", "old/daily", "--write"]).ends(10);
    assert!(wrote.err.contains("encrypted"), "{wrote:?}");
    assert!(folder.join("orders_20260128_143002.sql.gz").is_file());
    let listed = cli.run(&["backups", "list", "--store", "near", "--source", "orders", "--json"]).ends(0).json();
    let id = listed["backups"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(listed["backups"][0]["stopped_at"], "2026-01-28T14:30:02Z");
    cli.run(&["backups", "verify", &id, "--store", "near", "--level", "content"]).ends(0);
    let again = cli.run(&["backups", "import", "near", "old/daily", "--json"]).ends(0).json();
    assert_eq!(again["would_import"].as_array().unwrap().len(), 2, "what is in the catalog is not imported twice");
}

#[test]
fn a_folder_is_made_a_store_once_and_one_that_is_read_only_or_has_no_place_is_not() {
    let cli = Cli::new();
    let url = |name: &str| format!("file://{}", cli.path(name).display());
    let stores = json!({
        "fresh": { "url": url("fresh") }, "closed": { "url": url("closed"), "read_only": true },
        "unmounted": { "url": url("nowhere/deep") }
    });
    cli.file("inventory.yaml", &json!({ "version": 1, "stores": stores }).to_string());
    cli.run(&["backups", "init", "--store", "fresh"]).ends(0).prints("is a store now");
    cli.run(&["backups", "init", "--store", "fresh"]).ends(0).prints("is there");
    let all = cli.run(&["backups", "init", "--json"]).ends(10).json();
    let state = |name: &str| {
        let made = all.as_array().unwrap().iter().find(|made| made["store"] == name).unwrap();
        made["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(["fresh", "closed", "unmounted"].map(state), ["ready", "read_only", "failed"]);
    assert!(!cli.path("closed").exists() && !cli.path("nowhere").exists());
    cli.run(&["backups", "init", "--store", "unmounted"]).ends(10).prints("is no store").says("mount its disk");
    cli.run(&["backups", "list", "--store", "fresh"]).ends(0);
    // Its disk is not mounted any more.
    let create = json!({ "source": "media", "paths": [cli.path("inventory.yaml")], "stores": ["fresh"] });
    let steps = json!([{ "id": "keep", "uses": "backup.create", "with": create }]);
    cli.file("keep.yaml", &json!({ "version": 1, "name": "keep", "steps": steps }).to_string());
    cli.run(&["run", "keep.yaml"]).ends(0);
    cli.run(&["backups", "list"]).prints("media");
    fs::rename(cli.path("fresh"), cli.path("away")).unwrap();
    cli.run(&["backups", "init", "--store", "fresh"]).ends(10).prints("it held backups");
    assert!(!cli.path("fresh").exists());
    cli.run(&["backups", "init", "--store", "fresh", "--anew"]).ends(0).prints("is a store now");
}

#[test]
fn a_folder_of_another_machine_is_made_a_store_by_the_same_command() {
    let (cli, sshd) = (Cli::new(), Sshd::start());
    let folder = cli.path("far");
    let entry = StoreEntry { url: sshd.url(&folder), ssh: Some(sshd.access()), ..StoreEntry::default() };
    cli.file("inventory.yaml", &json!({ "version": 1, "stores": { "far": entry } }).to_string());
    cli.run(&["backups", "init"]).ends(0).prints("is a store now");
    cli.run(&["backups", "init"]).ends(0).prints("is there");
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".rb-store"]);
}
