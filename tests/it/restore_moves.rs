//! Folders that a restore cannot move by themselves: refused while all is in place, with a way out that leads on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use runbook::action::{Action as _, ActionError, BackupHandle};
use runbook::actions::postgres::{RestoreBase, RestoreBaseOutput, RestoreBaseParams};
use serde_json::json;

use crate::support::mount;
use crate::support::production::Production;
use crate::support::recovery::{Run, Site};

const LOSS: [&str; 8] =
    ["run", "full-db-loss", "-p", "database=main", "-p", "incident_at=now", "--confirm", "production"];

fn params(backup: &BackupHandle, existing: &str) -> RestoreBaseParams {
    serde_json::from_value(json!({ "database": "main", "backup": backup, "existing": existing })).unwrap()
}

async fn restore(run: &Run<'_>, backup: &BackupHandle, existing: &str) -> Result<RestoreBaseOutput, ActionError> {
    RestoreBase.run(&params(backup, existing), &run.context()).await
}

/// What the check of a restore says, which must refuse it.
async fn refused(run: &Run<'_>, backup: &BackupHandle, existing: &str) -> String {
    let found = RestoreBase.check(&params(backup, existing), &run.check_context()).await.unwrap();
    assert!(found.refused(), "{found:?}");
    format!("{found:?}")
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(format!("{}/.", from.display())).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_tablespace_in_the_data_directory_stops_no_server_and_is_restored_to_a_place_of_its_own() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let with_tablespace = |name: &str| {
        let place = cluster.folder(&format!("{}/{name}_dir", cluster.pgdata().file_name().unwrap().display()));
        cluster.sql(&format!("CREATE TABLESPACE {name} LOCATION '{}'", place.display()));
        cluster.sql(&format!("CREATE TABLE of_{name} TABLESPACE {name} AS SELECT 7 AS n"));
    };
    with_tablespace("inn");
    let way_out = "tablespaces: { inn: /PATH }";
    cli.run(&["run", "base-backup", "-p", "database=main", "--confirm", "production"])
        .ends(0)
        .says("a restore over the live data would be refused");
    // No backup knows it: what was written to it is replayed.
    with_tablespace("late");
    production.site.archive();
    let serving = || cluster.sql("SELECT pg_postmaster_start_time(), count(*) FROM of_inn");
    let before = serving();
    cli.run(&LOSS).ends(4).says(way_out);
    assert_eq!(serving(), before);
    let drill = ["dry-run", "full-db-loss", "-e", "drill", "-p", "database=main", "-p", "incident_at=now"];
    cli.run(&drill).prints("over the live data this restore would be refused");

    let place = cluster.folder("apart");
    let mapped = format!("store: primary, tablespaces: {{ inn: {} }},", place.display());
    cli.file("inventory.yaml", &cli.read("inventory.yaml").replace("store: primary,", &mapped));
    cli.run(&LOSS).ends(0);
    let location = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'inn'";
    assert_eq!(cluster.sql(location), place.display().to_string());
    assert_eq!(cluster.sql("SELECT sum(n) FROM (TABLE of_inn UNION ALL TABLE of_late) AS all_of_them"), "14");
    let beside = fs::read_dir(cluster.dir()).unwrap().flatten().map(|entry| entry.path());
    let begins = format!("{}.runbook-old-", cluster.pgdata().display());
    let kept = beside.into_iter().find(|path| path.display().to_string().starts_with(&begins)).unwrap();
    for name in ["inn_dir", "late_dir"] {
        assert!(fs::read_dir(kept.join(name)).unwrap().next().is_some(), "the old data is whole");
    }
}

#[tokio::test]
async fn a_file_system_mounted_in_the_data_directory_is_refused_and_restored_as_a_link() {
    if !mount::mine("restore_moves::a_file_system_mounted_in_the_data_directory_is_refused_and_restored_as_a_link") {
        return;
    }
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let backup = site.run().base_backup().await.backup;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.cluster.stop("immediate");
    let pgdata = site.cluster.pgdata();
    let run = site.run();
    fs::create_dir(pgdata.join("log")).unwrap();
    let log = mount::bind(&pgdata.join("log"));
    for existing in ["keep_beside", "delta", "replace"] {
        let said = refused(&run, &backup, existing).await;
        assert!(said.contains("/log`") && said.contains("umount"), "{said}");
        let error = restore(&run, &backup, existing).await.unwrap_err();
        assert!(error.to_string().contains("a file system is mounted"), "{error}");
    }
    assert!(pgdata.join("PG_VERSION").exists() && !pgdata.join("runbook-unusable.txt").exists());
    drop(log);

    let (wal, place) = (pgdata.join("pg_wal"), site.cluster.folder("wal_disk"));
    let disk = mount::sized(&place, "1g");
    copy(&wal, &place);
    let mounted = mount::bind_of(&place, &wal);
    let said = refused(&run, &backup, "keep_beside").await;
    assert!(said.contains("/pg_wal`") && said.contains("ln -s"), "{said}");
    // It is mounted when all is staged already.
    drop(mounted);
    let staged = restore(&run, &backup, "keep_beside").await.unwrap().staged;
    let mounted = mount::bind_of(&place, &wal);
    let error = run.try_recover(&staged, json!({})).await.unwrap_err();
    assert!(error.to_string().contains("a file system is mounted"), "{error}");
    assert!(pgdata.join("PG_VERSION").exists());
    // What the message says to do.
    drop(mounted);
    fs::remove_dir_all(&wal).unwrap();
    symlink(&place, &wal).unwrap();
    let run = site.run();
    let staged = restore(&run, &backup, "keep_beside").await.unwrap().staged;
    run.recover(&staged, json!({})).await;
    assert_eq!(site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), "1,2");
    assert_eq!(fs::read_link(&wal).unwrap(), place);
    site.cluster.stop("fast");
    drop(disk);
}

#[tokio::test]
async fn a_delta_writes_a_tablespace_anew_that_is_restored_to_another_disk() {
    if !mount::mine("restore_moves::a_delta_writes_a_tablespace_anew_that_is_restored_to_another_disk") {
        return;
    }
    let site = Site::new();
    let (old, disk) = (site.cluster.folder("space"), site.cluster.folder("disk"));
    let _mount = mount::memory(&disk);
    site.cluster.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", old.display()));
    site.cluster.sql("CREATE TABLE t TABLESPACE space AS SELECT 1 AS n");
    let backup = site.run().base_backup().await.backup;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.cluster.stop("immediate");
    site.tablespaces.lock().unwrap().insert("space".to_owned(), disk.join("space"));
    let run = site.run();
    let staged = restore(&run, &backup, "delta").await.unwrap().staged;
    run.recover(&staged, json!({})).await;
    assert_eq!(site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), "1,2");
    assert!(disk.join("space").exists() && fs::read_dir(&old).is_ok_and(|mut names| names.next().is_none()));
}

#[tokio::test]
async fn links_to_a_tablespace_and_to_the_wal_stay_and_what_they_lead_to_is_restored_on_its_own_disk() {
    if !mount::mine(
        "restore_moves::links_to_a_tablespace_and_to_the_wal_stay_and_what_they_lead_to_is_restored_on_its_own_disk",
    ) {
        return;
    }
    let site = Site::new();
    site.cluster.stop("fast");
    let (pgdata, disk, place) = (site.cluster.pgdata(), site.cluster.folder("disk"), site.cluster.folder("linked"));
    let _mount = mount::sized(&disk, "1g");
    let (wal, space, link) = (site.cluster.folder("disk/wal"), site.cluster.folder("disk/space"), place.join("space"));
    copy(&pgdata.join("pg_wal"), &wal);
    fs::remove_dir_all(pgdata.join("pg_wal")).unwrap();
    symlink("../disk/wal", pgdata.join("pg_wal")).unwrap();
    symlink(&space, &link).unwrap();
    site.cluster.up();
    site.cluster.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", link.display()));
    site.cluster.sql("CREATE TABLE t TABLESPACE space AS SELECT 1 AS n");
    let backup = site.run().base_backup().await.backup;
    for (existing, n) in [("keep_beside", 2), ("delta", 3)] {
        site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
        site.cluster.stop("immediate");
        let run = site.run();
        let staged = restore(&run, &backup, existing).await.unwrap().staged;
        run.recover(&staged, json!({})).await;
        assert_eq!(site.cluster.sql("SELECT count(*), max(n) FROM t"), format!("{n}|{n}"), "{existing}");
        let location = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'space'";
        assert_eq!(site.cluster.sql(location), link.display().to_string());
        assert_eq!(fs::read_link(&link).unwrap(), space);
        assert_eq!(fs::read_link(pgdata.join("pg_wal")).unwrap(), Path::new("../disk/wal"));
        for folder in [&wal, &space] {
            assert!(folder.is_dir() && !folder.is_symlink(), "{}", folder.display());
            let kept = format!("{}.runbook-old-{}", folder.display(), run.id);
            assert!(Path::new(&kept).is_dir(), "{kept}");
        }
    }
}
