//! `store.sync` on real folders and stores; killed at random moments by the real program.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runbook::action::{ActionError, Findings, ObjectKey, ReadStore, Store};
use runbook::language::inventory::{Inventory, StoreEntry};
use runbook::store::Opening;
use serde_json::{Value, json};

use crate::support::aim::Aim;
use crate::support::cli::Cli;
use crate::support::host::{Bench, action};
use crate::support::interposed::{Interposer, interposed};

fn inventory(bench: &Bench) -> Inventory {
    let entry =
        |name: &str| StoreEntry { url: format!("file://{}", bench.path(name).display()), ..StoreEntry::default() };
    let stores = ["one", "two"].map(|name| (name.to_owned(), entry(name)));
    Inventory { stores: stores.into(), ..Inventory::default() }
}

async fn run(bench: &Bench, with: Value) -> Result<Value, ActionError> {
    let mut cx = bench.run_context(inventory(bench));
    let known = inventory(bench);
    cx.stores = Arc::new(move |name| -> Result<Arc<dyn Store>, ActionError> {
        Ok(Opening::plain(&known.stores[name], name).open().unwrap())
    });
    action("store.sync").run(&with, &cx).await
}

async fn check(bench: &Bench, with: Value) -> Findings {
    let mut cx = bench.check_context(inventory(bench));
    let known = inventory(bench);
    cx.stores = Arc::new(move |name| -> Result<Arc<dyn ReadStore>, ActionError> {
        Ok(Opening::plain(&known.stores[name], name).open_read().unwrap())
    });
    action("store.sync").check(&with, &cx).await.unwrap()
}

/// Another machine begins a recovery as soon as something is put.
struct Frozen(std::path::PathBuf);

impl Interposer for Frozen {
    fn before_put(&self, _: &ObjectKey) {
        let note = json!({ "format": 1, "run": "20260201-000000-aaaaaa", "database": "main",
            "environment": "production", "since": "2026-02-01T00:00:00Z" });
        fs::create_dir_all(self.0.parent().unwrap()).unwrap();
        fs::write(&self.0, note.to_string()).unwrap();
    }
}

#[tokio::test]
async fn a_recovery_that_begins_while_a_sync_copies_keeps_it_from_deleting() {
    let bench = Bench::new();
    let own = bench.path("own");
    write(&own, &[("base/same", "2"), ("base/old", "3")]);
    let with = json!({ "from": { "path": own }, "to": { "store": "one", "prefix": "main" }, "delete": true, "max_delete": "100%" });
    run(&bench, with.clone()).await.unwrap();
    fs::remove_file(own.join("base/old")).unwrap();
    write(&own, &[("base/new", "1")]);
    let mut cx = bench.run_context(inventory(&bench));
    let inner = Opening::plain(&inventory(&bench).stores["one"], "one").open().unwrap();
    let note = bench.path("one/main/freeze/20260201-000000-aaaaaa.json");
    let frozen = interposed(inner, Frozen(note));
    cx.stores = Arc::new(move |_| Ok(Arc::clone(&frozen)));
    let error = action("store.sync").run(&with, &cx).await.unwrap_err();
    assert!(error.to_string().contains("is frozen") && error.to_string().contains("not deleted yet"), "{error}");
    let there = tree(&bench.path("one/main/base"));
    assert_eq!(there.keys().collect::<Vec<_>>(), ["new", "old", "same"]);
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Every visible file below a folder with its content.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let name = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if !entry.file_name().to_string_lossy().starts_with(".rb-") {
                found.insert(name, String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned());
            }
        }
    }
    found
}

fn counts(output: &Value) -> [u64; 4] {
    ["created", "replaced", "deleted", "same"].map(|name| output[name].as_u64().unwrap())
}

#[tokio::test]
async fn a_folder_goes_into_a_store_from_there_into_another_and_back() {
    let bench = Bench::new();
    let media = bench.path("media");
    write(&media, &[("a", "1"), ("sub/b c", "22"), ("sub/deep/ü", ""), (".hidden", "h")]);
    let up = json!({ "from": { "path": media }, "to": { "store": "one", "prefix": "m" } });
    assert_eq!(counts(&run(&bench, up.clone()).await.unwrap()), [4, 0, 0, 0]);
    assert_eq!(counts(&run(&bench, up.clone()).await.unwrap()), [0, 0, 0, 4], "twice is once");
    assert_eq!(tree(&bench.path("one/m")), tree(&media));
    let across = json!({ "from": { "store": "one", "prefix": "m/" }, "to": { "store": "two" }, "proof": "sent" });
    assert_eq!(counts(&run(&bench, across).await.unwrap()), [4, 0, 0, 0]);
    let back = json!({ "from": { "store": "two" }, "to": { "path": bench.path("back") } });
    assert_eq!(counts(&run(&bench, back).await.unwrap()), [4, 0, 0, 0]);
    assert_eq!(tree(&bench.path("back")), tree(&media));
    let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    assert_eq!(time(&media.join("a")), time(&bench.path("back/a")), "files get their own time back");
    write(&media, &[("a", "2"), ("new", "n")]);
    let checked = check(&bench, up.clone()).await;
    assert!(!checked.refused() && checked.0[0].message.contains("create 1 (1 bytes), replace 1"), "{checked:?}");
    assert_eq!(tree(&bench.path("one/m"))["a"], "1", "a check changes nothing");
    assert_eq!(counts(&run(&bench, up).await.unwrap()), [1, 1, 0, 3]);
    assert!(bench.lines.0.lock().unwrap().iter().any(|line| line.starts_with("note: plan: create 1 (1 bytes)")));
}

#[tokio::test]
async fn nothing_is_deleted_unless_it_is_said_and_never_too_much() {
    let bench = Bench::new();
    let media = bench.path("media");
    let names: Vec<String> = (0..20).map(|at| format!("f{at:02}")).collect();
    for name in &names {
        write(&media, &[(name, name)]);
    }
    let with = |more: Value| {
        let mut with = json!({ "from": { "path": media }, "to": { "store": "one", "prefix": "m" } });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with
    };
    run(&bench, with(json!({}))).await.unwrap();
    for name in &names[..3] {
        fs::remove_file(media.join(name)).unwrap();
    }
    assert_eq!(counts(&run(&bench, with(json!({}))).await.unwrap()), [0, 0, 0, 17], "not said");
    write(&media, &[("new", "n")]);
    let error = run(&bench, with(json!({ "delete": true }))).await.unwrap_err();
    assert!(error.to_string().contains("3 of 20"), "{error}");
    assert!(!bench.path("one/m/new").exists(), "a plan that deletes too much changes nothing at all");
    assert!(check(&bench, with(json!({ "delete": true }))).await.refused());
    let spared = with(json!({ "delete": true, "max_delete": 2, "exclude": ["f00"] }));
    assert_eq!(counts(&run(&bench, spared).await.unwrap()), [1, 0, 2, 17], "what is excluded is not deleted either");
    let share = with(json!({ "delete": true, "max_delete": "10%" }));
    assert_eq!(counts(&run(&bench, share).await.unwrap()), [0, 0, 1, 18]);
    assert_eq!(tree(&bench.path("one/m")), tree(&media));
}

#[tokio::test]
async fn an_empty_or_missing_source_is_never_mirrored() {
    let bench = Bench::new();
    let media = bench.path("media");
    write(&media, &[("a", "1")]);
    let with = json!({
        "from": { "path": media }, "to": { "store": "one", "prefix": "m" }, "delete": true, "max_delete": "100%"
    });
    run(&bench, with.clone()).await.unwrap();
    fs::remove_file(media.join("a")).unwrap();
    assert!(run(&bench, with.clone()).await.unwrap_err().to_string().contains("nothing to copy"));
    assert!(check(&bench, with.clone()).await.refused());
    fs::remove_dir(&media).unwrap();
    assert!(run(&bench, with).await.unwrap_err().to_string().contains("is not there"));
    let down = json!({ "from": { "store": "one", "prefix": "typo" }, "to": { "path": bench.path("down") } });
    assert!(run(&bench, down).await.is_err());
    let down = json!({ "from": { "store": "two", "prefix": "m" }, "to": { "path": bench.path("down") } });
    assert!(run(&bench, down).await.is_err(), "a store that is not there");
    assert_eq!(tree(&bench.path("one")).len(), 1);
}

#[tokio::test]
async fn content_tells_where_size_and_time_are_the_same() {
    let bench = Bench::new();
    let media = bench.path("media");
    write(&media, &[("a", "one")]);
    let with = |compare: &str| json!({ "from": { "path": media }, "to": { "store": "one" }, "compare": compare });
    run(&bench, with("digest")).await.unwrap();
    let file = fs::File::options().write(true).open(media.join("a")).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    fs::write(media.join("a"), "two").unwrap();
    file.set_modified(time).unwrap();
    assert_eq!(counts(&run(&bench, with("size_and_time")).await.unwrap()), [0, 0, 0, 1]);
    assert_eq!(counts(&run(&bench, with("digest")).await.unwrap()), [0, 1, 0, 0]);
    file.set_modified(time + Duration::from_secs(5)).unwrap();
    assert_eq!(counts(&run(&bench, with("size_and_time")).await.unwrap()), [0, 1, 0, 0]);
}

#[tokio::test]
async fn links_are_refused_skipped_or_followed_as_it_is_said() {
    let bench = Bench::new();
    let media = bench.path("media");
    write(&media, &[("a", "1")]);
    write(&bench.path("elsewhere"), &[("x", "x")]);
    std::os::unix::fs::symlink(bench.path("elsewhere"), media.join("link")).unwrap();
    let with = |symlinks: &str, to: &str| json!({ "from": { "path": media }, "to": { "store": "one", "prefix": to }, "symlinks": symlinks });
    assert!(run(&bench, with("refuse", "r")).await.unwrap_err().to_string().contains("symbolic link"));
    assert_eq!(counts(&run(&bench, with("skip", "s")).await.unwrap()), [1, 0, 0, 0]);
    assert_eq!(counts(&run(&bench, with("follow", "f")).await.unwrap()), [2, 0, 0, 0]);
    assert_eq!(tree(&bench.path("one/f"))["link/x"], "x");
    std::os::unix::fs::symlink("..", media.join("loop")).unwrap();
    assert!(run(&bench, with("follow", "l")).await.is_err(), "a link that leads to its own folder ends");
    let into = bench.path("into");
    fs::create_dir(&into).unwrap();
    std::os::unix::fs::symlink(bench.path("elsewhere"), into.join("link")).unwrap();
    let down = json!({ "from": { "store": "one", "prefix": "f" }, "to": { "path": into } });
    assert!(run(&bench, down).await.is_err(), "nothing is written through a link of the target");
    assert_eq!(tree(&bench.path("elsewhere")).len(), 1);
}

#[tokio::test]
async fn places_that_lie_in_each_other_and_patterns_without_effect_are_refused() {
    let bench = Bench::new();
    let known = inventory(&bench);
    let cx = runbook::action::PlanContext {
        inventory: &known,
        mode: runbook::action::Mode::Real,
        scratch: bench.dir.path(),
        host: "local",
    };
    for (with, path) in [
        (json!({ "from": { "store": "one" }, "to": { "store": "one", "prefix": "x" } }), "/to"),
        (json!({ "from": { "path": "/a" }, "to": { "path": "/a/b" } }), "/to"),
        (json!({ "from": { "path": "a" }, "to": { "store": "one" } }), "/from/path"),
        (json!({ "from": { "path": "/a", "store": "one" }, "to": { "store": "one" } }), "/from"),
        (json!({ "from": { "path": "/a" }, "to": { "store": "one", "prefix": "../x" } }), "/to/prefix"),
        (json!({ "from": { "path": "/a" }, "to": { "store": "one" }, "max_delete": 3 }), "/max_delete"),
    ] {
        let faults = action("store.sync").effects(&with, &cx).unwrap_err();
        assert_eq!(faults[0].path, path, "{with}: {faults:?}");
    }
}

const RUNBOOK: &str = "version: 1
name: mirror
description: Mirrors a folder.
steps:
  - id: mirror
    uses: store.sync
    with:
      from: { path: FROM }
      to: { store: primary, prefix: m }
      delete: true
      max_delete: 100%
      parallel: 3
";

/// A folder to mirror, and a store that holds something else.
fn mirror() -> Cli {
    let cli = Cli::new();
    let media = cli.path("media");
    for at in 0..24 {
        write(&media, &[(&format!("d{}/f{at}", at % 5), &format!("{at}-").repeat(20_000))]);
    }
    for at in 0..6 {
        write(&cli.path("store/m"), &[(&format!("d0/old{at}"), "old")]);
    }
    write(&cli.path("store/m"), &[("d1/f1", "other")]);
    write(&cli.path("store"), &[(".rb-store", "{}\n")]);
    let url = format!("version: 1\nstores:\n  primary: {{ url: \"file://{}\" }}\n", cli.path("store").display());
    cli.file("inventory.yaml", &url);
    cli.file("runbook.yaml", &RUNBOOK.replace("FROM", &media.display().to_string()));
    cli
}

#[test]
fn a_sync_killed_at_random_moments_ends_the_same_when_it_is_resumed() {
    let calm = mirror();
    let begun = Instant::now();
    calm.run(&["run", "runbook.yaml"]).ends(0);
    let length = begun.elapsed();
    assert_eq!(tree(&calm.path("store/m")), tree(&calm.path("media")));
    let (mut live, mut aim) = (0, Aim::new(7, length));
    for round in 0..40 {
        if live >= 12 {
            break;
        }
        let cli = mirror();
        for _ in 0..3 {
            let resumes = !cli.runs().is_empty();
            let program = if resumes { cli.spawn(&["resume", "last"]) } else { cli.spawn(&["run", "runbook.yaml"]) };
            live += u32::from(aim.kill(program));
        }
        let ran = if cli.runs().is_empty() { cli.run(&["run", "runbook.yaml"]) } else { cli.run(&["resume", "last"]) };
        ran.ends(0);
        assert_eq!(tree(&cli.path("store/m")), tree(&cli.path("media")), "round {round}");
    }
    println!("{live} kills hit a live program that runs for {length:?}");
    assert!(live >= 12, "only {live} kills hit a live program");
}

#[tokio::test]
async fn what_comes_last_waits_for_all_others_and_a_difference_can_be_an_error() {
    let bench = Bench::new();
    write(&bench.path("from"), &[("b/1/data", "one"), ("b/1/manifest.json", "{1}"), ("b/2/data", "two")]);
    let with = |changed: &str| json!({ "from": { "path": bench.path("from") }, "to": { "path": bench.path("to") }, "last": ["manifest.json"], "changed": changed });
    // A folder where the data of the second would go: the first one's manifest does not come before it is there.
    write(&bench.path("to"), &[("b/2/data/in the way", "")]);
    assert!(run(&bench, with("refuse")).await.is_err());
    assert!(!bench.path("to/b/1/manifest.json").exists() && bench.path("to/b/1/data").exists());
    fs::remove_dir_all(bench.path("to/b/2")).unwrap();
    run(&bench, with("refuse")).await.unwrap();
    assert_eq!(tree(&bench.path("to")), tree(&bench.path("from")));
    write(&bench.path("from"), &[("b/2/data", "other"), ("b/2/manifest.json", "{2}"), ("b/3/data", "three")]);
    let error = run(&bench, with("refuse")).await.unwrap_err();
    assert!(error.to_string().contains("1 at the target have other content than at the source: `b/2/data`"), "{error}");
    assert_eq!(fs::read_to_string(bench.path("to/b/2/data")).unwrap(), "two", "it stays as it was");
    assert!(bench.path("to/b/3/data").exists() && !bench.path("to/b/2/manifest.json").exists(), "what is new is there");
    run(&bench, with("replace")).await.unwrap();
    assert_eq!(tree(&bench.path("to")), tree(&bench.path("from")));
}
