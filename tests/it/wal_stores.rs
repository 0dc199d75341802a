//! WAL in several stores of which one is enough: what only one of them was given is found by whoever recovers or asks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use runbook::action::{Action as _, NoSecrets, StagedHandle};
use runbook::actions::postgres::VerifyBackup;
use runbook::language::inventory::StoreEntry;
use runbook::pgformat::{SegmentSize, WalFileName};
use runbook::transfer::Packing;
use runbook::wal::{Destination, Identity, Keys, Source, push_file, read_file};
use serde_json::{Value, json};

use crate::support::cli::{Cli, until};
use crate::support::recovery::{Run, Site};

/// Somebody who asks about the site; the inventory names these further stores of the WAL.
fn asking(site: &Site, wal_stores: &str) -> Cli {
    let (cli, cluster) = (Cli::new(), &site.cluster);
    let url = |name: &str| format!("{{ url: \"file://{}\" }}", cluster.dir().join(name).display());
    let text = format!(
        "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: primary, prefix: main, \
         wal_stores: [{wal_stores}] }}\nstores: {{ primary: {}, offsite: {} }}\n",
        cluster.pgdata().display(),
        cluster.port(),
        cluster.socket_dir().display(),
        cluster.bin().display(),
        url("store"),
        url("offsite"),
    );
    cli.file("inventory.yaml", &text);
    cli
}

fn findings(cli: &Cli, code: i32) -> String {
    let ran = cli.run(&["wal", "status", "main", "--json"]).ends(code);
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    told[0]["findings"].to_string() + &told[0]["figures"]["owed"].to_string()
}

#[tokio::test]
async fn a_recovery_finds_the_segments_that_only_one_of_two_stores_was_given() {
    let site = Site::new();
    site.archive_offsite();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let backup = run.base_backup().await;
    // The database's own store is away for a while; the other one is enough.
    let (own, away) = (site.cluster.dir().join("store"), site.cluster.dir().join("away"));
    fs::rename(&own, &away).unwrap();
    for n in 2..5 {
        site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
        site.archive();
    }
    fs::rename(&away, &own).unwrap();
    let lacks = findings(&asking(&site, "offsite"), 1);
    assert!(lacks.contains("files that others have") && !lacks.contains("wal_stores"), "{lacks}");
    let unnamed = findings(&asking(&site, ""), 2);
    assert!(unnamed.contains("name the store in `wal_stores`"), "{unnamed}");
    // The machine is lost with its `pg_wal` and its notes before anything was copied.
    site.cluster.stop("immediate");
    fs::remove_dir_all(site.cluster.pgdata().join("pg_wal")).unwrap();
    fs::remove_dir_all(site.cluster.dir().join("spool")).unwrap();
    asking(&site, "offsite").run(&["wal", "verify", "main", "--digests"]).ends(0);
    let staged = run.stage(&backup.backup).await;
    let offsite = site.cluster.dir().join("offsite");
    fs::rename(&offsite, &away).unwrap();
    let error = run.try_recover(&staged, json!({})).await.unwrap_err();
    let help = error.info().help.clone().unwrap_or_default();
    assert!(help.contains("`offsite`") && help.contains("`wal_stores`"), "{error}: {help}");
    fs::rename(&away, &offsite).unwrap();
    run.recover(&staged, json!({})).await;
    assert_eq!(site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), "1,2,3,4");
}

#[tokio::test]
async fn while_one_store_is_silent_the_others_tell_how_archiving_and_backups_stand() {
    let site = Site::new();
    site.archive_offsite();
    site.cluster.sql("CREATE TABLE t(n int)");
    site.archive();
    let cli = asking(&site, "offsite");
    let text =
        cli.read("inventory.yaml").replace("wal_stores:", "wal_at_least: 1, backup_stores: [offsite], wal_stores:");
    cli.file("inventory.yaml", &text);
    cli.run(&["backup", "main"]).ends(0);
    site.archive();
    let (own, offsite) = (site.cluster.dir().join("store"), site.cluster.dir().join("offsite"));
    let away = site.cluster.dir().join("away");
    let standing = |code: i32| cli.run(&["wal", "status", "main", "--json"]).ends(code).json()[0].clone();
    let archived_to = standing(0)["figures"]["archived_to"].clone();
    assert!(archived_to.is_string(), "{archived_to}");

    fs::rename(&own, &away).unwrap();
    let seen = standing(2);
    let findings = seen["findings"].to_string();
    assert!(findings.contains("store `primary`, which every restore reads, gives no answer"), "{findings}");
    assert_eq!((&seen["figures"]["archived_to"], findings.matches("level").count()), (&archived_to, 1), "{findings}");
    let status = cli.run(&["status", "main"]).ends(2);
    let status = status.prints("1 in all in store `offsite`").prints("its own store tells nothing: store `primary`");
    let status = status.prints("store `offsite` has backups that one can be made from: runbook restore main");
    status.prints("runbook backup main --at-least 1");
    fs::rename(&away, &own).unwrap();

    fs::rename(&offsite, &away).unwrap();
    let seen = standing(1)["findings"].to_string();
    assert!(seen.contains("store `offsite` gives no answer"), "{seen}");
    let status = cli.run(&["status", "main"]).ends(1).prints("store `offsite` tells nothing");
    let status = status.prints("store `offsite`, which each backup is copied to, tells nothing");
    assert!(status.out.contains("1 in all\n"), "the own store tells all the same: {}", status.out);
    cli.run(&["backup", "main", "--at-least", "1"]).ends(5);
    fs::rename(&away, &offsite).unwrap();
    cli.run(&["status", "main"]).prints("store `offsite` its newest is");

    // What only the other one has is told: no restore looks for it there.
    fs::rename(&own, &away).unwrap();
    cli.run(&["backup", "main", "--at-least", "1"]).ends(5);
    fs::rename(&away, &own).unwrap();
    cli.run(&["status", "main"]).ends(1).prints("store `offsite` has a newer base backup");
    let both = (fs::rename(&own, &away), fs::rename(&offsite, own.with_extension("gone")));
    assert!(both.0.is_ok() && both.1.is_ok());
    let nothing = standing(3)["findings"].to_string();
    assert!(nothing.contains("the store gives no answer"), "{nothing}");
}

#[test]
fn a_store_that_refuses_the_wal_is_named_with_its_reason_and_the_log() {
    let site = Site::new();
    site.archive_offsite();
    let config = site.cluster.pgdata().join("wal.json");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("\"at_least\":1"), "{text}");
    fs::write(&config, text.replace("\"at_least\":1", "\"at_least\":2")).unwrap();
    site.cluster.sql("CREATE TABLE t(n int)");
    site.archive();
    let (cli, offsite) = (asking(&site, "offsite"), site.cluster.dir().join("offsite"));
    closed(&offsite, "a-w");
    site.cluster.sql("INSERT INTO t VALUES (1)");
    site.cluster.sql("SELECT pg_switch_wal()");
    let counted = "SELECT failed_count > 0 AND last_failed_time > last_archived_time FROM pg_stat_archiver";
    until("the archiver fails", || site.cluster.sql(counted) == "t");
    let refused = findings(&cli, 2);
    for part in [
        "the push says: ",
        "is safe in 1 stores, wanted are 2",
        "store `offsite` (file://",
        "): it refuses",
        "denied",
        "the server's log, `",
    ] {
        assert!(refused.contains(part), "no `{part}` in {refused}");
    }
    assert!(!refused.contains("setup-archiving"), "{refused}");
    cli.run(&["status", "main"]).prints("store `offsite` (file://");
    closed(&offsite, "u+w");
    until("the archiver goes on", || site.cluster.sql(counted) == "f");
    let after = cli.run(&["wal", "status", "main", "--json"]);
    assert!(!after.out.contains("archiving fails"), "{}", after.out);
}

#[tokio::test]
async fn archiving_into_a_store_that_no_recovery_looks_into_is_refused() {
    let site = Site::new();
    site.cluster.folder("offsite");
    let runbook = "version: 1\nname: setup\nsteps:\n  - id: archive\n    uses: postgres.configure_archiving\n    \
                   with: { database: main, stores: [primary, offsite], foreign: replace }\n";
    let refused = asking(&site, "");
    refused.file("setup.yaml", runbook);
    let told = |cli: &Cli| {
        let ran = cli.run(&["dry-run", "setup.yaml"]);
        (ran.code, format!("{}{}", ran.out, ran.err))
    };
    let (code, words) = told(&refused);
    assert!(code != Some(0) && words.contains("would not look for WAL in `offsite`"), "{words}");
    let fine = asking(&site, "offsite");
    fine.file("setup.yaml", runbook);
    let (_, words) = told(&fine);
    assert!(!words.contains("would not look"), "{words}");
}

/// The WAL files that lie in a folder of a store, without the endings that packing gave them.
fn wal_in(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.join("main/wal")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if name.len() >= 24 && !name.starts_with('.') {
                found.insert(name.chars().take(24).collect());
            }
        }
    }
    found
}

/// A second store that compresses what the first one keeps as it is.
fn compressed() -> StoreEntry {
    serde_json::from_value(json!({ "compression": { "format": "zstd" } })).unwrap()
}

#[tokio::test]
async fn what_a_recovery_rescues_goes_into_every_store_and_the_archive_alone_then_has_all_rows() {
    let site = Site::new();
    site.archive_offsite_as(compressed());
    site.cluster.sql("CREATE TABLE t(n int)");
    let first = site.run();
    let backup = first.base_backup().await;
    site.archive();
    site.cluster.sql("INSERT INTO t SELECT generate_series(1, 500)");
    site.cluster.stop("immediate");
    let (own, offsite) = (site.cluster.dir().join("store"), site.cluster.dir().join("offsite"));
    let before = wal_in(&own);
    let staged = first.stage(&backup.backup).await;
    first.recover(&staged, json!({})).await;
    assert!(site.said().contains("WAL that was never archived was rescued"), "{}", site.said());
    let rescued: Vec<String> = wal_in(&own).difference(&before).cloned().collect();
    assert!(!rescued.is_empty());
    let missing: Vec<&String> = rescued.iter().filter(|name| !wal_in(&offsite).contains(*name)).collect();
    assert!(missing.is_empty(), "the second store lacks {missing:?}");
    // The first store is lost with its WAL and the machine with all of its: what was rescued is in the second.
    site.cluster.stop("immediate");
    fs::remove_dir_all(site.cluster.pgdata().join("pg_wal")).unwrap();
    fs::remove_dir_all(own.join("main/wal").join(of_cluster(&own))).unwrap();
    let second = site.run();
    let staged = second.stage(&backup.backup).await;
    second.recover(&staged, json!({})).await;
    assert_eq!(site.cluster.sql("SELECT count(*) FROM t"), "500");
}

#[tokio::test]
async fn a_store_that_may_not_be_written_to_gets_no_rescued_wal_and_is_mended_later() {
    let site = Site::new();
    site.archive_offsite_as(compressed());
    site.cluster.sql("CREATE TABLE t(n int)");
    let run = site.run();
    let backup = run.base_backup().await;
    site.archive();
    site.cluster.sql("INSERT INTO t SELECT generate_series(1, 500)");
    site.cluster.stop("immediate");
    site.beside.lock().unwrap().get_mut("offsite").unwrap().read_only = true;
    let staged = run.stage(&backup.backup).await;
    run.recover(&staged, json!({})).await;
    // Nothing is archived meanwhile.
    site.cluster.stop("fast");
    let (own, offsite) = (site.cluster.dir().join("store"), site.cluster.dir().join("offsite"));
    assert!(wal_in(&own).len() > wal_in(&offsite).len());
    let cli = asking(&site, "offsite");
    let planned = cli.run(&["wal", "mend", "--plan"]).ends(0);
    assert!(planned.out.contains("store `offsite` lacks"), "{}", planned.out);
    assert!(wal_in(&own).len() > wal_in(&offsite).len(), "a plan changes nothing");
    cli.run(&["wal", "mend", "main"]).ends(0);
    assert_eq!(wal_in(&own), wal_in(&offsite));
    let again = cli.run(&["wal", "mend", "main", "--json"]).ends(0);
    assert_eq!(again.out.trim(), "[]");
    // Damage in the one that has it is never copied.
    let lost = wal_in(&own).into_iter().next_back().unwrap();
    let file = |root: &Path| {
        let folder = root.join("main/wal").join(of_cluster(root)).join(&lost[..8]);
        let mut there = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
        there.find(|path| path.file_name().unwrap().to_string_lossy().starts_with(&lost))
    };
    fs::remove_file(file(&offsite).unwrap()).unwrap();
    let damaged = file(&own).unwrap();
    let mut bytes = fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let refused = cli.run(&["wal", "mend", "main"]).ends(5);
    assert!(refused.err.contains("was not copied") && refused.err.contains("damaged"), "{}", refused.err);
    assert!(file(&offsite).is_none());
}

#[tokio::test]
async fn what_no_backup_of_a_store_needs_is_not_copied_back_into_it() {
    let site = Site::new();
    site.archive_offsite();
    site.cluster.sql("CREATE TABLE t(n int)");
    for n in 0..3 {
        site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
        site.archive();
    }
    site.run().base_backup().await;
    for n in 3..5 {
        site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
        site.archive();
    }
    let (own, offsite) = (site.cluster.dir().join("store"), site.cluster.dir().join("offsite"));
    let all: Vec<String> = wal_in(&own).into_iter().filter(|name| name.len() == 24).collect();
    let folder = own.join("main/wal").join(of_cluster(&own)).join("00000001");
    let remove = |name: &String| {
        let there = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let is_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(name.as_str());
        there.filter(is_it).for_each(|path| fs::remove_file(path).unwrap());
    };
    // Pruned, all but one that was left over; and one that is needed got lost.
    let (pruned, lost) = (&all[1], &all[all.len() - 2]);
    [pruned, lost].into_iter().for_each(remove);
    let cli = asking(&site, "offsite");
    let mended = cli.run(&["wal", "mend"]).ends(0);
    assert!(
        mended.out.contains("store `primary`: 1 of 1 files copied") && mended.err.contains("`primary` lacks 1 more"),
        "{}{}",
        mended.out,
        mended.err
    );
    assert!(wal_in(&own).contains(lost) && !wal_in(&own).contains(pruned), "{:?}", wal_in(&own));
    cli.run(&["wal", "mend", "--all"]).ends(0);
    assert_eq!(wal_in(&own), wal_in(&offsite));
}

/// The first segment that a backup needs, as its manifest tells.
fn first_needed(manifest: &Path) -> String {
    let told: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    let (high, low) = told["postgres"]["start_lsn"].as_str().unwrap().split_once('/').unwrap();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    format!("{:08X}{:08X}{:08X}", 1, number(high), number(low) >> 24)
}

#[tokio::test]
async fn a_store_of_wal_alone_is_pruned_by_the_backups_of_the_other_stores() {
    let site = Site::new();
    site.archive_offsite();
    site.cluster.sql("CREATE TABLE t(n int)");
    let mut n = 0;
    let mut write = || {
        for _ in 0..2 {
            n += 1;
            site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
            site.archive();
        }
    };
    write();
    site.run().base_backup().await;
    write();
    let last = site.run().base_backup().await;
    write();
    let (own, offsite) = (site.cluster.dir().join("store"), site.cluster.dir().join("offsite"));
    let segments = |root: &Path| {
        let there = fs::read_dir(root.join("main/wal").join(of_cluster(root)).join("00000001")).unwrap();
        let names = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with('.') && !name.contains(".backup")).collect();
        names.iter_mut().for_each(|name| name.truncate(24));
        names.sort();
        names
    };
    let manifests = || {
        let ids = fs::read_dir(own.join("main/base")).unwrap().map(|entry| entry.unwrap().path().join("manifest.json"));
        let mut firsts: Vec<String> = ids.filter(|path| path.exists()).map(|path| first_needed(&path)).collect();
        firsts.sort();
        firsts
    };
    let (all, needed) = (segments(&offsite), manifests());
    assert!(needed.len() == 2 && all[0] < needed[0] && needed[0] < needed[1], "{all:?} {needed:?}");
    let cli = asking(&site, "offsite");
    let rules =
        "retention: { never_below: 1, default: { keep_last: 1 } }\nenvironments: { production: { default: true } }\n";
    cli.file("inventory.yaml", &(cli.read("inventory.yaml") + rules));
    cli.file(
        "prune.yaml",
        "version: 1\nname: prune\nsteps:\n  - { id: p, uses: backup.prune, with: { database: main, store: offsite } }\n",
    );
    // The store that has the backups is silent: nothing says what they need.
    let away = site.cluster.dir().join("away");
    fs::rename(&own, &away).unwrap();
    cli.run(&["backups", "prune", "--store", "offsite", "--plan"]).ends(0).prints("store `primary` gives no answer");
    let plan = cli.run(&["backups", "prune", "--store", "offsite", "--plan", "--json"]).ends(0).json();
    let why = plan[0]["wal_spared"][0]["why"].as_str().unwrap();
    assert!(why.contains("store `primary` gives no answer"), "{plan}");
    cli.run(&["run", "prune.yaml"]).ends(0);
    assert_eq!(segments(&offsite), all);
    // Nor where another, empty store lies in its place.
    let empty = StoreEntry { url: format!("file://{}", own.display()), ..StoreEntry::default() };
    runbook::store::Opening::plain(&empty, "primary").initialize().unwrap();
    cli.run(&["run", "prune.yaml"]).ends(0);
    cli.run(&["backups", "prune", "--store", "offsite", "--plan"]).ends(0).prints("shows none of this cluster");
    assert_eq!(segments(&offsite), all);
    fs::remove_dir_all(&own).unwrap();
    fs::rename(&away, &own).unwrap();
    // What a rule is about to take there is there still.
    cli.run(&["backups", "prune", "--yes"]).ends(0);
    let left = segments(&offsite);
    assert!(left[0] == needed[0] && left.last() == all.last(), "{left:?} {needed:?}");
    assert_eq!(manifests(), needed[1..]);
    cli.run(&["run", "prune.yaml"]).ends(0);
    assert_eq!(segments(&offsite), segments(&own));
    assert_eq!(segments(&offsite)[0], needed[1]);
    cli.run(&["wal", "mend", "main", "--plan"]).ends(0);
    // It alone has all that the backup which is left needs.
    site.cluster.stop("immediate");
    fs::remove_dir_all(site.cluster.pgdata().join("pg_wal")).unwrap();
    fs::remove_dir_all(own.join("main/wal").join(of_cluster(&own)).join("00000001")).unwrap();
    let run = site.run();
    let staged = run.stage(&last.backup).await;
    run.recover(&staged, json!({})).await;
    assert_eq!(site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), "1,2,3,4,5,6");
}

/// The folder of the one cluster that archives into a store.
fn of_cluster(root: &Path) -> String {
    fs::read_to_string(root.join("main/wal/cluster")).unwrap().trim().to_owned()
}

#[tokio::test]
async fn what_a_store_that_packs_otherwise_missed_is_packed_anew_with_a_later_push() {
    let site = Site::new();
    site.archive_offsite_as(compressed());
    site.cluster.sql("CREATE TABLE t(n int)");
    site.archive();
    let (own, offsite) = (site.cluster.dir().join("store"), site.cluster.dir().join("offsite"));
    let away = site.cluster.dir().join("away");
    fs::rename(&offsite, &away).unwrap();
    for n in 0..3 {
        site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
        site.archive();
    }
    fs::rename(&away, &offsite).unwrap();
    assert!(wal_in(&own).len() >= wal_in(&offsite).len() + 3);
    site.cluster.sql("INSERT INTO t VALUES (4)");
    site.archive();
    assert_eq!(wal_in(&own), wal_in(&offsite));
    asking(&site, "offsite").run(&["wal", "verify", "main", "--digests"]).ends(0);
}

#[tokio::test]
async fn what_only_one_store_has_is_told_by_health_and_by_the_verification_of_a_backup() {
    let site = Site::new();
    site.archive_offsite();
    site.cluster.sql("CREATE TABLE t(n int)");
    let run = site.run();
    run.base_backup().await;
    site.archive();
    let own = site.cluster.dir().join("store");
    let cli = asking(&site, "offsite");
    let expected = "backups: { main-base: { source: main, kind: postgres.base, max_wal_age: 1h } }";
    cli.file("inventory.yaml", &format!("{}{expected}\n", cli.read("inventory.yaml")));
    cli.run(&["backups", "health"]).ends(0);
    fs::remove_dir_all(own.join("main/wal").join(of_cluster(&own))).unwrap();
    let told = cli.run(&["backups", "health"]).ends(1);
    assert!(told.out.contains("store `primary` has none of its WAL"), "{}", told.out);
    let params = serde_json::from_value(json!({ "database": "main" })).unwrap();
    let verified = VerifyBackup.run(&params, &run.context()).await.unwrap();
    assert!(verified.apart.iter().any(|fact| fact.contains("store `primary` lacks")), "{:?}", verified.apart);
    cli.run(&["wal", "mend"]).ends(0);
    cli.run(&["backups", "health"]).ends(0);
}

#[tokio::test]
async fn a_server_that_archives_otherwise_than_the_inventory_says_is_told_by_the_doctor() {
    let site = Site::new();
    site.archive_offsite();
    let archiving = |wal_stores: &str| {
        let ran = asking(&site, wal_stores).run(&["doctor", "--store", "primary", "--role", "any"]);
        ran.out.lines().filter(|line| line.contains("archiv")).map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    assert!(archiving("").contains("which a recovery would not look into"), "{}", archiving(""));
    assert!(archiving("offsite").contains("into the stores that the inventory names"), "{}", archiving("offsite"));
}

/// The object of a WAL file in a folder of a store.
fn object(root: &Path, name: &str) -> PathBuf {
    let folder = root.join("main/wal").join(of_cluster(root)).join(&name[..8]);
    let mut there = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    there.find(|path| path.file_name().unwrap().to_string_lossy().starts_with(name)).unwrap()
}

#[tokio::test]
async fn a_damaged_copy_in_one_of_two_stores_is_found_by_its_digest_and_replaced_by_the_whole_one() {
    let site = Site::new();
    site.archive_offsite_as(compressed());
    site.cluster.sql("CREATE TABLE t(n int)");
    site.archive();
    let name = site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    site.cluster.sql("INSERT INTO t SELECT generate_series(1, 100)");
    site.archive();
    site.cluster.sql("INSERT INTO t VALUES (0)");
    site.archive();
    let (own, offsite) = (site.cluster.dir().join("store"), site.cluster.dir().join("offsite"));
    let cli = asking(&site, "offsite");
    cli.run(&["wal", "verify", "main", "--digests"]).ends(0);
    for (root, store) in [(&own, "primary"), (&offsite, "offsite")] {
        let damaged = object(root, &name);
        let mut bytes = fs::read(&damaged).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&damaged, &bytes).unwrap();
        let told = cli.run(&["wal", "verify", "main", "--digests", "--json"]).ends(10);
        let told: Value = serde_json::from_str(&told.out).unwrap();
        assert_eq!((&told[0]["copies"][0]["store"], &told[0]["copies"][0]["segment"]), (&json!(store), &json!(name)));
        let planned = cli.run(&["wal", "mend", "main", "--digests", "--plan"]).ends(0);
        assert!(planned.out.contains(&format!("store `{store}` has 1 damaged copies")), "{}", planned.out);
        assert_eq!(fs::read(&damaged).unwrap(), bytes, "a plan changes nothing");
        cli.run(&["wal", "mend", "main"]).ends(0);
        assert_eq!(fs::read(&damaged).unwrap(), bytes, "only what was read is replaced");
        cli.run(&["wal", "mend", "main", "--digests"]).ends(0);
        cli.run(&["wal", "verify", "main", "--digests"]).ends(0);
    }
}

#[tokio::test]
async fn a_file_that_no_store_has_whole_is_not_replaced() {
    let site = Site::new();
    site.archive_offsite();
    let name = site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    site.archive();
    site.archive();
    let mut left = Vec::new();
    for root in ["store", "offsite"] {
        let path = object(&site.cluster.dir().join(root), &name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[9] ^= 1;
        fs::write(&path, &bytes).unwrap();
        left.push((path, bytes));
    }
    let cli = asking(&site, "offsite");
    cli.run(&["wal", "verify", "main", "--digests"]).ends(10);
    let refused = cli.run(&["wal", "mend", "main", "--digests"]).ends(5);
    assert!(refused.err.contains("was not replaced"), "{}", refused.err);
    assert!(left.iter().all(|(path, bytes)| fs::read(path).unwrap() == *bytes));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_keeps_no_damaged_copy_from_being_replaced_and_is_told() {
    let site = Site::new();
    site.archive_offsite();
    site.cluster.sql("CREATE TABLE t(n int)");
    let unreadable = site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    site.archive();
    site.cluster.sql("INSERT INTO t VALUES (1)");
    let name = site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    site.archive();
    let offsite = site.cluster.dir().join("offsite");
    let (first, damaged) = (object(&offsite, &unreadable), object(&offsite, &name));
    // What the store knows of the first file cannot be read.
    let known = first.with_file_name(format!(".rb-meta-{}", first.file_name().unwrap().to_string_lossy()));
    assert!(known.is_file());
    fs::write(&known, "nonsense").unwrap();
    let whole = fs::read(&damaged).unwrap();
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 1;
    fs::write(&damaged, &bytes).unwrap();
    let cli = asking(&site, "offsite");
    let planned = cli.run(&["wal", "mend", "main", "--digests", "--plan", "--json"]).ends(10);
    let planned: Value = serde_json::from_str(&planned.out).unwrap();
    let told = planned.as_array().unwrap().iter().find(|one| one["unread"].is_array()).unwrap();
    assert_eq!((&told["unread"][0]["file"], &told["damaged"]), (&json!(unreadable), &json!([name])));
    let mended = cli.run(&["wal", "mend", "main", "--digests"]).ends(10);
    assert!(mended.out.contains("store `offsite`: 1 of 1 damaged copies replaced"), "{}", mended.out);
    assert!(mended.err.contains(&format!("whether `{unreadable}` is damaged is not known")), "{}", mended.err);
    assert_eq!(fs::read(&damaged).unwrap(), whole);
}

#[tokio::test]
async fn a_segment_whose_records_end_although_the_next_one_is_there_is_found() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int)");
    site.archive();
    let name = site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    site.cluster.sql("INSERT INTO t SELECT generate_series(1, 1000)");
    site.archive();
    site.archive();
    let cli = asking(&site, "");
    cli.run(&["wal", "verify", "main", "--digests"]).ends(0);
    // What a rescue stores of a segment that its server then went on with.
    let run = site.run();
    let store = run.context().store("primary").unwrap();
    let identity =
        Identity { system_id: of_cluster(&site.cluster.dir().join("store")).parse().unwrap(), segment_size: None };
    let segment: WalFileName = name.parse().unwrap();
    let keys = Keys { settings: None, secrets: &NoSecrets };
    let source = Source { store: store.as_read(), prefix: "main", identity, keys };
    let mut bytes = read_file(&source, segment).await.unwrap();
    bytes[3 * 8192..].fill(0);
    let (object, path) = (object(&site.cluster.dir().join("store"), &name), site.cluster.dir().join(&name));
    fs::remove_file(object).unwrap();
    fs::write(&path, &bytes).unwrap();
    let packing = Packing::plain();
    let to = Destination { store: &*store, prefix: "main", identity, packing: &packing };
    push_file(to, &path, segment).await.unwrap();
    let told = cli.run(&["wal", "verify", "main", "--digests", "--json"]).ends(10);
    assert!(told.out.contains("its records end at") && told.out.contains("DAMAGED"), "{}", told.out);
}

/// Takes the right to write into a store from its server, or gives it back.
fn closed(root: &Path, mode: &str) {
    let changed = std::process::Command::new("chmod").args(["-R", mode]).arg(root).status().unwrap();
    assert!(changed.success());
}

/// The files of the new timeline's segments in a store.
fn on_the_new_timeline(root: &Path) -> usize {
    let folder = root.join("main/wal").join(of_cluster(root)).join("00000002");
    let there = fs::read_dir(folder).into_iter().flatten().flatten();
    there.filter(|entry| entry.file_name().to_string_lossy().starts_with("00000002")).count()
}

/// A cluster that was lost with all it had, whose second store takes no writes of its server any more.
async fn lost_with_a_store_that_takes_nothing(site: &Site) -> (Run<'_>, StagedHandle) {
    site.archive_offsite();
    site.cluster.sql("CREATE TABLE t(n int)");
    let run = site.run();
    let backup = run.base_backup().await;
    site.archive();
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let staged = run.stage(&backup.backup).await;
    closed(&site.cluster.dir().join("offsite"), "a-w");
    (run, staged)
}

#[tokio::test]
async fn a_recovery_is_not_over_before_every_store_has_the_first_segment_of_the_new_timeline() {
    let site = Site::new();
    let (run, staged) = lost_with_a_store_that_takes_nothing(&site).await;
    let (own, offsite) = (site.cluster.dir().join("store"), site.cluster.dir().join("offsite"));
    let opened = async {
        while on_the_new_timeline(&own) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(on_the_new_timeline(&offsite), 0);
        closed(&offsite, "u+w");
        while on_the_new_timeline(&offsite) == 0 {
            // What a store lacks is copied with the next push.
            site.archive();
            tokio::task::yield_now().await;
        }
    };
    let (recovered, ()) = tokio::join!(run.recover(&staged, json!({})), opened);
    let archived = recovered.archived.unwrap();
    assert!(wal_in(&offsite).contains(&archived), "{archived}: {:?}", wal_in(&offsite));
}

#[tokio::test]
async fn a_store_that_lacks_the_first_segment_of_the_new_timeline_is_told_where_fewer_are_enough() {
    let site = Site::new();
    *site.wal_at_least.lock().unwrap() = Some(1);
    let (run, staged) = lost_with_a_store_that_takes_nothing(&site).await;
    let recovered = run.recover(&staged, json!({})).await;
    closed(&site.cluster.dir().join("offsite"), "u+w");
    assert!(recovered.archived.is_some());
    let said = site.said();
    assert!(said.contains("did not reach store `offsite`") && said.contains("runbook wal mend main"), "{said}");
}

#[tokio::test]
async fn a_timeline_is_given_up_in_the_stores_that_answer_and_a_later_call_completes_it() {
    let site = Site::new();
    site.archive_offsite();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    site.run().base_backup().await;
    site.archive();
    let (own, away) = (site.cluster.dir().join("store"), site.cluster.dir().join("away"));
    let (offsite, gone) = (site.cluster.dir().join("offsite"), site.cluster.dir().join("gone"));
    let system = site.cluster.sql("SELECT system_identifier FROM pg_control_system()");
    let fork = site.cluster.sql("SELECT pg_current_wal_lsn()");
    let history = |store: &Path| store.join(format!("main/wal/{system}/history"));
    let written = site.cluster.folder("second").join("00000002.history");
    fs::write(&written, format!("1\t{fork}\tno recovery target specified\n")).unwrap();
    let identity = Identity { system_id: system.parse().unwrap(), segment_size: Some(SegmentSize::DEFAULT) };
    let name: WalFileName = "00000002.history".parse().unwrap();
    for store in ["primary", "offsite"] {
        let (store, packing) = (site.run().context().store(store).unwrap(), Packing::plain());
        let to = Destination { store: &*store, prefix: "main", identity, packing: &packing };
        push_file(to, &written, name).await.unwrap();
    }
    let notes = |store: &Path| {
        let names = fs::read_dir(history(store)).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("00000002.given-up.")).count()
    };
    let cli = asking(&site, "offsite");
    let give_up = ["wal", "give-up", "main", "--timeline", "2"];
    // The store of the backups is away: the size of a segment is told by the server.
    fs::rename(&own, &away).unwrap();
    let half = cli.run(&give_up).ends(5).prints("store `offsite`: timeline 2 is noted as given up");
    assert!(
        half.err.contains("store `primary` gives no answer") && half.err.contains("wal give-up main"),
        "{}",
        half.err
    );
    assert!(
        cli.run(&["wal", "give-up", "main", "--timeline", "9"]).ends(5).out.contains("that answers knows timeline 9")
    );
    fs::rename(&offsite, &gone).unwrap();
    cli.run(&give_up).ends(10).says("`primary`").says("`offsite`");
    fs::rename(&gone, &offsite).unwrap();
    fs::rename(&away, &own).unwrap();
    assert_eq!((notes(&own), notes(&offsite)), (0, 1));
    cli.run(&give_up).ends(0).prints("store `primary`: timeline 2 is noted as given up");
    assert_eq!((notes(&own), notes(&offsite)), (1, 1));
}
