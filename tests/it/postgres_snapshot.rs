//! Backups by snapshots of the volume: a plain copy while the server is in backup mode is a legal, if slow, one.

use std::fs;
use std::path::Path;
use std::process::Command;

use runbook::action::{Action as _, ActionError, BackupHandle, Late};
use runbook::actions::postgres::{
    AroundSnapshot, AroundSnapshotOutput, RestoreSnapshot, RestoreSnapshotOutput, RestoreSnapshotParams,
};
use serde_json::{Value, json};

use crate::support::cli::Cli;
use crate::support::cli::{listing, until};
use crate::support::mount;
use crate::support::postgres::{programs_of, server_bin};
use crate::support::production::Production;
use crate::support::program::left_out;
use crate::support::recovery::{Depot, Run, Site};

async fn take(run: &Run<'_>, with: Value) -> Result<AroundSnapshotOutput, ActionError> {
    let mut all = json!({ "database": "main" });
    all.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    AroundSnapshot.run(&serde_json::from_value(all).unwrap(), &run.context()).await
}

async fn restore(run: &Run<'_>, with: Value) -> Result<RestoreSnapshotOutput, ActionError> {
    let mut all = json!({ "database": "main" });
    all.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    let params: RestoreSnapshotParams = serde_json::from_value(all).unwrap();
    RestoreSnapshot.run(&params, &run.context()).await
}

fn rows(site: &Site) -> String {
    site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t")
}

async fn comes_back(site: Site) {
    let (copy, place) = (site.cluster.folder("snapshot"), site.cluster.folder("space"));
    site.cluster.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", place.display()));
    site.cluster.sql("CREATE TABLE t(n int) TABLESPACE space; INSERT INTO t VALUES (1)");
    let script = format!(
        "cp -a {} {} {} && {} -h {} -p {} -U postgres -c 'INSERT INTO t VALUES (2)' >&2 && echo {}",
        site.cluster.pgdata().display(),
        place.display(),
        copy.display(),
        site.cluster.bin().join("psql").display(),
        site.cluster.socket_dir().display(),
        site.cluster.port(),
        copy.display()
    );
    let run = site.run();
    let taken = take(&run, json!({ "argv": ["sh", "-c", script], "label": "before the change" })).await;
    let taken = taken.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    assert_eq!(taken.snapshot, copy.display().to_string());
    assert_eq!(taken.backup.kind, "postgres.snapshot");
    assert!(site.said().contains("tablespaces `space` (`"), "{}", site.said());
    // A step that chooses the backup comes first: the snapshot itself tells what lay outside.
    let late = json!({ "database": "main", "backup": Late::<Value>::marker("steps.choose.backup"), "from": copy.join("data") });
    let late: RestoreSnapshotParams = serde_json::from_value(late).unwrap();
    let told = RestoreSnapshot.check(&late, &run.check_context()).await.unwrap();
    assert!(told.refused() && format!("{told:?}").contains("1 tablespaces lay outside"), "{told:?}");
    site.cluster.sql("INSERT INTO t VALUES (3)");
    site.archive();
    site.cluster.sql("INSERT INTO t VALUES (4)");
    site.cluster.kill();
    let from =
        json!({ "backup": taken.backup, "from": copy.join("data"), "tablespaces": { "space": copy.join("space") } });
    let staged = restore(&run, from).await.unwrap_or_else(|error| panic!("{:#?}", error.info())).staged;
    assert!(site.stored().contains(&format!("{}.json", run.id)), "it is frozen: {:?}", site.stored());
    run.recover(&staged, json!({})).await;
    assert_eq!(rows(&site), "1,2,3,4", "{}", site.said());
    site.cluster.sql("INSERT INTO t VALUES (5)");
}

#[tokio::test]
async fn a_copy_taken_in_backup_mode_comes_back_with_everything_after_it() {
    comes_back(Site::new()).await;
}

#[tokio::test]
async fn a_library_that_this_machine_lacks_is_found_before_anything_is_copied() {
    // The server's programs under a roof of our own, whose libraries are ours to take away.
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(server_bin(), home.path().join("bin")).unwrap();
    let library = home.path().join("lib/pg_stat_statements.so");
    fs::create_dir(home.path().join("lib")).unwrap();
    fs::write(&library, "").unwrap();
    let preloading = [("shared_preload_libraries", "pg_stat_statements")];
    let site = Site::by(home.path().join("bin"), Depot::default(), &preloading);
    let copy = site.cluster.folder("snapshot");
    let script = format!("cp -a {} {} && echo {}", site.cluster.pgdata().display(), copy.display(), copy.display());
    let run = site.run();
    let backup = take(&run, json!({ "argv": ["sh", "-c", script] })).await.unwrap().backup;
    let judged = async |backup: &BackupHandle| {
        let with = json!({ "database": "main", "backup": backup, "from": copy.join("data") });
        let params: RestoreSnapshotParams = serde_json::from_value(with).unwrap();
        RestoreSnapshot.check(&params, &run.check_context()).await.unwrap()
    };
    assert!(!judged(&backup).await.refused());
    fs::remove_file(library).unwrap();
    // A `lib` that is not the server's, as beside programs in `/usr/bin`, tells nothing.
    assert!(!judged(&backup).await.refused());
    fs::write(home.path().join("lib/plpgsql.so"), "").unwrap();
    let refused = judged(&backup).await;
    assert!(refused.refused() && format!("{refused:?}").contains("`pg_stat_statements.so`"), "{refused:?}");
}

#[tokio::test]
async fn postgresql_14_has_other_names_for_it() {
    comes_back(Site::by(programs_of(14), Depot::default(), &[])).await;
}

#[tokio::test]
async fn postgresql_18_comes_back_from_a_snapshot() {
    comes_back(Site::by(programs_of(18), Depot::default(), &[])).await;
}

#[tokio::test]
async fn a_session_that_is_lost_or_a_program_that_fails_leaves_no_backup() {
    let site = Site::new();
    let before = site.stored().len();
    let end = format!(
        "{} -h {} -p {} -U postgres -Atc \"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%backup%' AND pid <> pg_backend_pid()\"",
        site.cluster.bin().join("psql").display(),
        site.cluster.socket_dir().display(),
        site.cluster.port()
    );
    let error = take(&site.run(), json!({ "argv": ["sh", "-c", end] })).await.unwrap_err();
    assert!(error.to_string().contains("is no backup"), "{error}");
    let error = take(&site.run(), json!({ "argv": ["sh", "-c", "echo broken >&2; exit 3"] })).await.unwrap_err();
    assert!(error.to_string().contains("ended with code 3: broken"), "{error}");
    let error = take(&site.run(), json!({ "argv": ["true"] })).await.unwrap_err();
    assert!(error.to_string().contains("tells where the snapshot is"), "{error}");
    let manifests = |names: Vec<String>| names.iter().filter(|name| *name == "manifest.json").count();
    assert_eq!(manifests(site.stored()), 0);
    assert!(before < 10);
    // The server is out of backup mode each time: the next one begins at once.
    take(&site.run(), json!({ "argv": ["echo", "somewhere"] })).await.unwrap();
    assert_eq!(manifests(site.stored()), 1);
}

#[tokio::test]
async fn a_snapshot_stands_in_the_map_with_its_own_mark_and_in_the_plan_with_what_restores_it() {
    let site = Site::new();
    let run = site.run();
    let base = run.base_backup().await.backup;
    site.archive();
    let snapshot = take(&site.run(), json!({ "argv": ["echo", "somewhere"] })).await.unwrap().backup;
    site.archive();
    let (cli, cluster) = (Cli::new(), &site.cluster);
    let text = format!(
        "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: primary, prefix: main }}\n\
         stores: {{ primary: {{ url: \"file://{}\" }} }}\n",
        cluster.pgdata().display(),
        cluster.port(),
        cluster.socket_dir().display(),
        cluster.bin().display(),
        cluster.dir().join("store").display(),
    );
    cli.file("inventory.yaml", &text);
    cli.run(&["backups", "map"]).ends(0).prints("◆ snapshot");
    let plan = cli.run(&["pitr", "main", "--json"]).ends(0).json();
    assert_eq!(
        (plan["backup"]["id"].as_str(), plan["backup"]["kind"].as_str()),
        (Some(base.id.as_str()), Some("postgres.base"))
    );
    assert_eq!(plan["others"][0]["id"].as_str(), Some(snapshot.id.as_str()), "{plan:#}");
    let told = cli.run(&["pitr", "main"]).ends(0);
    assert!(
        told.out.contains("or from") && told.out.contains("nearer: ") && told.out.contains("postgres.restore_snapshot"),
        "{}",
        told.out
    );
    // Without a base backup it is what is left.
    fs::remove_dir_all(cluster.dir().join("store/main/base")).unwrap();
    let refused = cli.run(&["pitr", "main"]).ends(4);
    assert!(refused.err.contains("but from") && refused.err.contains(&snapshot.id), "{}", refused.err);
    cli.run(&["status", "main"]).ends(1).prints(&format!("volume snapshots alone, the newest is {}", snapshot.id));
    let refused = cli.run(&["restore", "main"]).ends(4);
    assert!(
        refused.err.contains(&format!("`postgres.restore_snapshot` of backup `{}`", snapshot.id)),
        "{}",
        refused.err
    );
}

#[tokio::test]
async fn the_live_data_and_another_cluster_are_no_snapshot() {
    let site = Site::new();
    let backup = take(&site.run(), json!({ "argv": ["echo", "somewhere"] })).await.unwrap().backup;
    let error = restore(&site.run(), json!({ "backup": backup, "from": site.cluster.pgdata() })).await.unwrap_err();
    assert!(error.to_string().contains("is the live data directory"), "{error}");
    let other = Site::new();
    let error = restore(&site.run(), json!({ "backup": backup, "from": other.cluster.pgdata() })).await.unwrap_err();
    assert!(error.to_string().contains("the backup is of cluster"), "{error}");
}

#[tokio::test]
async fn a_snapshot_of_another_moment_than_the_backup_is_refused() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 100) n");
    let copied = async |name: &str| {
        let copy = site.cluster.folder(name);
        let script = format!("cp -a {} {} && echo {name}", site.cluster.pgdata().display(), copy.display());
        let taken = take(&site.run(), json!({ "argv": ["sh", "-c", script] })).await;
        (taken.unwrap_or_else(|error| panic!("{:#?}", error.info())).backup, copy.join("data"))
    };
    let (old, old_data) = copied("old").await;
    site.cluster.sql("UPDATE t SET n = n + 1; CHECKPOINT");
    let (new, new_data) = copied("new").await;
    // No checkpoint tells this one from the second.
    let late = site.cluster.folder("late");
    done("sh", &[Path::new("-c"), Path::new("cp -a $0 $1; test -d $1/data"), &site.cluster.pgdata(), &late]);
    let run = site.run();
    let refused = async |backup: &BackupHandle, from: &Path, why: &str| {
        let with = json!({ "database": "main", "backup": backup, "from": from });
        let params: RestoreSnapshotParams = serde_json::from_value(with.clone()).unwrap();
        let checked = RestoreSnapshot.check(&params, &run.check_context()).await;
        assert!(checked.as_ref().is_err_and(|error| error.to_string().contains(why)), "{checked:?}");
        let error = restore(&run, with).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        error.info().help.clone().unwrap()
    };
    let help = refused(&new, &old_data, "was taken before the backup began").await;
    assert!(help.contains("which is `new`"), "{help}");
    refused(&old, &new_data, "was taken after the backup ended").await;
    refused(&new, &late.join("data"), "which the server writes at the end").await;
    for (backup, from) in [(&old, &old_data), (&new, &new_data)] {
        let params = serde_json::from_value(json!({ "database": "main", "backup": backup, "from": from })).unwrap();
        assert!(!RestoreSnapshot.check(&params, &run.check_context()).await.unwrap().refused());
    }
}

#[tokio::test]
async fn a_snapshot_whose_pg_wal_lay_elsewhere_comes_back_where_that_is_not() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let copy = site.cluster.folder("snapshot");
    let (data, to) = (site.cluster.pgdata(), copy.join("data"));
    let script = format!("cp -a {} {} && echo here", data.display(), copy.display());
    let run = site.run();
    let backup = take(&run, json!({ "argv": ["sh", "-c", script] })).await.unwrap().backup;
    fs::remove_dir_all(to.join("pg_wal")).unwrap();
    std::os::unix::fs::symlink("/nowhere/wal", to.join("pg_wal")).unwrap();
    std::os::unix::fs::symlink("/nowhere/log", to.join("log")).unwrap();
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.archive();
    let with = json!({ "database": "main", "backup": backup, "from": to });
    let params: RestoreSnapshotParams = serde_json::from_value(with.clone()).unwrap();
    let found = RestoreSnapshot.check(&params, &run.check_context()).await.unwrap();
    assert!(!found.refused() && format!("{found:?}").contains("are not copied: `log`"), "{found:?}");
    site.cluster.kill();
    let staged = restore(&run, with).await.unwrap_or_else(|error| panic!("{:#?}", error.info())).staged;
    assert!(staged.dir.join("pg_wal").is_dir(), "{}", site.said());
    run.recover(&staged, json!({})).await;
    assert_eq!(rows(&site), "1,2", "{}", site.said());
}

/// Runs a program that must succeed.
fn done(program: &str, args: &[&Path]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("`{program}` is missing: run `.ci/setup btrfs` ({error})"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What keeps us from a disk of our own: only root may have one, and not in every container.
fn no_disks() -> Option<&'static str> {
    let has = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
    (!has).then_some("a volume to take a snapshot of wants root and `/dev/loop-control`")
}

#[tokio::test]
async fn a_snapshot_of_the_volume_under_a_running_server_comes_back() {
    if left_out("RUNBOOK_TEST_NO_MOUNTS", no_disks()) {
        // Then a copy is all that can be had.
        return comes_back(Site::new()).await;
    }
    if !mount::mine("postgres_snapshot::a_snapshot_of_the_volume_under_a_running_server_comes_back") {
        return;
    }
    let site = Site::new();
    site.cluster.stop("fast");
    let (pgdata, disk, image) =
        (site.cluster.pgdata(), site.cluster.dir().join("disk"), site.cluster.dir().join("image"));
    fs::create_dir(&disk).unwrap();
    fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
    done("mkfs.btrfs", &[Path::new("-q"), &image]);
    let whole = mount::image(&image, &disk);
    done("btrfs", &[Path::new("subvolume"), Path::new("create"), &disk.join("data")]);
    let content: Vec<_> = fs::read_dir(&pgdata).unwrap().flatten().map(|entry| entry.path()).collect();
    for path in &content {
        done("mv", &[path, &disk.join("data")]);
    }
    site.cluster.give(&disk.join("data"));
    fs::set_permissions(disk.join("data"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let live = mount::bind_of(&disk.join("data"), &pgdata);
    site.cluster.up();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let snapshot = disk.join("snapshot");
    let argv = json!(["btrfs", "subvolume", "snapshot", "-r", disk.join("data"), snapshot]);
    let run = site.run();
    let taken = take(&run, json!({ "argv": argv, "snapshot": snapshot })).await;
    let taken = taken.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.archive();
    site.cluster.sql("INSERT INTO t VALUES (3)");
    site.cluster.kill();
    let staged = restore(&run, json!({ "backup": taken.backup, "from": snapshot })).await;
    let staged = staged.unwrap_or_else(|error| panic!("{:#?}", error.info())).staged;
    run.recover(&staged, json!({})).await;
    assert_eq!(rows(&site), "1,2,3", "{}", site.said());
    site.cluster.stop("fast");
    drop((live, whole));
}

#[test]
fn the_examples_take_a_snapshot_and_bring_it_back_in_a_drill_and_for_real() {
    let production = Production::new();
    let (site, cli) = (&production.site, &production.cli);
    let copy = site.cluster.folder("snapshot");
    let (data, to) = (site.cluster.pgdata(), copy.join("data"));
    let program = cli.file(
        "freeze",
        &format!("#!/bin/sh\nset -e\ncp -a {} {}\necho {}\n", data.display(), to.display(), to.display()),
    );
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for name in ["volume-snapshot.yaml", "volume-restore.yaml"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)).unwrap();
        cli.file(name, &text);
    }
    let program = format!("program={}", program.display());
    cli.run(&["run", "volume-snapshot.yaml", "-p", "database=main", "-p", &program, "--confirm", "production"]).ends(0);
    fs::remove_dir_all(cli.state()).unwrap();
    site.cluster.sql("DELETE FROM t WHERE n > 990; INSERT INTO t SELECT generate_series(2001, 2010)");
    site.archive();
    let from = format!("from={}", to.display());
    let back = ["volume-restore.yaml", "-p", "database=main", "-p", &from];
    cli.run(&[&["drill"][..], &back].concat()).ends(0);
    production.nothing_is_left();
    let sum = "SELECT count(*) || ' ' || sum(n) FROM t";
    let before = site.cluster.sql(sum);
    cli.run(&[&["run"][..], &back, &["--confirm", "production"]].concat()).ends(0);
    assert_eq!(site.cluster.sql(sum), before);
}

#[tokio::test]
async fn a_snapshot_is_a_backup_only_when_all_of_its_wal_is_archived_and_not_the_last_segment_alone() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let (store, aside) = (site.depot.root.clone(), site.cluster.folder("aside"));
    let psql = format!(
        "{} -h {} -p {} -U postgres -XAtq -c",
        site.cluster.bin().join("psql").display(),
        site.cluster.socket_dir().display(),
        site.cluster.port()
    );
    let find = format!("find {} -name \"$first*\" ! -name '.*' ! -name '*.backup'", store.join("main/wal").display());
    let script = format!(
        "set -e; {psql} 'INSERT INTO t VALUES (2)'; first=$({psql} 'SELECT pg_walfile_name(pg_switch_wal())'); \
         until test -n \"$({psql} \"SELECT 1 FROM pg_stat_archiver WHERE last_archived_wal >= '$first'\")\"; do :; done; \
         mv $({find}) {aside}/; {find} >&2; {psql} 'INSERT INTO t VALUES (3)'; echo somewhere",
        aside = aside.display()
    );
    let watch = {
        let (log, store, aside) = (site.cluster.pgdata().join("pg_wal/archive_status"), store.clone(), aside.clone());
        move || {
            let archived = || {
                let names = fs::read_dir(&log).unwrap().flatten().map(|entry| entry.file_name());
                names.filter(|name| name.to_string_lossy().ends_with(".backup.done")).count()
            };
            until("the server has archived the backup's last file", || archived() > 0);
            let begin = runbook::base::clock::monotonic();
            let manifest = || listing(&store.join("main")).iter().any(|line| line.contains("/manifest.json "));
            while begin.elapsed().as_millis() < 1500 {
                assert!(!manifest(), "a backup whose first segment is not archived");
                std::thread::yield_now();
            }
            let held = fs::read_dir(&aside).unwrap().flatten().next().expect("the first segment").path();
            let name = held.file_name().unwrap().to_string_lossy().into_owned();
            let folder = fs::read_dir(store.join("main/wal")).unwrap().flatten().find(|entry| entry.path().is_dir());
            let folder = folder.unwrap().path().join(&name[..8]);
            fs::rename(&held, folder.join(&name)).unwrap();
        }
    };
    let watching = tokio::task::spawn_blocking(watch);
    let taken = take(&site.run(), json!({ "argv": ["sh", "-c", script] })).await;
    watching.await.unwrap();
    taken.unwrap_or_else(|error| panic!("{:#?}", error.info()));
}
