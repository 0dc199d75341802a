//! A server that was rolled back to a snapshot on its timeline, and goes on under the prefix that it archived into before: two
//! histories under the same names.

use std::fs;
use std::path::Path;
use std::process::Command;

use runbook::action::{Action as _, ActionError, BackupHandle};
use runbook::actions::postgres::{BaseBackup, BaseBackupOutput, BaseBackupParams, RestoreBase, RestoreBaseParams};
use serde_json::json;

use crate::support::recovery::{Run, Site};

async fn take(run: &Run<'_>) -> Result<BaseBackupOutput, ActionError> {
    let params: BaseBackupParams = serde_json::from_value(json!({ "database": "main" })).unwrap();
    BaseBackup.run(&params, &run.context()).await
}

fn of(backup: &BackupHandle) -> RestoreBaseParams {
    serde_json::from_value(json!({ "database": "main", "backup": backup })).unwrap()
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// A cluster that archived a history of its own and was rolled back to before it, and the backup of that history.
async fn rolled_back() -> (Site, BackupHandle) {
    let site = Site::new();
    let (cluster, pgdata) = (&site.cluster, site.cluster.pgdata());
    let snapshot = cluster.dir().join("snapshot");
    cluster.sql("CREATE TABLE acct AS SELECT id, 'base' AS v FROM generate_series(1, 1000) id");
    site.archive();
    cluster.stop("fast");
    copy(&pgdata, &snapshot);
    cluster.up();
    cluster.sql("UPDATE acct SET v = 'A' WHERE id <= 500");
    let backup = site.run().base_backup().await.backup;
    // Further than the other history will come.
    for _ in 0..4 {
        cluster.sql("UPDATE acct SET v = 'A2' WHERE id > 500");
        site.archive();
    }
    cluster.stop("fast");
    fs::remove_dir_all(&pgdata).unwrap();
    copy(&snapshot, &pgdata);
    cluster.up();
    cluster.sql("UPDATE acct SET v = 'B' WHERE id <= 500");
    (site, backup)
}

#[tokio::test]
async fn a_server_that_was_rolled_back_gets_no_backup_beside_the_wal_of_its_other_history_and_an_older_one_is_not_restored()
 {
    let (site, first) = rolled_back().await;
    let error = take(&site.run()).await.unwrap_err();
    let (told, help) = (error.to_string(), error.info().help.clone().unwrap_or_default());
    assert!(told.contains("another server has archived `00000001") && told.contains("prefix `main`"), "{told}");
    assert!(help.contains("`prefix` of its own") && help.contains("setup-archiving"), "{help}");
    assert_eq!(site.manifests().matches("\"id\"").count(), 1, "it is no backup:\n{}", site.manifests());
    // A backup as an earlier version kept it: nobody looked at what is archived.
    let (wal, aside) = (site.depot.root.join("main/wal"), site.depot.root.join("aside"));
    fs::rename(&wal, &aside).unwrap();
    let second = take(&site.run()).await.unwrap().backup;
    site.cluster.stop("fast");
    fs::remove_dir_all(&wal).unwrap();
    fs::rename(&aside, &wal).unwrap();
    let run = site.run();
    let findings = RestoreBase.check(&of(&second), &run.check_context()).await.unwrap();
    let found = format!("{findings:?}");
    assert!(findings.refused() && found.contains("is of another history than the archive"), "{found}");
    assert!(found.contains("restore.sh") && found.contains("ended before the two parted"), "{found}");
    let error = RestoreBase.run(&of(&second), &run.context()).await.unwrap_err();
    assert!(error.to_string().contains("is of another history than the archive"), "{error}");
    let beside = fs::read_dir(site.cluster.pgdata().parent().unwrap()).unwrap().flatten();
    let mut names = beside.map(|entry| entry.file_name().to_string_lossy().into_owned());
    assert!(!names.any(|name| name.contains("runbook-")), "nothing was staged");
    let findings = RestoreBase.check(&of(&first), &run.check_context()).await.unwrap();
    assert!(!findings.refused(), "the history that is archived is restored as before: {findings:?}");
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let staged = run.stage(&first).await;
    run.recover(&staged, json!({})).await;
    assert_eq!(
        site.cluster.sql("SELECT v, count(*) FROM acct GROUP BY 1 ORDER BY 1"),
        "A|500\nA2|500",
        "{}",
        site.said()
    );
}
