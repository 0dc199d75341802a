//! What PostgreSQL leaves out of every base backup: links in the data directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use runbook::action::{Action as _, ActionError, BackupHandle, Findings};
use runbook::actions::postgres::{BaseBackup, BaseBackupOutput, BaseBackupParams, RestoreBase, RestoreBaseParams};
use serde_json::{Value, json};

use crate::support::recovery::Site;

async fn take(site: &Site) -> Result<BaseBackupOutput, ActionError> {
    let params: BaseBackupParams = serde_json::from_value(json!({ "database": "main" })).unwrap();
    BaseBackup.run(&params, &site.run().context()).await
}

/// Moves a file away and leaves a link in its place.
fn move_behind_link(file: &Path, folder: &Path) {
    let place = folder.join(file.file_name().unwrap());
    fs::rename(file, &place).unwrap();
    symlink(&place, file).unwrap();
}

#[tokio::test]
async fn a_relation_behind_a_link_is_named_and_there_is_no_backup_without_it() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE big AS SELECT generate_series(1, 1000) AS n");
    let own = site.cluster.sql("SELECT pg_relation_filepath('big')");
    site.cluster.stop("fast");
    move_behind_link(&site.cluster.pgdata().join(&own), &site.cluster.folder("disk2"));
    site.cluster.up();
    assert_eq!(site.cluster.sql("SELECT count(*) FROM big"), "1000", "the server follows the link");
    let refused = take(&site).await.unwrap_err();
    assert!(refused.to_string().contains(&own), "{refused}");
    assert!(refused.info().help.as_deref().is_some_and(|help| help.contains("TABLESPACE")), "{refused:?}");
    assert!(site.said().contains("the server warns: "), "{}", site.said());
    let committed = site.stored().into_iter().any(|name| name == "manifest.json");
    assert!(!committed, "a backup without the relation was committed");
}

/// A plain file, told from a link to one.
fn plain(path: &Path) -> Option<String> {
    let is_plain = fs::symlink_metadata(path).ok()?.is_file();
    is_plain.then(|| fs::read_to_string(path).unwrap())
}

#[tokio::test]
async fn configuration_behind_links_comes_back_within_the_data_directory() {
    let site = Site::new();
    let (pgdata, etc) = (site.cluster.pgdata(), site.cluster.folder("puppet"));
    site.cluster.stop("fast");
    fs::create_dir(etc.join("conf.d")).unwrap();
    fs::write(etc.join("conf.d/own.conf"), "work_mem = '7MB'\n").unwrap();
    symlink(etc.join("conf.d"), pgdata.join("conf.d")).unwrap();
    fs::write(etc.join("local.conf"), "maintenance_work_mem = '77MB'\n").unwrap();
    symlink(etc.join("local.conf"), pgdata.join("local.conf")).unwrap();
    let conf = fs::read_to_string(pgdata.join("postgresql.conf")).unwrap();
    fs::write(pgdata.join("postgresql.conf"), conf + "include_dir 'conf.d'\ninclude_if_exists 'local.conf'\n").unwrap();
    for name in ["postgresql.conf", "pg_hba.conf"] {
        move_behind_link(&pgdata.join(name), &etc);
    }
    site.cluster.up();
    let run = site.run();
    let backup = run.base_backup().await.backup;
    // Whoever wrote them is gone as well: the links of the old data directory lead nowhere.
    site.cluster.stop("fast");
    fs::remove_dir_all(&etc).unwrap();
    let staged = run.stage(&backup).await;
    for name in ["postgresql.conf", "pg_hba.conf", "local.conf", "conf.d/own.conf"] {
        assert!(plain(&staged.dir.join(name)).is_some(), "{name}: {}", site.said());
    }
    run.recover(&staged, json!({})).await;
    assert_eq!(site.cluster.sql("SHOW work_mem") + &site.cluster.sql("SHOW maintenance_work_mem"), "7MB77MB");
    let (script, target) =
        (site.depot.root.join(format!("main/base/{}/restore.sh", backup.id)), site.cluster.dir().join("by-hand"));
    let by_hand = Command::new("sh").arg(script).arg(&target).arg("--other-machine").output().unwrap();
    assert!(by_hand.status.success(), "{}", String::from_utf8_lossy(&by_hand.stderr));
    assert!(plain(&target.join("data/pg_hba.conf")).is_some() && plain(&target.join("data/conf.d/own.conf")).is_some());
}

async fn check(site: &Site, backup: &BackupHandle) -> Findings {
    let params: RestoreBaseParams = serde_json::from_value(json!({ "database": "main", "backup": backup })).unwrap();
    RestoreBase.check(&params, &site.run().check_context()).await.unwrap()
}

#[tokio::test]
async fn a_backup_whose_server_would_not_start_is_refused_before_anything_stops() {
    let site = Site::new();
    let hba = site.cluster.pgdata().join("pg_hba.conf");
    let content = fs::read_to_string(&hba).unwrap();
    // The server read it before.
    fs::remove_file(&hba).unwrap();
    symlink("/nowhere/pg_hba.conf", &hba).unwrap();
    let backup = take(&site).await.unwrap().backup;
    let manifest: Value = serde_json::from_str(&site.manifests()).unwrap();
    assert_eq!(manifest["postgres"]["configuration"]["missing"], json!(["pg_hba.conf"]), "{}", site.said());
    assert!(site.said().contains("warning: `pg_hba.conf`"), "{}", site.said());
    let refused = check(&site, &backup).await;
    let said = format!("{refused:?}");
    assert!(refused.refused() && said.contains("no `pg_hba.conf`") && said.contains(hba.to_str().unwrap()), "{said}");
    // The way out that it names.
    fs::remove_file(&hba).unwrap();
    fs::write(&hba, &content).unwrap();
    site.cluster.give(&hba);
    let lent = check(&site, &backup).await;
    assert!(!lent.refused() && format!("{lent:?}").contains("taken over"), "{lent:?}");
    let staged = site.run().stage(&backup).await;
    assert_eq!(plain(&staged.dir.join("pg_hba.conf")), Some(content));
    let drilled = check(&site.drill(), &backup).await;
    assert!(drilled.refused(), "a drill brings its own, the real server would not: {drilled:?}");
}
