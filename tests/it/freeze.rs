//! A real recovery freezes what it recovers from, in the store itself: for other machines, environments and inventories.

use std::fs;

use runbook::action::Action as _;
use runbook::actions::backup::Unfreeze;
use runbook::actions::postgres::RestoreBase;
use runbook::language::inventory::StoreEntry;
use serde_json::{Value, json};

use crate::support::cli::Cli;
use crate::support::recovery::Site;

/// Somebody on another machine, whose inventory has the same place in the store under another name.
fn elsewhere(site: &Site, rest: &str) -> Cli {
    let (cli, cluster) = (Cli::new(), &site.cluster);
    let text = format!(
        "version: 1\ndatabases:\n  theirs: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: vault, prefix: main }}\n\
         stores: {{ vault: {{ url: \"file://{}\" }}, copy: {{ url: \"file://{}\" }} }}\n{rest}\n",
        cluster.pgdata().display(),
        cluster.port(),
        cluster.socket_dir().display(),
        cluster.bin().display(),
        cluster.dir().join("store").display(),
        cli.path("copy").display(),
    );
    cli.file("inventory.yaml", &text);
    cli
}

fn step(cli: &Cli, uses: &str, with: &Value) {
    let text = json!({ "version": 1, "name": "one", "steps": [{ "id": "one", "uses": uses, "with": with }] });
    cli.file("one.yaml", &text.to_string());
}

#[tokio::test]
async fn a_recovery_freezes_its_place_in_the_store_for_whoever_comes_until_somebody_lifts_it() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int)");
    let run = site.run();
    let backup = run.base_backup().await;
    site.archive();
    site.cluster.stop("immediate");
    let staged = run.stage(&backup.backup).await;
    let note = site.cluster.dir().join(format!("store/main/freeze/{}.json", run.id));
    assert!(note.is_file(), "what is read for hours must not be pruned meanwhile");
    run.recover(&staged, json!({})).await;
    assert!(note.is_file());

    let cli = elsewhere(&site, "retention: { default: { keep_last: 1 } }");
    let refused = |uses: &str, with: Value| {
        step(&cli, uses, &with);
        let ran = cli.run(&["run", "one.yaml"]).ends(4);
        assert!(ran.err.contains(&run.id.to_string()) && ran.err.contains("lift-freeze"), "{uses}: {}", ran.err);
        assert!(ran.err.contains("`main` in store `vault` is frozen"), "{uses}: {}", ran.err);
    };
    refused("backup.prune", json!({ "source": "main", "store": "vault" }));
    refused("postgres.base_backup", json!({ "database": "theirs" }));
    refused("postgres.around_snapshot", json!({ "database": "theirs", "argv": ["true"], "snapshot": "none" }));
    cli.file("empty/one", "1");
    let from = json!({ "path": cli.path("empty") });
    let sync = |prefix: &str| json!({ "from": from, "to": { "store": "vault", "prefix": prefix }, "delete": true, "max_delete": "100%" });
    refused("store.sync", sync("main/base/"));
    refused("store.sync", sync("main"));
    step(&cli, "store.sync", &json!({ "from": from, "to": { "store": "vault", "prefix": "other/" }, "delete": true }));
    cli.run(&["run", "one.yaml"]).ends(0);
    step(&cli, "backup.prune", &json!({ "source": "main", "store": "vault", "despite_recovery": "the disk is full" }));
    cli.run(&["run", "one.yaml"]).ends(0);

    cli.run(&["run", "lift-freeze", "-p", "database=theirs", "-p", "reason=it is over"]).ends(0);
    let text: Value = serde_json::from_str(&fs::read_to_string(&note).unwrap()).unwrap();
    assert_eq!(text["lifted"]["reason"], "it is over");
    step(&cli, "backup.prune", &json!({ "source": "main", "store": "vault" }));
    cli.run(&["run", "one.yaml"]).ends(0);
    step(&cli, "postgres.base_backup", &json!({ "database": "theirs" }));
    let taken = cli.run(&["run", "one.yaml"]);
    assert!(!taken.err.contains("frozen"), "{}", taken.err);
}

#[tokio::test]
async fn a_backup_that_cannot_be_staged_is_frozen_all_the_same_and_so_are_its_copies_until_all_are_lifted() {
    let site = Site::new();
    let url = format!("file://{}", site.cluster.folder("copies").display());
    let copies = StoreEntry { url, ..StoreEntry::default() };
    runbook::store::Opening::plain(&copies, "copies").initialize().unwrap();
    site.beside.lock().unwrap().insert("copies".to_owned(), copies);
    site.backup_stores.lock().unwrap().push("copies".to_owned());
    let run = site.run();
    let backup = run.base_backup().await.backup;
    site.archive();
    site.cluster.stop("immediate");
    for store in ["store", "copies"] {
        let content = site.cluster.dir().join(format!("{store}/main/base/{}", backup.id));
        let largest = fs::read_dir(content).unwrap().flatten().max_by_key(|entry| entry.metadata().unwrap().len());
        fs::OpenOptions::new().write(true).open(largest.unwrap().path()).unwrap().set_len(100).unwrap();
    }
    let params = serde_json::from_value(json!({ "database": "main", "backup": backup })).unwrap();
    RestoreBase.run(&params, &run.context()).await.unwrap_err();
    let notes =
        ["store", "copies"].map(|store| site.cluster.dir().join(format!("{store}/main/freeze/{}.json", run.id)));
    assert!(notes.iter().all(|note| note.is_file()), "{}", site.said());
    let lift = serde_json::from_value(json!({ "database": "main", "reason": "it is over" })).unwrap();
    Unfreeze.run(&lift, &run.context()).await.unwrap();
    for note in notes {
        assert!(fs::read_to_string(&note).unwrap().contains("it is over"), "{}", note.display());
    }
}

#[tokio::test]
async fn a_new_backup_lifts_no_freeze_of_a_recovery_that_began_after_it() {
    let site = Site::new();
    let run = site.run();
    let mut context = run.context();
    context.about.incident_at = "2026-01-01T00:00:00Z".parse().unwrap();
    let folder = site.cluster.dir().join("store/main/freeze");
    let note = |run: &str, since: &str| {
        let text = json!({ "format": 1, "run": run, "database": "main", "environment": "dr", "since": since });
        let path = folder.join(format!("{run}.json"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(&path, text.to_string()).unwrap();
        path
    };
    let before = note("20260101-000000-aaaaaa", "2026-01-01T00:00:00Z");
    let backup = run.base_backup().await.backup;
    let own = note(run.id.as_str(), "2199-01-01T00:00:00Z");
    let later = note("20260102-000000-bbbbbb", "2199-01-01T00:00:00Z");
    let unreadable = folder.join("20260103-000000-cccccc.json");
    fs::write(&unreadable, "{").unwrap();
    let lift = |with: Value| serde_json::from_value(with).unwrap();
    Unfreeze.run(&lift(json!({ "database": "main", "backup": backup })), &context).await.unwrap();
    let is_lifted = |path: &std::path::Path| fs::read_to_string(path).unwrap().contains("\"lifted\"");
    assert!(is_lifted(&before) && is_lifted(&own), "{}", site.said());
    assert!(!is_lifted(&later) && !is_lifted(&unreadable), "{}", site.said());
    let said = site.said();
    assert!(said.contains("run `20260102-000000-bbbbbb`, and not over with this backup"), "{said}");
    assert!(said.contains("another recovery keeps backups of `main` frozen"), "{said}");
    Unfreeze.run(&lift(json!({ "database": "main", "reason": "both are over" })), &context).await.unwrap();
    assert!(is_lifted(&later) && is_lifted(&unreadable), "{}", site.said());
}

#[test]
fn a_restore_that_dropped_the_database_and_failed_keeps_its_dump_until_somebody_says_that_it_is_over() {
    let site = Site::new();
    site.cluster.sql("CREATE ROLE keeper");
    site.cluster.sql("CREATE DATABASE shop OWNER keeper");
    site.cluster.sql_in("shop", "CREATE TABLE t(n int)");
    let cli = elsewhere(&site, "retention: { default: { keep_last: 1 } }");
    let take = |keeps: u32| {
        step(&cli, "postgres.dump", &json!({ "database": "theirs", "dbnames": ["shop"] }));
        cli.run(&["run", "one.yaml"]).ends(0);
        assert_eq!(fs::read_dir(site.cluster.dir().join("store/main/dump")).unwrap().count(), keeps as usize);
    };
    take(1);
    take(2);
    site.cluster.sql("ALTER DATABASE shop OWNER TO postgres");
    site.cluster.sql("DROP ROLE keeper");
    let steps = json!([
        { "id": "choose", "uses": "backup.find", "with": { "database": "theirs", "kind": "postgres.dump" } },
        { "id": "restore", "uses": "postgres.restore_dump",
          "with": { "database": "theirs", "backup": "{{ steps.choose.backup }}", "mode": "replace", "roles": "skip" } },
    ]);
    cli.file("restore.yaml", &json!({ "version": 1, "name": "restore", "steps": steps }).to_string());
    let ran = cli.run(&["run", "restore.yaml"]).ends(10);
    assert_eq!(site.cluster.sql("SELECT count(*) FROM pg_database WHERE datname = 'shop'"), "0", "{}", ran.err);
    step(&cli, "backup.prune", &json!({ "source": "main", "store": "vault" }));
    let refused = cli.run(&["run", "one.yaml"]).ends(4);
    assert!(
        refused.err.contains("nothing is pruned meanwhile") && refused.err.contains("lift-freeze"),
        "{}",
        refused.err
    );
    cli.run(&["run", "lift-freeze", "-p", "database=theirs", "-p", "reason=it was tried out"]).ends(0);
    step(&cli, "backup.prune", &json!({ "source": "main", "store": "vault" }));
    cli.run(&["run", "one.yaml"]).ends(0);
}

#[tokio::test]
async fn a_copy_of_a_freeze_ends_with_the_freeze_it_was_copied_from() {
    let cli = Cli::new();
    let note = |lifted: Value| {
        json!({ "format": 1, "run": "20260128-143002-000001", "database": "main", "environment": "production",
            "since": "2026-01-28T14:30:02Z", "lifted": lifted })
        .to_string()
    };
    cli.file(
        "inventory.yaml",
        &format!("version: 1\nstores: {{ copy: {{ url: \"file://{}\" }} }}\n", cli.path("copy").display()),
    );
    cli.file("own/main/freeze/20260128-143002-000001.json", &note(Value::Null));
    cli.file("own/main/base/one", "1");
    let from = json!({ "path": cli.path("own") });
    let with = |delete: bool| json!({ "from": from, "to": { "store": "copy", "prefix": "all/" }, "delete": delete });
    step(&cli, "store.sync", &with(false));
    cli.run(&["run", "one.yaml"]).ends(0);
    step(&cli, "store.sync", &with(true));
    let ran = cli.run(&["run", "one.yaml"]).ends(4);
    assert!(ran.err.contains("`all/main` in store `copy` is frozen"), "{}", ran.err);
    let lifted = json!({ "by": "ops", "reason": "over", "at": "2026-01-29T00:00:00Z" });
    cli.file("own/main/freeze/20260128-143002-000001.json", &note(lifted));
    cli.run(&["run", "one.yaml"]).ends(0);
}

#[tokio::test]
async fn a_store_that_cannot_be_frozen_is_told_loudly_and_is_no_reason_not_to_recover() {
    let site = Site::new();
    site.archive_offsite();
    site.cluster.sql("CREATE TABLE t(n int)");
    let run = site.run();
    let backup = run.base_backup().await;
    site.archive();
    site.cluster.stop("immediate");
    let offsite = site.beside.lock().unwrap()["offsite"].clone();
    let read_only = StoreEntry { read_only: true, ..offsite };
    site.beside.lock().unwrap().insert("offsite".to_owned(), read_only);
    let staged = run.stage(&backup.backup).await;
    run.recover(&staged, json!({})).await;
    let said = site.said();
    assert!(said.contains("under `main` in store `offsite` could not be frozen (it is read-only here)"), "{said}");
    assert!(site.cluster.dir().join("store/main/freeze").is_dir());
}
