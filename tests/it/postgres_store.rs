//! Physical backups and WAL in buckets, compressed and encrypted: real clusters, a real S3 server, real damage.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use runbook::action::{Action as _, BackupHandle, Findings};
use runbook::actions::postgres::{BaseBackup, BaseBackupParams, RestoreBase, RestoreBaseParams};
use runbook::language::inventory::{Compression, CompressionFormat, StoreEntry};
use serde_json::json;

use crate::support::cli::listing;
use crate::support::fault_proxy::{Fault, FaultProxy, Seen};
use crate::support::production::Production;
use crate::support::program::need;
use crate::support::recovery::{Depot, Known, Site};
use crate::support::s3::S3;

const MARK: &str = "the customer is called Zdzislawa Grzeszczykiewicz";

/// Runs `runbook wal` as the server does: its user, its folder, no environment.
fn wal(site: &Site, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runbook"));
    command.arg("wal").arg(args[0]).args(["--config", "wal.json"]).args(&args[1..]);
    command.env_clear().current_dir(site.cluster.pgdata()).stdin(Stdio::null());
    if let Some((uid, gid)) = site.cluster.owner() {
        command.uid(uid).gid(gid);
    }
    command.output().unwrap()
}

#[track_caller]
fn ends(site: &Site, args: &[&str], code: i32) -> String {
    let output = wal(site, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(said.lines().count() <= 1, "{said}");
    said
}

/// Changes the configuration of `wal`.
fn reconfigure(site: &Site, change: impl FnOnce(&mut serde_json::Value)) {
    let path = site.cluster.pgdata().join("wal.json");
    let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    config["retry_for"] = json!("0s");
    fs::write(&path, config.to_string()).unwrap();
    site.cluster.give(&path);
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found.sort();
    found
}

fn last_segment(site: &Site) -> String {
    let name = site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    site.archive();
    name
}

#[tokio::test]
async fn a_lost_cluster_comes_back_from_a_bucket_compressed_and_encrypted() {
    let server = S3::start();
    let site = Site::over(Depot::bucket(&server).encrypted(), &[("full_page_writes", "on")]);
    site.cluster.sql(&format!("CREATE TABLE t(n int, x text); INSERT INTO t VALUES (1, '{MARK}')"));
    let run = site.run();
    let backup = run.base_backup().await;
    site.cluster.sql(&format!("INSERT INTO t VALUES (2, '{MARK}')"));
    site.archive();
    let stored = site.stored();
    assert!(stored.iter().any(|name| name == "base.tar.zst.age"), "{stored:?}");
    let packed = |name: &&String| name.starts_with("0000000") && name.ends_with(".zst.age");
    assert!(stored.iter().filter(packed).count() > 1, "{stored:?}");
    for path in files(server.folder()) {
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(MARK.len()).any(|part| part == MARK.as_bytes()), "{}", path.display());
    }
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let staged = run.stage(&backup.backup).await;
    run.recover(&staged, json!({})).await;
    assert_eq!(site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), "1,2", "{}", site.said());
    let left: Vec<PathBuf> = files(&site.cluster.pgdata());
    assert!(!left.iter().any(|path| path.to_string_lossy().contains("runbook-fetch")), "{left:?}");
    assert!(site.said().contains("store `primary` has the backup"), "{}", site.said());
}

#[test]
fn a_drill_restores_from_an_encrypted_bucket_and_leaves_it_as_it_was() {
    let server = S3::start();
    let production = Production::over(Depot::bucket(&server).encrypted());
    let before = listing(server.folder());
    production.cli.run(&["drill", "full-db-loss", "-p", "database=main"]).ends(0);
    // The production goes on archiving meanwhile: nothing that was there may differ.
    let after = listing(server.folder());
    let changed: Vec<&String> = before.iter().filter(|line| line.contains(" 100") && !after.contains(line)).collect();
    assert!(changed.is_empty(), "{changed:?}");
    production.nothing_is_left();
}

/// What the checks say ahead of the run, and right before the step.
async fn judged(site: &Site, backup: &BackupHandle) -> [Findings; 2] {
    let run = site.run();
    let mut ahead = run.check_context();
    ahead.ahead = true;
    let late: RestoreBaseParams = serde_json::from_value(json!({ "database": "main",
        "backup": runbook::action::Late::<BackupHandle>::marker("steps.choose.backup") }))
    .unwrap();
    let due: RestoreBaseParams = serde_json::from_value(json!({ "database": "main", "backup": backup })).unwrap();
    [RestoreBase.check(&late, &ahead).await.unwrap(), RestoreBase.check(&due, &run.check_context()).await.unwrap()]
}

#[tokio::test]
async fn a_wrong_key_is_refused_before_anything_stops() {
    let mut site = Site::over(Depot::default().encrypted(), &[]);
    let backup = site.run().base_backup().await.backup;
    for findings in judged(&site, &backup).await {
        assert!(!findings.refused(), "{:?}", findings.0);
    }
    let other = Depot::default().encrypted().secrets;
    site.depot.secrets = other;
    for findings in judged(&site, &backup).await {
        let said = serde_json::to_string(&findings.0).unwrap();
        assert!(findings.refused() && said.contains("identities"), "{said}");
    }
    site.depot.secrets = Known::default();
    for findings in judged(&site, &backup).await {
        assert!(findings.refused(), "{:?}", findings.0);
    }
}

/// Damages one object of a backup; `other` is another object of it.
fn damage(kind: &str, object: &Path, other: &Path) {
    let mut bytes = fs::read(object).unwrap();
    let middle = bytes.len() / 2;
    match kind {
        "flip" => bytes[middle] ^= 1,
        "truncate" => bytes.truncate(middle),
        "delete" => return fs::remove_file(object).unwrap(),
        "swap" => bytes = fs::read(other).unwrap(),
        "zero" => bytes.fill(0),
        other => panic!("{other}"),
    }
    fs::write(object, bytes).unwrap();
}

/// Restores a backup whose objects are damaged one after the other, in every way.
async fn every_damage_is_found(depot: Depot) {
    let site = Site::over(depot, &[]);
    let location = site.cluster.folder("fast");
    site.cluster.sql(&format!("CREATE TABLESPACE fast LOCATION '{}'", location.display()));
    site.cluster.sql("CREATE TABLE t(n int) TABLESPACE fast; INSERT INTO t SELECT generate_series(1, 2000)");
    let run = site.run();
    let backup = run.base_backup().await.backup;
    let folder = site.depot.root.join(format!("main/base/{}", backup.id));
    let evidence = ["SHA256SUMS", "RESTORE.md", "restore.sh"];
    let hidden = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(".rb-") || evidence.contains(&name.as_str())
    };
    let objects: Vec<PathBuf> = files(&folder).into_iter().filter(|path| !hidden(path)).collect();
    assert_eq!(objects.len(), 5, "{objects:?}");
    site.cluster.stop("fast");
    let live = listing(&site.cluster.pgdata());
    let params = json!({ "database": "main", "backup": backup });
    let params: RestoreBaseParams = serde_json::from_value(params).unwrap();
    for (index, object) in objects.iter().enumerate() {
        let (whole, other) = (fs::read(object).unwrap(), &objects[(index + 1) % objects.len()]);
        for kind in ["flip", "truncate", "delete", "swap", "zero"] {
            damage(kind, object, other);
            let told = RestoreBase.run(&params, &run.context()).await;
            let shown = format!("{kind} of `{}`", object.display());
            let error = told.expect_err(&shown);
            assert!(!format!("{error}").is_empty(), "{shown}");
            let staged = format!("{}.runbook-staged-{}", site.cluster.pgdata().display(), run.id);
            let marker = Path::new(&staged).join("runbook-restore.json");
            assert!(!marker.exists(), "{shown} left a folder that looks complete");
            assert_eq!(listing(&site.cluster.pgdata()), live, "{shown}");
            fs::write(object, &whole).unwrap();
        }
    }
    RestoreBase.run(&params, &run.context()).await.expect("the backup is whole again");
}

#[tokio::test]
async fn every_damage_of_a_packed_and_encrypted_backup_is_found_before_the_target_is_touched() {
    every_damage_is_found(Depot::default().encrypted()).await;
}

#[tokio::test]
async fn every_damage_of_a_plain_backup_is_found_before_the_target_is_touched() {
    let none = Compression { format: CompressionFormat::None, level: None };
    let entry = StoreEntry { compression: Some(none), ..StoreEntry::default() };
    every_damage_is_found(Depot { entry, ..Depot::default() }).await;
}

#[tokio::test]
async fn a_backup_goes_to_several_stores_and_one_that_fails_is_named() {
    let site = Site::new();
    let second = site.cluster.folder("second");
    let at = |folder: &Path| StoreEntry { url: format!("file://{}", folder.display()), ..StoreEntry::default() };
    runbook::store::Opening::plain(&at(&second), "second").initialize().unwrap();
    let beside = [("second", at(&second)), ("broken", at(Path::new("/proc/nowhere")))];
    site.beside.lock().unwrap().extend(beside.map(|(name, entry)| (name.to_owned(), entry)));
    let backup = |stores: serde_json::Value| -> BaseBackupParams {
        serde_json::from_value(
            json!({ "database": "main", "tier": "daily", "stores": stores["s"], "at_least": stores["n"] }),
        )
        .unwrap()
    };
    let run = site.run();
    let all = BaseBackup.run(&backup(json!({ "s": ["second", "broken"] })), &run.context()).await.unwrap_err();
    assert!(all.to_string().contains("`broken`"), "{all}");
    let two = json!({ "s": ["primary", "second", "broken"], "n": 2 });
    let output = BaseBackup.run(&backup(two), &run.context()).await.unwrap();
    let copies: Vec<&str> = output.copies.iter().map(|copy| copy.store.as_str()).collect();
    assert_eq!((copies, output.backup.store.as_str()), (vec!["primary", "second"], "primary"));
    assert!(site.said().contains("store `broken` did not get the backup"), "{}", site.said());
    let manifest = files(&second).into_iter().find(|path| path.ends_with("manifest.json")).unwrap();
    assert!(manifest.to_string_lossy().contains("main/base/daily/"), "{}", manifest.display());
    let text = fs::read_to_string(manifest).unwrap();
    assert!(text.contains("\"environment\": \"production\"") && text.contains("\"tier\": \"daily\""), "{text}");
}

#[test]
fn segments_are_the_same_by_their_content_however_they_are_packed() {
    let site = Site::over(Depot::default().encrypted(), &[("wal_keep_size", "1GB")]);
    site.cluster.sql("CREATE TABLE t(n int)");
    let packed = last_segment(&site);
    let settings = site.depot.entry.clone();
    reconfigure(&site, |config| config["store"] = json!({ "url": settings.url, "compression": { "format": "none" } }));
    site.cluster.sql("INSERT INTO t VALUES (1)");
    let plain = last_segment(&site);
    site.cluster.stop("fast");
    let object =
        |name: &str| site.stored().iter().filter(|stored| stored.starts_with(name)).cloned().collect::<Vec<_>>();
    assert_eq!(object(&packed), [format!("{packed}.zst.age")]);
    assert_eq!(object(&plain), std::slice::from_ref(&plain));
    let (at, target) = (|name: &str| format!("pg_wal/{name}"), site.cluster.pgdata().join("pg_wal/RECOVERYXLOG"));
    ends(&site, &["push", &at(&packed)], 0);
    let said = ends(&site, &["fetch", &packed, "pg_wal/RECOVERYXLOG"], 126);
    assert!(said.contains("decrypt") || said.contains("encryption"), "{said}");
    reconfigure(&site, |config| config["store"] = json!(settings));
    ends(&site, &["push", &at(&plain)], 0);
    assert_eq!((object(&packed).len(), object(&plain).len()), (1, 1));
    for name in [&packed, &plain] {
        let _ = fs::remove_file(&target);
        ends(&site, &["fetch", name, "pg_wal/RECOVERYXLOG"], 0);
        assert_eq!(fs::read(&target).unwrap(), fs::read(site.cluster.pgdata().join(at(name))).unwrap());
    }
    for name in [&packed, &plain] {
        let path = site.cluster.pgdata().join(at(name));
        let mut bytes = fs::read(&path).unwrap();
        bytes[5000] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(ends(&site, &["push", &at(name)], 1).contains("with other content"));
    }
}

#[test]
fn wal_in_a_bucket_keeps_the_servers_contract() {
    let server = S3::start();
    let site = Site::over(Depot::bucket(&server), &[("wal_keep_size", "1GB")]);
    assert!(ends(&site, &["init"], 0).contains("can be read and written"));
    ends(&site, &["init"], 0);
    site.cluster.sql("CREATE TABLE t(n int)");
    let first = last_segment(&site);
    site.cluster.sql("INSERT INTO t VALUES (1)");
    let second = last_segment(&site);
    site.cluster.sql("INSERT INTO t VALUES (2)");
    last_segment(&site);
    site.cluster.stop("fast");
    reconfigure(&site, |_| {});
    ends(&site, &["push", &format!("pg_wal/{first}")], 0);
    ends(&site, &["fetch", &second, "pg_wal/RECOVERYXLOG"], 0);
    ends(&site, &["fetch", "0000000100000000000000F0", "pg_wal/RECOVERYXLOG"], 1);
    ends(&site, &["fetch", "00000002.history", "pg_wal/RECOVERYXLOG"], 1);
    let objects = files(server.folder());
    let object = objects.iter().find(|path| path.ends_with(format!("{second}.zst"))).unwrap();
    fs::remove_file(object).unwrap();
    assert!(ends(&site, &["fetch", &second, "pg_wal/RECOVERYXLOG"], 126).contains("the later segment"));
    let secret = site.cluster.pgdata().join("wal.secret.key");
    let right = fs::read(&secret).unwrap();
    fs::write(&secret, "another-secret-access-key").unwrap();
    ends(&site, &["fetch", "0000000100000000000000F0", "pg_wal/RECOVERYXLOG"], 126);
    ends(&site, &["push", &format!("pg_wal/{first}")], 1);
    ends(&site, &["init"], 1);
    fs::write(&secret, right).unwrap();
    reconfigure(&site, |config| config["store"]["url"] = json!("s3://no-such-bucket/below"));
    ends(&site, &["fetch", "0000000100000000000000F0", "pg_wal/RECOVERYXLOG"], 126);
    ends(&site, &["init"], 1);
    reconfigure(&site, |config| config["secrets"]["key"] = json!({ "command": ["pass", "key"] }));
    assert!(ends(&site, &["push", &format!("pg_wal/{first}")], 1).contains("only `file` and `env`"));
}

/// H14: whoever takes a failing network for the end of the archive opens a database that lacks transactions.
#[test]
fn a_network_that_fails_is_never_the_end_of_the_archive() {
    let server = S3::start();
    let site = Site::over(Depot::bucket(&server), &[]);
    ends(&site, &["init"], 0);
    site.cluster.sql("CREATE TABLE t(n int)");
    let stored = last_segment(&site);
    site.cluster.stop("fast");
    let proxy = FaultProxy::before(server.url().trim_start_matches("http://").parse().unwrap());
    reconfigure(&site, |config| config["store"]["endpoint"] = json!(proxy.endpoint()));
    let fetch = |name: &str, code: i32| ends(&site, &["fetch", name, "pg_wal/RECOVERYXLOG"], code);
    let (beyond, history) = ("0000000100000000000000F0", "00000002.history");
    proxy.script(|_| None);
    fetch(&stored, 0);
    fetch(beyond, 1);
    assert!(proxy.log().len() >= 2, "it goes through the proxy");
    for fault in [Fault::Reset, Fault::InternalError, Fault::Truncate] {
        proxy.script(move |_| Some(fault));
        fetch(beyond, 126);
        assert!(proxy.spoilt() >= 1, "{fault:?}");
    }
    proxy.script(|_| Some(Fault::Forbidden));
    for name in [&stored, beyond, history] {
        fetch(name, 126);
    }
    // What is there and what is not may be told by different requests.
    let is_listing = |seen: &Seen| seen.target.contains("list-type=2");
    proxy.script(move |seen| is_listing(seen).then_some(Fault::Forbidden));
    fetch(beyond, 126);
    proxy.script(move |seen| (!is_listing(seen)).then_some(Fault::Forbidden));
    fetch(beyond, 126);
    // A standby goes on asking.
    let signal = site.cluster.pgdata().join("standby.signal");
    fs::write(&signal, "").unwrap();
    proxy.script(|_| Some(Fault::Forbidden));
    fetch(&stored, 1);
    fs::remove_file(&signal).unwrap();
    drop(proxy);
    fetch(beyond, 126);
}

#[tokio::test]
async fn a_cluster_is_restored_by_the_script_alone_with_its_tablespace_and_its_packed_wal() {
    for program in ["zstd", "age"] {
        need(program, "escape");
    }
    let site = Site::over(Depot::default().encrypted(), &[]);
    let location = site.cluster.folder("fast");
    site.cluster.sql(&format!("CREATE TABLESPACE fast LOCATION '{}'", location.display()));
    site.cluster.sql("CREATE TABLE t(n int) TABLESPACE fast; INSERT INTO t SELECT generate_series(1, 1000)");
    let backup = site.run().base_backup().await.backup;
    site.cluster.sql("INSERT INTO t SELECT generate_series(1001, 1500)");
    site.archive();
    let system = site.cluster.sql("SELECT system_identifier FROM pg_control_system()");
    site.cluster.stop("fast");
    let identity = site.cluster.dir().join("identity");
    fs::write(&identity, &site.depot.secrets.0["identity"]).unwrap();
    site.cluster.give(&identity);
    let script = site.depot.root.join(format!("main/base/{}/restore.sh", backup.id));
    let archive = site.depot.root.join(format!("main/wal/{system}"));
    let home = site.cluster.folder("rescued");
    let target = home.join("back");
    let mut command = Command::new("sh");
    command.args([script.as_os_str(), target.as_os_str(), "--identity".as_ref(), identity.as_os_str()]);
    command.args(["--wal".as_ref(), archive.as_os_str()]);
    command.env("PATH", format!("{}:/usr/bin:/bin", site.cluster.bin().display())).current_dir("/");
    if let Some((uid, gid)) = site.cluster.owner() {
        command.uid(uid).gid(gid);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let data = target.join("data");
    let options = format!("-p {} -k {}", site.cluster.port(), site.cluster.socket_dir().display());
    let mut start = site.cluster.command("pg_ctl");
    start.args(["-w", "-t", "60", "-o", &options, "-D"]).arg(&data).arg("-l").arg(home.join("log")).arg("start");
    assert!(start.stdout(Stdio::null()).status().unwrap().success(), "{:?}", fs::read_to_string(home.join("log")));
    site.cluster.sql(
        "DO $$ BEGIN FOR i IN 1..6000 LOOP EXIT WHEN NOT pg_is_in_recovery(); PERFORM pg_sleep(0.01); END LOOP; END $$",
    );
    let (rows, place) = (
        site.cluster.sql("SELECT count(*) FROM t"),
        "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'fast'",
    );
    let place = site.cluster.sql(place);
    site.cluster
        .command("pg_ctl")
        .args(["-w", "-m", "fast", "stop", "-D"])
        .arg(&data)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(rows, "1500");
    assert!(place.starts_with(&*target.to_string_lossy()), "{place}");
}
