//! Incremental base backups, from PostgreSQL 17 on: what they hold, what they rest on, how they come back.

use std::fs;

use runbook::action::{Action as _, ActionError, BackupHandle};
use runbook::actions::postgres::{BaseBackup, BaseBackupOutput, RestoreBase, RestoreBaseOutput, VerifyBackup};
use runbook::catalog::{self, Query};
use runbook::language::inventory::{Compression, CompressionFormat, Database, StoreEntry};
use runbook::store::Opening;
use serde_json::{Value, json};

use crate::support::cli::Cli;
use crate::support::postgres::programs_of;
use crate::support::recovery::{Depot, Run, Site};

async fn take(run: &Run<'_>, with: Value) -> Result<BaseBackupOutput, ActionError> {
    let mut all = json!({ "database": "main" });
    all.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    BaseBackup.run(&serde_json::from_value(all).unwrap(), &run.context()).await
}

async fn increment(site: &Site) -> BaseBackupOutput {
    let taken = take(&site.run(), json!({ "incremental": true })).await;
    taken.unwrap_or_else(|error| panic!("{:#?}", error.info()))
}

async fn restore(run: &Run<'_>, backup: &BackupHandle, existing: &str) -> Result<RestoreBaseOutput, ActionError> {
    let params = json!({ "database": "main", "backup": backup, "existing": existing });
    RestoreBase.run(&serde_json::from_value(params).unwrap(), &run.context()).await
}

/// A server that summarizes its WAL.
fn bare() -> Site {
    Site::by(programs_of(18), Depot::default(), &[("summarize_wal", "on"), ("wal_level", "replica")])
}

/// The same with a big table and one in a tablespace.
fn summarizing() -> Site {
    let site = bare();
    let place = site.cluster.folder("space");
    site.cluster.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", place.display()));
    site.cluster.sql("CREATE TABLE big AS SELECT n, repeat(n::text, 50) AS text FROM generate_series(1, 40000) AS n");
    site.cluster.sql("CREATE TABLE t(n int) TABLESPACE space; INSERT INTO t SELECT generate_series(1, 5000)");
    site
}

fn rows(site: &Site) -> String {
    site.cluster.sql("SELECT count(*) || ' ' || sum(n) FROM t")
}

#[tokio::test]
async fn a_chain_of_increments_comes_back_with_the_wal_after_it() {
    let site = summarizing();
    let full = take(&site.run(), json!({ "incremental": true })).await.unwrap();
    assert_eq!(full.parent, None);
    assert!(site.said().contains("no whole base backup to rest on"), "{}", site.said());
    site.cluster.sql("INSERT INTO t VALUES (10000); UPDATE big SET text = 'first' WHERE n = 7");
    let first = increment(&site).await;
    assert_eq!(first.parent, Some(full.backup.id.clone()));
    assert!(first.size_bytes * 3 < full.size_bytes, "{} of {}", first.size_bytes, full.size_bytes);
    // A whole table goes, another one comes.
    site.cluster.sql("CREATE TABLE later AS SELECT generate_series(1, 100) AS n; DROP TABLE big; CHECKPOINT");
    site.cluster.sql("INSERT INTO t VALUES (20000)");
    let second = increment(&site).await;
    assert_eq!(second.parent, Some(first.backup.id.clone()));
    site.cluster.sql("INSERT INTO t VALUES (30000)");
    site.archive();
    site.cluster.sql("INSERT INTO t VALUES (40000)");
    site.cluster.kill();
    for (backup, existing) in [(&second.backup, "keep_beside"), (&first.backup, "replace"), (&full.backup, "delta")] {
        let run = site.run();
        run.stop().await;
        let staged = restore(&run, backup, existing).await.unwrap_or_else(|error| panic!("{:#?}", error.info())).staged;
        let beside: Vec<_> =
            fs::read_dir(site.cluster.dir()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(!beside.iter().any(|name| name.to_string_lossy().contains(".link-")), "{beside:?}");
        run.recover(&staged, json!({})).await;
        // 5000 rows 1..5000, and what came later: the last one from `pg_wal` alone.
        assert_eq!(rows(&site), "5004 12602500", "{existing}: {}", site.said());
        assert_eq!(site.cluster.sql("SELECT sum(n) FROM later"), "5050");
        assert_eq!(site.cluster.sql("SELECT to_regclass('big') IS NULL"), "t");
    }
}

#[tokio::test]
async fn an_increment_from_a_standby_follows_at_once_on_a_backup_of_an_idle_primary() {
    // Without a tablespace: a standby on the same machine has nowhere to put one.
    let site = bare();
    site.cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 5000) AS n");
    let standby = site.cluster.standby();
    let entry =
        Database { pgdata: standby.pgdata(), port: standby.port(), socket: Some(standby.socket_dir()), ..site.entry() };
    site.others.lock().unwrap().insert("standby".to_owned(), entry);
    let full = take(&site.run(), json!({})).await.unwrap();
    let from_standby = json!({ "incremental": true, "source": "standby" });
    // Not one transaction between them, and no checkpoint.
    let first = take(&site.run(), from_standby.clone()).await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    assert_eq!(first.parent, Some(full.backup.id.clone()));
    assert!(site.said().contains("the primary makes a checkpoint"), "{}", site.said());
    site.cluster.sql("INSERT INTO t VALUES (10000)");
    let second = take(&site.run(), from_standby).await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    assert_eq!(second.parent, Some(first.backup.id.clone()));
    drop(standby);
    site.cluster.sql("INSERT INTO t VALUES (20000)");
    site.archive();
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let run = site.run();
    let staged = run.stage(&second.backup).await;
    run.recover(&staged, json!({})).await;
    assert_eq!(rows(&site), "5002 12532500", "{}", site.said());
}

#[tokio::test]
async fn an_increment_alone_is_what_its_own_end_says_after_its_parts_were_put_together() {
    let site = summarizing();
    take(&site.run(), json!({})).await.unwrap();
    site.cluster.sql("UPDATE big SET text = 'x' WHERE n % 100 = 0; INSERT INTO t VALUES (10000)");
    let backup = increment(&site).await.backup;
    site.cluster.sql("INSERT INTO t VALUES (20000)");
    site.archive();
    let sum = "SELECT md5(string_agg(text, ',' ORDER BY n)) FROM big";
    let before = site.cluster.sql(sum);
    let run = site.run();
    run.stop().await;
    let staged = restore(&run, &backup, "keep_beside").await.unwrap().staged;
    run.recover(&staged, json!({ "target": "immediate" })).await;
    assert_eq!((rows(&site).as_str(), site.cluster.sql(sum)), ("5001 12512500", before));
}

#[tokio::test]
async fn a_lost_link_is_found_before_anything_is_touched() {
    let site = summarizing();
    let full = take(&site.run(), json!({})).await.unwrap().backup;
    site.cluster.sql("INSERT INTO t VALUES (10000)");
    let first = increment(&site).await.backup;
    let second = increment(&site).await.backup;
    let folder = site.depot.root.join(format!("main/base/{}", first.id));
    let aside = site.depot.root.join("aside");
    let reader = Opening::new(&site.depot.entry, "primary", std::sync::Arc::new(site.depot.secrets.clone()));
    let store = reader.open_read().unwrap();
    fs::rename(&folder, &aside).unwrap();
    let verify = |handle: &BackupHandle| {
        serde_json::from_value(json!({ "database": "main", "backup": handle, "record": false })).unwrap()
    };
    let error = VerifyBackup.run(&verify(&second), &site.run().context()).await.unwrap_err();
    assert!(error.to_string().contains(&format!("rests on `{}`, which is not there", first.id)), "{error}");
    let error = restore(&site.run(), &second, "keep_beside").await.unwrap_err();
    assert!(error.to_string().contains("which is not there"), "{error}");
    let params = serde_json::from_value(json!({ "database": "main", "backup": second })).unwrap();
    let found = RestoreBase.check(&params, &site.run().check_context()).await.unwrap();
    assert!(found.refused(), "{found:?}");
    // People who list what there is are told as well.
    let (cli, url) = (Cli::new(), format!("file://{}", site.depot.root.display()));
    let listed = cli.run(&["backups", "list", "--store", &url]).ends(0);
    listed.prints("postgres.base (incr)").prints(&format!("CANNOT BE RESTORED: it rests on `{}`", first.id));
    cli.run(&["backups", "show", &second.id, "--store", &url]).ends(0).prints("which is not there");
    cli.run(&["backups", "verify", &second.id, "--no-record", "--store", &url]).ends(10).prints("it rests on");
    cli.run(&["backups", "verify", &full.id, "--no-record", "--store", &url]).ends(0).prints("holds");
    cli.file(
        "inventory.yaml",
        &format!(
            "version: 1\ndatabases: {{ main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: primary }} }}\n\
             stores: {{ primary: {{ url: \"{url}\" }} }}\nenvironments: {{ production: {{ default: true }} }}\n",
            site.cluster.pgdata().display(),
            site.cluster.port(),
            site.cluster.socket_dir().display(),
            site.cluster.bin().display(),
        ),
    );
    let status = cli.run(&["status", "main"]).ends(2).prints("NOT SOUND; 2 in all, 1 of them NOT SOUND");
    status.prints(&format!("a restore takes {}, ", full.id));
    // What is chosen then, and what the next increment rests on, is the full one.
    let query = Query { source: Some("main".to_owned()), ..Query::default() };
    assert_eq!(catalog::find(&*store, "main", &query).await.unwrap().manifest.id, full.id);
    assert_eq!(increment(&site).await.parent, Some(full.id.clone()));
    fs::rename(&aside, &folder).unwrap();
    VerifyBackup.run(&verify(&second), &site.run().context()).await.unwrap();
    fs::remove_file(fs::read_dir(&folder).unwrap().flatten().find(is_base).unwrap().path()).unwrap();
    let error = restore(&site.run(), &second, "keep_beside").await.unwrap_err();
    assert!(error.to_string().contains("which lacks base.tar"), "{error}");
}

/// A machine that has all programs but the one: whoever takes increments there hears it, and the restore says what to do before
/// anything is touched.
#[tokio::test]
async fn a_machine_that_cannot_put_increments_together_is_told_with_the_package_and_the_full_backup() {
    let site = summarizing();
    let full = take(&site.run(), json!({})).await.unwrap().backup;
    let increment = increment(&site).await.backup;
    let bare = site.cluster.folder("bare");
    for program in fs::read_dir(site.cluster.bin()).unwrap().flatten() {
        if program.file_name() != "pg_combinebackup" {
            std::os::unix::fs::symlink(program.path(), bare.join(program.file_name())).unwrap();
        }
    }
    let mut cx = site.run().check_context();
    let mut inventory = (*cx.about.inventory).clone();
    inventory.databases.get_mut("main").unwrap().bin = Some(bare);
    cx.about.inventory = std::sync::Arc::new(inventory);
    let params = serde_json::from_value(json!({ "database": "main", "incremental": true })).unwrap();
    let found = BaseBackup.check(&params, &cx).await.unwrap();
    let said = serde_json::to_string(&found.0).unwrap();
    assert!(!found.refused() && said.contains("cannot be restored on this machine"), "{said}");
    let params = serde_json::from_value(json!({ "database": "main", "backup": increment })).unwrap();
    let found = RestoreBase.check(&params, &cx).await.unwrap();
    let said = serde_json::to_string(&found.0).unwrap();
    let way = format!("runbook run full-db-loss -p database=main -p backup={}", full.id);
    assert!(found.refused() && said.contains("postgresql-18") && said.contains(&way), "{said}");
}

fn is_base(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with("base.tar")
}

#[tokio::test]
async fn a_server_that_cannot_take_increments_is_refused_by_name() {
    let params = serde_json::from_value(json!({ "database": "main", "incremental": true })).unwrap();
    let site = Site::new();
    let found = BaseBackup.check(&params, &site.run().check_context()).await.unwrap();
    let said = serde_json::to_string(&found.0).unwrap();
    assert!(found.refused() && said.contains("17 is the first that does"), "{said}");
    let error = take(&site.run(), json!({ "incremental": true })).await.unwrap_err();
    assert!(error.to_string().contains("17 is the first that does"), "{error}");
    let site = Site::by(programs_of(17), Depot::default(), &[]);
    let found = BaseBackup.check(&params, &site.run().check_context()).await.unwrap();
    let said = serde_json::to_string(&found.0).unwrap();
    assert!(found.refused() && said.contains("summarize_wal"), "{said}");
}

/// A further store of a site, which packs in its own way.
fn further(site: &Site, name: &str, format: CompressionFormat) -> StoreEntry {
    let url = format!("file://{}", site.cluster.folder(name).display());
    let compression = Some(Compression { format, level: None });
    let entry = StoreEntry { url, compression, ..StoreEntry::default() };
    Opening::new(&entry, name, std::sync::Arc::new(site.depot.secrets.clone())).initialize().unwrap();
    entry
}

#[tokio::test]
async fn what_one_store_has_of_a_backup_is_copied_into_those_that_failed_and_increments_rest_on_each_copy() {
    let site = summarizing();
    let (alike, apart) =
        (further(&site, "alike", CompressionFormat::Zstd), further(&site, "apart", CompressionFormat::Gzip));
    let lost =
        StoreEntry { url: format!("file://{}", site.cluster.dir().join("un/mounted").display()), ..apart.clone() };
    let have = |apart: &StoreEntry| {
        let stores = [("alike".to_owned(), alike.clone()), ("apart".to_owned(), apart.clone())];
        site.beside.lock().unwrap().extend(stores);
    };
    let reaching =
        |at_least: u32| json!({ "stores": ["primary", "apart", "alike"], "incremental": true, "at_least": at_least });
    have(&lost);
    let full = site.run();
    assert_eq!(take(&full, reaching(2)).await.unwrap().copies.len(), 2);
    site.cluster.sql("INSERT INTO t VALUES (10000)");
    have(&apart);
    let taken = take(&full, reaching(3)).await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    assert_eq!((taken.copies.len(), taken.parent.as_ref()), (3, None));
    assert!(site.said().contains("store `apart` gets a copy"), "{}", site.said());
    // An increment is copied behind what it rests on.
    let alone = site.run();
    have(&lost);
    assert_eq!(take(&alone, reaching(1)).await.unwrap().copies.len(), 2);
    site.cluster.sql("INSERT INTO t VALUES (20000)");
    have(&apart);
    let increment = take(&alone, reaching(3)).await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    assert_eq!((increment.copies.len(), increment.parent.as_deref()), (3, Some(taken.backup.id.as_str())));
    for copy in &increment.copies {
        let params = json!({ "database": "main", "backup": increment.backup, "store": copy.store, "record": false });
        let params = serde_json::from_value(params).unwrap();
        let verified = VerifyBackup.run(&params, &site.run().context()).await;
        verified.unwrap_or_else(|error| panic!("{}: {:#?}", copy.store, error.info()));
    }
}

#[tokio::test]
async fn another_backup_under_the_same_id_is_nothing_to_rest_on() {
    let site = summarizing();
    let second = further(&site, "second", CompressionFormat::Zstd);
    site.beside.lock().unwrap().insert("second".to_owned(), second);
    // What an earlier version made when one of two stores had failed: one id, two moments.
    let twice = site.run();
    take(&twice, json!({ "stores": ["primary"] })).await.unwrap();
    site.cluster.sql("INSERT INTO t VALUES (10000)");
    take(&twice, json!({ "stores": ["second"] })).await.unwrap();
    let both = json!({ "stores": ["primary", "second"], "incremental": true });
    let error = take(&site.run(), both).await.unwrap_err();
    let told = format!("{:#?}", error.info());
    assert!(told.contains("store `second` has another backup as") && told.contains("take a full backup"), "{told}");
    let one = json!({ "stores": ["primary", "second"], "at_least": 1, "incremental": true });
    let increment = take(&site.run(), one).await.unwrap();
    assert_eq!((increment.copies.len(), increment.copies[0].store.as_str()), (1, "primary"));
}
