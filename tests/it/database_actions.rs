//! Databases within a server: created, dropped, their sessions ended, their rows exported.

use std::fs;
use std::process::{Child, Stdio};

use runbook::action::{Action as _, CheckContext, RunContext, Surroundings};
use runbook::actions::postgres::{
    CreateDatabase, CreateDatabaseParams, DropDatabase, DropDatabaseParams, Export, ExportParams, TerminateConnections,
    TerminateConnectionsParams,
};
use runbook::base::Digest;
use serde_json::json;

use crate::support::cli::until;
use crate::support::recovery::Site;

/// Somebody who is connected to a database.
fn connected(site: &Site, dbname: &str) -> Child {
    let mut command = site.cluster.command("psql");
    command.args(["-XAtq", "-U", "postgres", "-d", dbname, "-h"]).arg(site.cluster.socket_dir());
    command.args(["-p", &site.cluster.port().to_string(), "-c", "SELECT pg_sleep(600)"]).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let name = dbname.replace('\'', "''");
    let active = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND state = 'active'");
    until("the session is there", || site.cluster.sql(&active) != "0");
    child
}

#[tokio::test]
async fn a_database_is_created_once_and_dropped_only_when_nobody_uses_it() {
    let site = Site::new();
    let run = site.run();
    let create = |more| {
        let mut with = json!({ "database": "main", "dbname": "it's \"odd\"", "encoding": "UTF8", "locale": "C" });
        with["if_missing"] = json!(more);
        serde_json::from_value::<CreateDatabaseParams>(with).unwrap()
    };
    assert!(CreateDatabase.run(&create(false), &run.context()).await.unwrap().created);
    assert!(CreateDatabase.check(&create(false), &run.check_context()).await.unwrap().refused());
    CreateDatabase.run(&create(false), &run.context()).await.unwrap_err();
    assert!(!CreateDatabase.run(&create(true), &run.context()).await.unwrap().created);
    let mut user = connected(&site, "it's \"odd\"");
    let drop = |sessions: &str| {
        let with = json!({ "database": "main", "dbname": "it's \"odd\"", "sessions": sessions });
        serde_json::from_value::<DropDatabaseParams>(with).unwrap()
    };
    let said = format!("{:?}", DropDatabase.check(&drop("refuse"), &run.check_context()).await.unwrap());
    assert!(said.contains("1 sessions use"), "{said}");
    DropDatabase.run(&drop("refuse"), &run.context()).await.unwrap_err();
    let dropped = DropDatabase.run(&drop("terminate"), &run.context()).await.unwrap();
    assert_eq!((dropped.dropped, dropped.terminated), (true, 1));
    assert!(!user.wait().unwrap().success());
    assert_eq!(site.cluster.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'it%'"), "0");
    let absent = DropDatabase.run(&drop("terminate"), &run.context()).await.unwrap_err();
    assert!(absent.info().help.as_ref().unwrap().contains("if_exists"), "{:?}", absent.info());
    let needed = json!({ "database": "main", "dbname": "template1" });
    let needed: DropDatabaseParams = serde_json::from_value(needed).unwrap();
    assert!(DropDatabase.run(&needed, &run.context()).await.unwrap_err().to_string().contains("needed by the server"));
}

#[tokio::test]
async fn only_the_sessions_that_are_meant_are_ended() {
    let site = Site::new();
    let run = site.run();
    site.cluster.sql("CREATE DATABASE one");
    site.cluster.sql("CREATE DATABASE two");
    let (mut one, mut two) = (connected(&site, "one"), connected(&site, "two"));
    let end = |more: serde_json::Value| {
        let mut with = json!({ "database": "main", "dbname": "one" });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<TerminateConnectionsParams>(with).unwrap()
    };
    for none in [json!({ "application": "other" }), json!({ "idle_for": "1h" }), json!({ "role": "nobody" })] {
        assert_eq!(TerminateConnections.run(&end(none), &run.context()).await.unwrap().terminated, 0);
    }
    let ended = TerminateConnections.run(&end(json!({ "application": "psql" })), &run.context()).await.unwrap();
    assert_eq!(ended.terminated, 1);
    assert!(!one.wait().unwrap().success());
    assert!(two.try_wait().unwrap().is_none(), "the other database's session lives");
    two.kill().unwrap();
    two.wait().unwrap();
}

#[tokio::test]
async fn a_query_is_exported_as_csv_with_its_rows_and_digest() {
    let site = Site::new();
    let run = site.run();
    site.cluster
        .sql("CREATE TABLE t (n int, x text); INSERT INTO t VALUES (1, 'a,\"b\"'), (2, E'two\\nlines'), (3, NULL)");
    let folder = site.cluster.folder("exports");
    let path = folder.join("t.csv");
    let export = |to: serde_json::Value, sql: &str| {
        serde_json::from_value::<ExportParams>(json!({ "database": "main", "sql": sql, "to": to })).unwrap()
    };
    let query = "SELECT * FROM t ORDER BY n;";
    let written = Export.run(&export(json!({ "path": path }), query), &run.context()).await.unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), "n,x\n1,\"a,\"\"b\"\"\"\n2,\"two\nlines\"\n3,\n");
    assert_eq!((written.rows, written.size_bytes, written.sha256), (3, bytes.len() as u64, Digest::of(&bytes)));
    // The same again is as good as written; other content is not overwritten.
    Export.run(&export(json!({ "path": path }), query), &run.context()).await.unwrap();
    Export.run(&export(json!({ "path": path }), "SELECT 1"), &run.context()).await.unwrap_err();
    // Ahead it is told, and not refused: whether these are the rows is known only then.
    let ahead = CheckContext { ahead: true, ..run.check_context() };
    let findings = Export.check(&export(json!({ "path": path }), query), &ahead).await.unwrap();
    assert!(!findings.refused() && format!("{:?}", findings.0).contains("is there already"), "{:?}", findings.0);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let stored = export(json!({ "store": "primary", "key": "exports/t.csv" }), query);
    assert_eq!(Export.run(&stored, &run.context()).await.unwrap().rows, 3);
    assert_eq!(fs::read(site.depot.root.join("exports/t.csv")).unwrap(), bytes);
    let many = export(
        json!({ "path": folder.join("many.csv") }),
        "SELECT n, repeat('x', 100) FROM generate_series(1, 100000) n",
    );
    assert_eq!(Export.run(&many, &run.context()).await.unwrap().rows, 100_000);
}

#[tokio::test]
async fn an_export_changes_nothing_and_publishes_nothing_that_failed() {
    let site = Site::new();
    let run = site.run();
    site.cluster.sql("CREATE TABLE t (n int)");
    let path = site.cluster.folder("exports").join("t.csv");
    let wrong = [
        "INSERT INTO t VALUES (1) RETURNING n",
        "SELECT 1) TO PROGRAM 'touch /tmp/never'; --",
        "SELECT 1; DROP TABLE t",
        "SELECT 1 / (n - 50000) FROM generate_series(1, 100000) n",
    ];
    for sql in wrong {
        let params = json!({ "database": "main", "sql": sql, "to": { "path": path } });
        let params: ExportParams = serde_json::from_value(params).unwrap();
        Export.run(&params, &run.context()).await.unwrap_err();
        assert!(!path.exists(), "{sql}");
    }
    assert_eq!(site.cluster.sql("SELECT count(*) FROM t"), "0");
}

#[tokio::test]
async fn a_database_whose_sessions_cannot_be_ended_stays_open() {
    let site = Site::new();
    site.cluster.sql("CREATE ROLE maker LOGIN CREATEDB");
    site.cluster.sql("CREATE DATABASE kept OWNER maker");
    let mut user = connected(&site, "kept");
    let run = site.run();
    let context = run.context();
    let mut inventory = (*context.about.inventory).clone();
    inventory.databases.get_mut("main").unwrap().user = "maker".to_owned();
    let about = Surroundings { inventory: inventory.into(), ..context.about.clone() };
    let params = json!({ "database": "main", "dbname": "kept", "sessions": "terminate" });
    let params: DropDatabaseParams = serde_json::from_value(params).unwrap();
    let context = RunContext { about, ..context };
    DropDatabase.run(&params, &context).await.unwrap_err();
    assert_eq!(site.cluster.sql("SELECT datallowconn FROM pg_database WHERE datname = 'kept'"), "t");
    assert!(user.try_wait().unwrap().is_none());
    user.kill().unwrap();
    user.wait().unwrap();
}
