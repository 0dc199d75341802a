//! `runbook backups prune`: what is shown goes, and nothing else; interrupted it goes on; doubt stops it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use runbook::action::{ActionError, ObjectKey, PutOptions, Store};
use runbook::base::{Digest, Timestamp};
use runbook::catalog::attest::{HoldNote, hold};
use runbook::catalog::{BackupPlace, KIND_POSTGRES_DUMP, Manifest, ManifestObject, ObjectRole, commit};
use runbook::language::inventory::{Inventory, StoreEntry};
use serde_json::{Value, json};

use crate::support::cli::Cli;
use crate::support::host::{Bench, action};
use crate::support::interposed::{Interposer, interposed};

const RULES: &str = "retention: { never_below: 2, default: { keep_last: 3 } }";

fn inventory(cli: &Cli, rest: &str) {
    let text = format!(
        "version: 1\nstores: {{ primary: {{ url: \"file://{store}\" }} }}\n\
         databases: {{ orders: {{ pgdata: {data}, store: primary }} }}\n{rest}\n",
        store = cli.path("store").display(),
        data = cli.path("data").display(),
    );
    cli.file("inventory.yaml", &text);
}

fn store(cli: &Cli) -> std::sync::Arc<dyn Store> {
    let entry = StoreEntry { url: format!("file://{}", cli.path("store").display()), ..StoreEntry::default() };
    runbook::store::Opening::plain(&entry, "primary").open().unwrap()
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn put(store: &dyn Store, key: &str, text: &str) {
    let key: ObjectKey = key.parse().unwrap();
    let metadata = [("sha256".to_owned(), Digest::of(text.as_bytes()).to_string())].into();
    let body = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
    block(store.put(&key, body, PutOptions { metadata, ..PutOptions::default() })).unwrap();
}

fn id(day: usize) -> String {
    format!("202601{day:02}T000000Z-dump")
}

fn place(day: usize) -> BackupPlace {
    BackupPlace::new("orders", (KIND_POSTGRES_DUMP, None), &id(day))
}

fn folder(cli: &Cli, day: usize) -> std::path::PathBuf {
    cli.path("store").join(place(day).folder())
}

/// A backup that ended on that day of January.
fn backup(cli: &Cli, day: usize) {
    let (store, place) = (store(cli), place(day));
    let text = format!("dump of day {day}");
    put(&*store, place.key("dump").unwrap().as_str(), &text);
    let ended: Timestamp = format!("2026-01-{day:02}T00:00:00Z").parse().unwrap();
    let mut manifest = Manifest::new(id(day), KIND_POSTGRES_DUMP, "orders", (ended, ended));
    let digest = Digest::of(text.as_bytes());
    manifest.objects.push(ManifestObject::new("dump", text.len() as u64, digest, ObjectRole::Dump));
    block(commit(&*store, "orders", manifest)).unwrap();
}

fn with_backups(rest: &str) -> Cli {
    let cli = Cli::new();
    inventory(&cli, rest);
    (1..=6).for_each(|day| backup(&cli, day));
    cli
}

fn there(cli: &Cli) -> Vec<usize> {
    (1..=6).filter(|day| folder(cli, *day).join("manifest.json").exists()).collect()
}

fn notes(cli: &Cli) -> Vec<String> {
    let events = cli.journal();
    let notes = events.iter().filter(|event| event["kind"]["type"] == "step_noted");
    notes.map(|event| event["kind"]["message"].as_str().unwrap_or_default().to_owned()).collect()
}

fn plan(cli: &Cli) -> Value {
    cli.run(&["backups", "prune", "--plan", "--json"]).ends(0).json()
}

fn holds_nothing(path: &Path) -> bool {
    std::fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn without_a_policy_nothing_is_ever_pruned_and_that_is_said() {
    let cli = with_backups("");
    let said = cli.run(&["backups", "prune", "--yes"]).ends(0);
    assert!(said.err.contains("no `retention`"), "{}", said.err);
    assert_eq!(there(&cli), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_plan_has_a_reason_on_every_line_and_changes_nothing() {
    let cli = with_backups(RULES);
    let plan = plan(&cli);
    let removed: Vec<&str> =
        plan[0]["remove"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(removed, [id(1), id(2), id(3)]);
    assert!(plan[0]["remove"][0]["why"].as_str().unwrap().contains("keep_last: 3"));
    assert!(plan[0]["keep"].as_array().unwrap().iter().all(|one| !one["reasons"].as_array().unwrap().is_empty()));
    assert_eq!(there(&cli), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn nobody_to_ask_is_no_yes_and_a_protected_environment_wants_its_name() {
    let cli = with_backups(&format!("{RULES}\nenvironments: {{ production: {{ protected: true, default: true }} }}"));
    cli.run(&["backups", "prune", "--yes"]).ends(4);
    cli.run(&["backups", "prune", "--confirm", "staging"]).ends(4);
    assert_eq!(there(&cli), [1, 2, 3, 4, 5, 6]);
    cli.run(&["backups", "prune", "--confirm", "production"]).ends(0);
    assert_eq!(there(&cli), [4, 5, 6]);
    let open = with_backups(RULES);
    open.run(&["backups", "prune"]).ends(4);
    assert_eq!(there(&open), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn what_was_shown_goes_whole_and_each_deletion_is_in_the_journal() {
    let cli = with_backups(RULES);
    cli.run(&["backups", "prune", "--yes"]).ends(0);
    assert_eq!(there(&cli), [4, 5, 6]);
    assert!((1..=3).all(|day| holds_nothing(&folder(&cli, day))), "nothing of them is left");
    let notes = notes(&cli);
    for day in 1..=3 {
        let at = |text: String| notes.iter().position(|note| *note == text).expect(&text);
        assert!(at(format!("deletes backup `{}`", id(day))) < at(format!("backup `{}` is gone", id(day))));
    }
    let again = cli.run(&["backups", "prune", "--yes"]).ends(0);
    assert!(again.err.contains("nothing to remove"), "{}", again.err);
}

#[test]
fn a_hold_a_damaged_manifest_and_a_backup_from_the_future_are_respected() {
    let cli = with_backups(RULES);
    let since: Timestamp = "2026-02-01T00:00:00Z".parse().unwrap();
    block(hold(&*store(&cli), &place(1), &HoldNote::new("lawyers", "case 7", since))).unwrap();
    std::fs::write(folder(&cli, 2).join("manifest.json"), "{").unwrap();
    let shown = cli.run(&["backups", "prune", "--yes"]).ends(0);
    assert!(shown.out.contains("held: case 7 by lawyers") && shown.out.contains("damaged manifest"), "{}", shown.out);
    assert_eq!(there(&cli), [1, 2, 4, 5, 6], "only day 3 went");
    let ended: Timestamp = "2199-01-01T00:00:00Z".parse().unwrap();
    let mut manifest = Manifest::new("from-the-future", KIND_POSTGRES_DUMP, "orders", (ended, ended));
    put(&*store(&cli), "orders/dump/from-the-future/dump", "x");
    manifest.objects.push(ManifestObject::new("dump", 1, Digest::of(b"x"), ObjectRole::Dump));
    block(commit(&*store(&cli), "orders", manifest)).unwrap();
    let refused = cli.run(&["backups", "prune", "--yes"]).ends(4);
    assert!(refused.out.contains("one of two clocks is wrong"), "{}", refused.out);
    assert!(refused.err.contains("`runbook backups prune --plan --despite-clock REASON`"), "{}", refused.err);
    assert_eq!(there(&cli), [1, 2, 4, 5, 6]);
    backup(&cli, 3);
    std::fs::remove_dir_all(cli.state()).unwrap();
    let shown = cli.run(&["backups", "prune", "--yes", "--despite-clock", "the clock was ahead"]).ends(0);
    assert!(shown.out.contains("keep    from-the-future  dated "), "{}", shown.out);
    assert_eq!(
        there(&cli),
        [1, 2, 4, 5, 6],
        "the last three but the one of the future, what is held and what is damaged"
    );
    assert!(cli.path("store/orders/dump/from-the-future/manifest.json").exists());
    let reason = cli.journal().iter().any(|event| event.to_string().contains("the clock was ahead"));
    assert!(reason, "the reason is kept with the run");
}

#[test]
fn a_hold_that_has_ended_leaves_the_one_before_it() {
    let cli = with_backups(RULES);
    let since: Timestamp = "2026-02-01T00:00:00Z".parse().unwrap();
    let ended = HoldNote { until: Some(since), ..HoldNote::new("ops", "test", since) };
    for note in [HoldNote::new("lawyers", "case 7", since), ended.clone()] {
        block(hold(&*store(&cli), &place(1), &note)).unwrap();
    }
    block(hold(&*store(&cli), &place(2), &ended)).unwrap();
    let shown = cli.run(&["backups", "prune", "--yes"]).ends(0);
    assert!(shown.out.contains("held: case 7 by lawyers"), "{}", shown.out);
    assert_eq!(there(&cli), [1, 4, 5, 6]);
}

/// Something else happens as soon as the first object is deleted.
struct Meanwhile(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Interposer for Meanwhile {
    fn after_delete(&self, _: &ObjectKey) {
        self.0.lock().unwrap().take().into_iter().for_each(|happens| happens());
    }
}

/// Prunes while something else happens.
fn prune_while(cli: &Cli, with: &Value, happens: impl FnOnce() + Send + 'static) -> Result<Value, ActionError> {
    let retention = serde_json::from_value(json!({ "never_below": 2, "default": { "keep_last": 3 } })).unwrap();
    let entry = StoreEntry { url: format!("file://{}", cli.path("store").display()), ..StoreEntry::default() };
    let stores = [("primary".to_owned(), entry)].into();
    let inventory = Inventory { stores, retention: Some(retention), ..Inventory::default() };
    let watched = interposed(store(cli), Meanwhile(Mutex::new(Some(Box::new(happens)))));
    block(async {
        let bench = Bench::new();
        let mut cx = bench.run_context(inventory);
        cx.stores = Arc::new(move |_| Ok(Arc::clone(&watched)));
        action("backup.prune").run(with, &cx).await
    })
}

/// Has another machine begin a recovery.
fn freezes(cli: &Cli) -> impl FnOnce() + Send + use<> {
    let folder = cli.path("store/orders/freeze");
    move || {
        let note = json!({ "format": 1, "run": "20260201-000000-aaaaaa", "database": "orders",
            "environment": "production", "since": "2026-02-01T00:00:00Z" });
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("20260201-000000-aaaaaa.json"), note.to_string()).unwrap();
    }
}

#[test]
fn a_recovery_that_begins_while_backups_are_pruned_stops_that() {
    let cli = with_backups("");
    let with = json!({ "source": "orders", "store": "primary" });
    let error = prune_while(&cli, &with, freezes(&cli)).unwrap_err();
    assert!(error.to_string().contains("run `20260201-000000-aaaaaa`; what is not gone yet stays"), "{error}");
    assert_eq!(there(&cli), [2, 3, 4, 5, 6]);
    let with = json!({ "source": "orders", "store": "primary", "despite_recovery": "the disk is full" });
    prune_while(&cli, &with, || ()).unwrap();
    assert_eq!(there(&cli), [4, 5, 6]);
}

#[test]
fn a_recovery_that_begins_while_wal_is_pruned_stops_that_too() {
    let cli = Cli::new();
    let system_id = 7_300_000_000_000_000_001_u64;
    let ended: Timestamp = "2026-01-06T00:00:00Z".parse().unwrap();
    let base = BackupPlace::new("orders", ("postgres.base", None), "one");
    put(&*store(&cli), base.key("data").unwrap().as_str(), "x");
    let mut manifest = Manifest::new("one", "postgres.base", "orders", (ended, ended));
    manifest.objects.push(ManifestObject::new("data", 1, Digest::of(b"x"), ObjectRole::File));
    let facts = json!({ "server_version": "17.2", "system_id": system_id.to_string(), "timeline": 1,
        "start_lsn": "1/50000028", "stop_lsn": "1/50000100", "segment_size": 16_777_216 });
    manifest.postgres = Some(serde_json::from_value(facts).unwrap());
    block(commit(&*store(&cli), "orders", manifest)).unwrap();
    let archive = cli.path(&format!("store/orders/wal/{system_id}/00000001"));
    for number in 0..150 {
        let key = format!("orders/wal/{system_id}/00000001/0000000100000000{number:08X}");
        put(&*store(&cli), &key, "x");
    }
    let there = || std::fs::read_dir(&archive).unwrap().flatten().filter(|one| one.file_name().len() == 24).count();
    assert_eq!(there(), 150);
    let error = prune_while(&cli, &json!({ "source": "orders", "store": "primary" }), freezes(&cli)).unwrap_err();
    assert!(error.to_string().contains("is frozen"), "{error}");
    assert_eq!(there(), 50, "the first hundred were under way");
}

#[test]
fn a_hold_that_ends_meanwhile_leaves_what_a_rule_keeps() {
    let cli = with_backups("");
    let since: Timestamp = "2026-02-01T00:00:00Z".parse().unwrap();
    block(hold(&*store(&cli), &place(5), &HoldNote::new("lawyers", "case 7", since))).unwrap();
    let of = |day: usize| {
        let manifest = Digest::of(&std::fs::read(folder(&cli, day).join("manifest.json")).unwrap());
        json!({ "id": id(day), "kind": KIND_POSTGRES_DUMP, "manifest": manifest })
    };
    let plan = json!({ "backups": [of(1), of(5)] });
    let with = json!({ "source": "orders", "store": "primary", "plan": plan });
    let held = folder(&cli, 5).join("hold.json");
    let done = prune_while(&cli, &with, move || std::fs::remove_file(held).unwrap()).unwrap();
    assert_eq!(there(&cli), [2, 3, 4, 5, 6]);
    assert!(done["spared"][0].as_str().unwrap().contains("held: case 7 by lawyers, keep_last: 2 of 3"), "{done}");
    assert_eq!(done["kept"], 3, "one that stays is counted once");
}

#[test]
fn a_plan_that_does_not_fit_any_more_removes_nothing() {
    let cli = with_backups(RULES);
    let manifest = |day: usize| Digest::of(&std::fs::read(folder(&cli, day).join("manifest.json")).unwrap());
    let with = format!(
        "{{ database: orders, plan: {{ backups: [ {{ id: {}, kind: postgres.dump, manifest: {} }}, {{ id: {}, kind: postgres.dump, manifest: {} }} ] }} }}",
        id(1),
        manifest(1),
        id(6),
        manifest(6)
    );
    cli.file(
        "runbook.yaml",
        &format!("version: 1\nname: prune\nsteps:\n  - {{ id: prune, uses: backup.prune, with: {with} }}\n"),
    );
    let refused = cli.run(&["run", "runbook.yaml"]).ends(4);
    assert!(refused.err.contains("which is kept now"), "{}", refused.err);
    assert_eq!(there(&cli), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_prune_that_was_cut_off_is_finished_by_the_same_plan() {
    let cli = with_backups(RULES);
    let manifest = |day: usize| Digest::of(&std::fs::read(folder(&cli, day).join("manifest.json")).unwrap());
    let of = |day: usize| format!("{{ id: {}, kind: postgres.dump, manifest: {} }}", id(day), manifest(day));
    let with = format!("{{ database: orders, plan: {{ backups: [ {}, {} ] }} }}", of(1), of(2));
    cli.file(
        "runbook.yaml",
        &format!("version: 1\nname: prune\nsteps:\n  - {{ id: prune, uses: backup.prune, with: {with} }}\n"),
    );
    // As an engine that died right after the manifest of the first one leaves it.
    block(store(&cli).delete(&place(1).manifest_key().unwrap())).unwrap();
    assert!(folder(&cli, 1).join("dump").exists());
    cli.run(&["run", "runbook.yaml"]).ends(0);
    assert_eq!(there(&cli), [3, 4, 5, 6], "what was not planned stays, though no rule keeps it");
    assert!(holds_nothing(&folder(&cli, 1)) && holds_nothing(&folder(&cli, 2)));
}

#[test]
fn what_an_upload_left_behind_goes_only_when_it_is_old_and_asked_for() {
    let cli = with_backups("retention: { default: { keep_last: 9 } }");
    for name in ["old", "young"] {
        put(&*store(&cli), &format!("orders/dump/{name}/dump"), "half");
    }
    let old = cli.path("store/orders/dump/old/dump");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(8 * 86_400);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(plan(&cli)[0]["orphans"][0]["folder"], "orders/dump/old/");
    cli.run(&["backups", "prune", "--yes"]).ends(0);
    assert!(old.exists(), "nobody asked for it");
    cli.run(&["backups", "prune", "--yes", "--orphans"]).ends(0);
    assert!(!old.exists() && cli.path("store/orders/dump/young/dump").exists());
    assert_eq!(there(&cli), [1, 2, 3, 4, 5, 6]);
}

/// Another backup of that day, which may rest on one.
fn increment(cli: &Cli, day: usize, parent: Option<usize>) {
    let (store, place) = (store(cli), place(day));
    put(&*store, place.key("dump").unwrap().as_str(), "x");
    let ended: Timestamp = format!("2026-01-{day:02}T00:00:00Z").parse().unwrap();
    let mut manifest = Manifest::new(id(day), KIND_POSTGRES_DUMP, "orders", (ended, ended));
    manifest.parent = parent.map(id);
    manifest.objects.push(ManifestObject::new("dump", 1, Digest::of(b"x"), ObjectRole::Dump));
    block(commit(&*store, "orders", manifest)).unwrap();
}

#[test]
fn what_a_backup_that_stays_after_all_rests_on_stays_too() {
    let cli = Cli::new();
    inventory(&cli, "retention: { never_below: 1, default: { keep_last: 1 } }");
    increment(&cli, 1, None);
    increment(&cli, 2, Some(1));
    increment(&cli, 6, None);
    // What nobody knew when it was planned: another backup lies inside the folder of the increment.
    let inside = folder(&cli, 2).join("more/manifest.json");
    std::fs::create_dir_all(inside.parent().unwrap()).unwrap();
    std::fs::copy(folder(&cli, 6).join("manifest.json"), &inside).unwrap();
    cli.run(&["backups", "prune", "--yes"]).ends(0);
    assert_eq!(there(&cli), [1, 2, 6], "{:?}", notes(&cli));
    std::fs::remove_dir_all(inside.parent().unwrap()).unwrap();
    cli.run(&["backups", "prune", "--yes"]).ends(0);
    assert_eq!(there(&cli), [6]);
}

#[test]
fn a_manifest_that_claims_the_folder_of_others_takes_nothing_with_it() {
    let cli = with_backups(RULES);
    let ended: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
    // Every backup of the tier lies below the folder that this id would have without one.
    let tiered = BackupPlace::new("orders", (KIND_POSTGRES_DUMP, Some("daily")), "one");
    put(&*store(&cli), tiered.key("dump").unwrap().as_str(), "x");
    let object = || ManifestObject::new("dump", 1, Digest::of(b"x"), ObjectRole::Dump);
    let mut manifest = Manifest::new("one", KIND_POSTGRES_DUMP, "orders", (ended, ended));
    (manifest.tier, manifest.objects) = (Some("daily".to_owned()), vec![object()]);
    block(commit(&*store(&cli), "orders", manifest)).unwrap();
    put(&*store(&cli), "orders/dump/daily/dump", "x");
    let mut forged = Manifest::new("daily", KIND_POSTGRES_DUMP, "orders", (ended, ended));
    forged.objects.push(object());
    put(&*store(&cli), "orders/dump/daily/manifest.json", &serde_json::to_string(&forged).unwrap());
    cli.run(&["backups", "prune", "--yes"]).ends(0);
    assert!(cli.path("store").join(tiered.folder()).join("dump").exists(), "{:?}", notes(&cli));
}

#[test]
fn what_a_killed_writer_had_begun_goes_when_it_is_old_and_one_that_is_at_work_keeps_it() {
    let cli = with_backups("retention: { default: { keep_last: 9 } }");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(8 * 86_400);
    let begun = |name: &str, modified| {
        let path = cli.path(&format!("store/orders/base/{name}/.rb-tmp-base.tar.zst"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, vec![0; 5 << 20]).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        path
    };
    let [dead, slow] = ["dead", "slow"].map(|name| begun(name, long_ago));
    let young = begun("young", std::time::SystemTime::now());
    let planned = plan(&cli)[0]["unfinished"].as_array().unwrap().len();
    assert_eq!(planned, 2, "{}", plan(&cli)[0]);
    let shown = cli.run(&["backups", "prune", "--plan"]).ends(0);
    shown.prints("orphan  orders/base/dead/base.tar.zst  5.0 MiB, begun and not gone on with since ");
    let at_work = std::fs::File::options().write(true).open(&slow).unwrap();
    rustix::fs::flock(&at_work, rustix::fs::FlockOperation::LockExclusive).unwrap();
    cli.run(&["backups", "prune", "--yes"]).ends(0);
    assert!(dead.exists(), "nobody asked for it");
    cli.run(&["backups", "prune", "--yes", "--orphans"]).ends(0).says("stays: its writer is at work");
    assert!(!dead.exists() && slow.exists() && young.exists());
    assert_eq!(there(&cli), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn backups_of_a_source_whose_prefix_is_the_folder_of_a_family_are_nothing_left_behind() {
    let cli = with_backups("retention: { default: { keep_last: 9 } }");
    let ended: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let place = BackupPlace::new("orders/files", (KIND_POSTGRES_DUMP, None), "one");
    put(&*store(&cli), place.key("dump").unwrap().as_str(), "x");
    let mut manifest = Manifest::new("one", KIND_POSTGRES_DUMP, "uploads", (ended, ended));
    manifest.objects.push(ManifestObject::new("dump", 1, Digest::of(b"x"), ObjectRole::Dump));
    block(commit(&*store(&cli), "orders/files", manifest)).unwrap();
    put(&*store(&cli), "orders/files/wal/7300000000000000001/00000001/000000010000000000000003", "x");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(8 * 86_400);
    age(&cli.path("store/orders/files"), long_ago);
    cli.run(&["backups", "prune", "--yes", "--orphans"]).ends(0);
    assert!(cli.path("store").join(place.folder()).join("manifest.json").exists());
    assert!(cli.path("store/orders/files/wal/7300000000000000001/00000001/000000010000000000000003").exists());
}

fn age(path: &Path, modified: std::time::SystemTime) {
    for entry in std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => age(&entry, modified),
            false => std::fs::File::options().write(true).open(&entry).unwrap().set_modified(modified).unwrap(),
        }
    }
}

#[test]
fn with_a_source_nothing_of_another_in_the_same_place_goes() {
    let cli = with_backups(RULES);
    let ended: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
    for id in ["a", "b", "c", "d"] {
        let place = BackupPlace::new("orders", (KIND_POSTGRES_DUMP, None), id);
        put(&*store(&cli), place.key("dump").unwrap().as_str(), "x");
        let mut manifest = Manifest::new(id, KIND_POSTGRES_DUMP, "orders2", (ended, ended));
        manifest.objects.push(ManifestObject::new("dump", 1, Digest::of(b"x"), ObjectRole::Dump));
        block(commit(&*store(&cli), "orders", manifest)).unwrap();
    }
    cli.run(&["backups", "prune", "--yes", "--source", "orders2"]).ends(0);
    assert_eq!(there(&cli), [1, 2, 3, 4, 5, 6]);
    assert!(!cli.path("store/orders/dump/a").join("manifest.json").exists());
}
