//! WAL in several stores of which one is enough: what only one of them was given is found by whoever recovers or asks.

use std::fs;

use serde_json::{Value, json};

use crate::support::cli::Cli;
use crate::support::recovery::Site;

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
