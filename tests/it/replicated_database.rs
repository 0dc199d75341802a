//! Databases that logical replication uses, while a dump of them is restored.

use std::fs;
use std::process::{Child, Stdio};

use runbook::action::{Action as _, ActionError, BackupHandle, Findings};
use runbook::actions::postgres::{
    DropDatabase, DropDatabaseParams, Dump, DumpParams, RestoreDump, RestoreDumpOutput, RestoreDumpParams,
};
use serde_json::{Value, json};

use crate::support::cli::until;
use crate::support::recovery::{Run, Site};

/// A database `shop` that gets rows by a subscription, and whose changes a consumer takes by a slot.
struct Shop {
    site: Site,
    consumer: Child,
}

impl Shop {
    fn new() -> Self {
        let site = Site::with(&[("wal_level", "logical"), ("wal_retrieve_retry_interval", "100ms")]);
        let cluster = &site.cluster;
        cluster.sql("CREATE DATABASE source");
        cluster.sql("CREATE DATABASE shop");
        cluster.sql_in("source", "CREATE TABLE news(n int); CREATE PUBLICATION news FOR TABLE news");
        cluster.sql_in("source", "SELECT pg_create_logical_replication_slot('news', 'pgoutput')");
        cluster.sql_in("shop", "CREATE TABLE news(n int); CREATE PUBLICATION outflow FOR TABLE news");
        cluster.sql_in("shop", "SELECT pg_create_logical_replication_slot('outflow', 'pgoutput')");
        let source =
            format!("host={} port={} user=postgres dbname=source", cluster.socket_dir().display(), cluster.port());
        let subscribe = format!(
            "CREATE SUBSCRIPTION news CONNECTION '{source}' PUBLICATION news \
             WITH (create_slot = false, slot_name = 'news', copy_data = false)"
        );
        cluster.sql_in("shop", &subscribe);
        let mut consumer = cluster.command("pg_recvlogical");
        consumer.args(["-U", "postgres", "-d", "shop", "-p", &cluster.port().to_string(), "-h"]);
        consumer.arg(cluster.socket_dir()).args(["--slot", "outflow", "--start", "--no-loop", "-f", "/dev/null"]);
        consumer.args(["-o", "proto_version=1", "-o", "publication_names=outflow"]).stderr(Stdio::null());
        let shop = Self { consumer: consumer.spawn().unwrap(), site };
        shop.is_used();
        shop
    }

    /// Waits until both ends are at work, as they are day and night.
    fn is_used(&self) {
        let used = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' \
                    AND (backend_type = 'walsender' OR backend_type LIKE 'logical replication%worker')";
        until("the subscription and the consumer are at work", || self.site.cluster.sql(used) == "2");
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.consumer.kill();
        let _ = self.consumer.wait();
    }
}

async fn dump(run: &Run<'_>) -> BackupHandle {
    let params: DumpParams = serde_json::from_value(json!({ "database": "main", "dbnames": ["shop"] })).unwrap();
    Dump.run(&params, &run.context()).await.unwrap_or_else(|error| panic!("{:#?}", error.info())).backup
}

fn params(backup: &BackupHandle, more: Value) -> RestoreDumpParams {
    let mut with = json!({ "database": "main", "backup": backup });
    with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(with).unwrap()
}

async fn judged(run: &Run<'_>, params: &RestoreDumpParams) -> Findings {
    RestoreDump.check(params, &run.check_context()).await.unwrap()
}

async fn restored(run: &Run<'_>, params: &RestoreDumpParams) -> Result<RestoreDumpOutput, ActionError> {
    RestoreDump.run(params, &run.context()).await
}

#[tokio::test]
async fn a_database_that_replication_uses_is_swapped_and_what_stays_with_the_old_one_is_told() {
    let shop = Shop::new();
    let (site, run) = (&shop.site, shop.site.run());
    site.cluster.sql_in("shop", "INSERT INTO news VALUES (1)");
    let backup = dump(&run).await;
    site.cluster.sql_in("shop", "INSERT INTO news VALUES (2)");
    let swap = params(&backup, json!({}));
    let found = judged(&run, &swap).await;
    assert!(!found.refused(), "{found:?}");
    let told = format!("{found:?}");
    assert!(
        told.contains("subscriptions of database `shop` stay") && told.contains("slots of database `shop`"),
        "{told}"
    );
    let output = restored(&run, &swap).await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    let old = output.old_dbname.unwrap();
    assert_eq!(site.cluster.sql_in("shop", "SELECT count(*) FROM news"), "1");
    assert_eq!(site.cluster.sql_in(&old, "SELECT count(*) FROM news"), "2");
    let said = site.said();
    for what in ["subscriptions stay with", "logical replication slots stay with"] {
        assert!(said.contains(&format!("{what} `{old}`")), "{what}: {said}");
    }
    // The server drops no database that subscribes: that shows before anything stops, and in good time.
    let replace = params(&backup, json!({ "mode": "replace" }));
    let refused = judged(&site.run(), &replace).await;
    assert!(refused.refused() && format!("{refused:?}").contains("cannot be dropped while it has subscriptions: news"));
    let dropping = json!({ "database": "main", "dbname": old, "sessions": "terminate" });
    let dropping: DropDatabaseParams = serde_json::from_value(dropping).unwrap();
    assert!(DropDatabase.check(&dropping, &run.check_context()).await.unwrap().refused());
    let forget = "ALTER SUBSCRIPTION news DISABLE; ALTER SUBSCRIPTION news SET (slot_name = NONE)";
    site.cluster.sql_in(&old, forget);
    site.cluster.sql_in(&old, "DROP SUBSCRIPTION news");
    let judged = DropDatabase.check(&dropping, &run.check_context()).await.unwrap();
    assert!(!judged.refused() && format!("{judged:?}").contains("slots go with database"), "{judged:?}");
    assert!(DropDatabase.run(&dropping, &run.context()).await.unwrap().dropped);
}

#[tokio::test]
async fn what_a_cut_off_restore_loaded_is_removed_with_its_subscriptions() {
    let shop = Shop::new();
    let (site, run) = (&shop.site, shop.site.run());
    let backup = dump(&run).await;
    let beside = params(&backup, json!({ "mode": "beside" }));
    let first = restored(&run, &beside).await.unwrap().dbname;
    // As if the engine had died before what came of it was compared.
    let begun = run.dir.join("restore-step.json");
    let mut noted: Value = serde_json::from_str(&fs::read_to_string(&begun).unwrap()).unwrap();
    noted["verified"] = Value::Null;
    fs::write(&begun, noted.to_string()).unwrap();
    let number = format!("SELECT oid FROM pg_database WHERE datname = '{first}'");
    let before = site.cluster.sql(&number);
    let second = restored(&run, &beside).await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    assert_eq!(second.dbname, first);
    assert_ne!(site.cluster.sql(&number), before, "it was made anew");
    shop.is_used();
}
