//! A backup that went to two stores and is damaged in the first: a restore takes the whole copy, not an older backup.

use std::fs;
use std::path::{Path, PathBuf};

use runbook::action::{Action as _, BackupHandle};
use runbook::actions::backup::{Find, FindOutput};
use runbook::actions::postgres::VerifyBackup;
use runbook::event::ErrorClass;
use runbook::language::inventory::StoreEntry;
use serde_json::{Value, json};

use crate::support::recovery::{Run, Site};

/// A cluster whose backups go to `primary` and `second`.
fn site() -> (Site, PathBuf) {
    let site = Site::new();
    let folder = site.cluster.folder("second");
    let entry = StoreEntry { url: format!("file://{}", folder.display()), ..StoreEntry::default() };
    site.beside.lock().unwrap().insert("second".to_owned(), entry);
    site.backup_stores.lock().unwrap().push("second".to_owned());
    site.cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n");
    (site, folder)
}

/// Flips one byte in the middle of the data that a store has of a backup.
fn damage(root: &Path, backup: &BackupHandle) {
    let folder = root.join(format!("main/base/{}", backup.id));
    let objects = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let data = objects.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("base.tar"));
    let data: Vec<PathBuf> = data.collect();
    assert_eq!(data.len(), 1, "{data:?}");
    let mut bytes = fs::read(&data[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&data[0], bytes).unwrap();
}

async fn found(run: &Run<'_>, with: Value) -> FindOutput {
    let params = serde_json::from_value(with).unwrap();
    Find.run(&params, &run.context()).await.unwrap_or_else(|error| panic!("{:#?}", error.info()))
}

#[tokio::test]
async fn a_restore_goes_on_with_the_other_stores_copy_when_its_own_turns_out_to_be_damaged() {
    let (site, _) = site();
    let run = site.run();
    let backup = run.base_backup().await.backup;
    assert_eq!(backup.store, "primary");
    site.cluster.sql("INSERT INTO t SELECT generate_series(1001, 1500)");
    site.archive();
    damage(&site.depot.root, &backup);
    site.cluster.stop("immediate");
    let staged = run.stage(&backup).await;
    assert_eq!((staged.backup.store.as_str(), &staged.backup.id), ("second", &backup.id));
    let said = site.said();
    assert!(said.contains("its copy in store `second` is tried") && said.contains("is damaged"), "{said}");
    run.recover(&staged, json!({})).await;
    assert_eq!(site.cluster.sql("SELECT count(*), sum(n) FROM t"), "1500|1125750");
}

#[tokio::test]
async fn a_restore_fails_with_its_own_copys_damage_when_no_other_store_has_the_backup_whole() {
    let (site, second) = site();
    let run = site.run();
    let backup = run.base_backup().await.backup;
    damage(&site.depot.root, &backup);
    damage(&second, &backup);
    let params = serde_json::from_value(json!({ "database": "main", "backup": backup })).unwrap();
    let error = runbook::actions::postgres::RestoreBase.run(&params, &run.context()).await.unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert!(site.said().contains("the copy in store `second` cannot be restored either"), "{}", site.said());
}

#[tokio::test]
async fn a_store_that_gives_no_answer_may_have_the_whole_copy_so_the_step_asks_again() {
    let (site, _) = site();
    let run = site.run();
    let backup = run.base_backup().await.backup;
    damage(&site.depot.root, &backup);
    // The other one lies on a machine where nobody answers now.
    let silent = StoreEntry { url: "sftp://nobody@127.0.0.1:1/nowhere".to_owned(), ..StoreEntry::default() };
    let known = site.beside.lock().unwrap().insert("second".to_owned(), silent).unwrap();
    let params = serde_json::from_value(json!({ "database": "main", "backup": backup })).unwrap();
    let error = runbook::actions::postgres::RestoreBase.run(&params, &site.run().context()).await.unwrap_err();
    assert_eq!(error.info().class, ErrorClass::Retryable, "{:#?}", error.info());
    let words = error.in_full();
    assert!(
        words.contains("whether store `second` has a whole copy is not known") && words.contains("is damaged"),
        "{words}"
    );
    site.beside.lock().unwrap().insert("second".to_owned(), known);
    let staged = site.run().stage(&backup).await;
    assert_eq!(staged.backup.store, "second");
}

#[tokio::test]
async fn what_stands_against_any_copy_is_no_damage_of_the_first() {
    let (site, _) = site();
    let run = site.run();
    let backup = run.base_backup().await.backup;
    let params = json!({ "database": "main", "backup": backup, "existing": "replace" });
    let params = serde_json::from_value(params).unwrap();
    // Its server runs.
    runbook::actions::postgres::RestoreBase.run(&params, &run.context()).await.unwrap_err();
    assert!(!site.said().contains("its copy in store"), "{}", site.said());
}

#[tokio::test]
async fn a_backup_known_to_be_damaged_in_one_store_is_taken_from_the_other_and_no_older_one() {
    let (site, _) = site();
    let run = site.run();
    let older = run.base_backup().await.backup;
    site.archive();
    let next = site.run();
    let newest = next.base_backup().await.backup;
    assert_ne!(older.id, newest.id);
    damage(&site.depot.root, &newest);
    let params = json!({ "database": "main", "backup": newest, "store": "primary" });
    let params = serde_json::from_value(params).unwrap();
    VerifyBackup.run(&params, &next.context()).await.expect_err("it is damaged");
    for with in [
        json!({ "database": "main" }),
        json!({ "database": "main", "id": newest.id }),
        json!({ "database": "main", "leads_to": { "timeline": 1 } }),
    ] {
        let chosen = found(&next, with.clone()).await;
        assert_eq!((chosen.id.as_str(), chosen.backup.store.as_str()), (newest.id.as_str(), "second"), "{with}");
    }
    assert!(site.said().contains("its copy in store `second` is taken"), "{}", site.said());
    let params = serde_json::from_value(json!({ "database": "main" })).unwrap();
    let findings = Find.check(&params, &next.check_context()).await.unwrap();
    assert!(!findings.refused() && format!("{:?}", findings.0).contains("second"), "{:?}", findings.0);
    // Who names a store gets what that store has.
    let own = found(&next, json!({ "database": "main", "store": "primary" })).await;
    assert_eq!((own.id, own.backup.store.as_str()), (older.id, "primary"));
}
