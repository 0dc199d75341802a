//! What a restore must leave alone: other clusters of the same machine, and production beside a copy of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use runbook::action::{Action as _, InstanceHandle};
use runbook::actions::postgres::{InstanceState, Query, Recover, RecoverOutput};
use serde_json::{Value, json};

use crate::support::cli::until;
use crate::support::postgres::free_port;
use crate::support::production::Production;
use crate::support::recovery::{Run, Site};

async fn ask(run: &Run<'_>, instance: &InstanceHandle, sql: &str) -> Value {
    let params = json!({ "database": "main", "instance": instance, "sql": sql });
    Query.run(&serde_json::from_value(params).unwrap(), &run.context()).await.unwrap().value
}

async fn rows(run: &Run<'_>, copy: &RecoverOutput) -> Value {
    ask(run, &copy.instance, "SELECT string_agg(n::text, ',' ORDER BY n) FROM t").await
}

/// Makes a tablespace with a table of one row in it.
fn with_tablespace(site: &Site) {
    let location = site.cluster.folder("fast");
    site.cluster.sql(&format!("CREATE TABLESPACE fast LOCATION '{}'", location.display()));
    site.cluster.sql("CREATE TABLE f(n int) TABLESPACE fast; INSERT INTO f VALUES (7)");
}

fn is_untouched(site: &Site) {
    site.cluster.sql("CHECKPOINT");
    assert_eq!(site.cluster.sql("SELECT sum(n) FROM f"), "7");
}

/// A production with a tablespace, and an environment `staging` on the same machine that is restored from its backups.
struct Staging {
    production: Production,
    port: u16,
    backup: String,
}

impl Staging {
    fn new() -> Self {
        let production = Production::new();
        with_tablespace(&production.site);
        production.cli.run(&["backup", "main", "--confirm", "production"]).ends(0);
        let listed = fs::read_dir(production.site.cluster.dir().join("store/main/base")).unwrap().flatten();
        let backup = listed.map(|entry| entry.file_name().to_string_lossy().into_owned()).max().unwrap();
        let staging = Self { production, port: free_port(), backup };
        staging.places("{}");
        staging
    }

    /// Writes the inventory, with places of tablespaces in `staging`.
    fn places(&self, tablespaces: &str) {
        let site = &self.production.site;
        let dir = site.cluster.dir().display();
        let options = format!("-c port={} -c archive_mode=off", self.port);
        self.production.cli.file(
            "inventory.yaml",
            &format!(
                "version: 1\ndatabases:\n  main: {{ pgdata: {dir}/data, port: {port}, socket: {dir}, bin: {bin}, store: primary }}\n\
                 stores: {{ primary: {{ url: \"file://{dir}/store\" }} }}\n\
                 environments:\n  production: {{ protected: true, default: true }}\n  staging: {{ databases: {{ main: {{ pgdata: {dir}/staging, port: {own}, \
                 tablespaces: {tablespaces}, via: {{ pg_ctl: {{ options: \"{options}\" }} }} }} }} }}\n",
                port = site.cluster.port(),
                bin = site.cluster.bin().display(),
                own = self.port,
            ),
        );
    }

    /// Restores production's own backup: what was restored has one of its own since.
    fn restore(&self) -> crate::support::cli::Ran {
        let backup = format!("backup={}", self.backup);
        let run = ["run", "full-db-loss", "-e", "staging", "-p", "database=main", "-p", &backup];
        self.production.cli.run(&[&run[..], &["-p", "incident_at=now"]].concat())
    }

    /// The same to the end of the backup: what was restored has a timeline of its own, which it does not archive.
    fn restore_the_backup_alone(&self) -> crate::support::cli::Ran {
        let backup = format!("backup={}", self.backup);
        let run = ["run", "pitr", "-e", "staging", "-p", "database=main", "-p", &backup, "-p", "immediate=true"];
        self.production.cli.run(&[&run[..], &["-p", "incident_at=now"]].concat())
    }

    /// What the restored server says.
    fn sql(&self, sql: &str) -> String {
        let cluster = &self.production.site.cluster;
        let mut command = cluster.command("psql");
        command.args(["-XAtq", "-U", "postgres", "-d", "postgres", "-h"]).arg(cluster.socket_dir());
        let output = command.args(["-p", &self.port.to_string(), "-c", sql]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn stop(&self) {
        let cluster = &self.production.site.cluster;
        let place = cluster.dir().join("staging");
        let _stopped = cluster.command("pg_ctl").args(["-s", "-w", "-m", "fast", "stop", "-D"]).arg(place).output();
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn a_restore_on_productions_machine_takes_none_of_its_tablespaces_and_may_have_places_of_its_own() {
    let staging = Staging::new();
    let site = &staging.production.site;
    let refused = staging.restore().ends(4);
    assert!(refused.err.contains("keeps its files in") && refused.err.contains("tablespaces:"), "{}", refused.err);
    is_untouched(site);
    staging.places(&format!("{{ fast: {}/staging-fast }}", site.cluster.dir().display()));
    staging.restore().ends(0);
    assert_eq!(staging.sql("SELECT (SELECT sum(n) FROM f), (SELECT count(*) FROM t)"), "7|1000");
    staging.sql("INSERT INTO f VALUES (100); CHECKPOINT");
    is_untouched(site);

    // One that is stopped is known by what the restored cluster itself has.
    staging.stop();
    site.cluster.stop("fast");
    staging.places("{}");
    let refused = staging.restore_the_backup_alone();
    assert_ne!(refused.code, Some(0));
    assert!(refused.err.contains("does not link to it"), "{}", refused.err);
    site.cluster.up();
    is_untouched(site);
}

#[tokio::test]
async fn wal_behind_a_copy_that_breaks_off_is_looked_through_for_tablespaces_too() {
    let site = Site::new();
    let backup = site.run().base_backup().await;
    with_tablespace(&site);
    site.archive();
    let site = site.drill();
    let run = site.run();
    let staged = run.stage(&backup.backup).await;
    // A backup from a standby ends with a segment that came in part only.
    let pg_wal = staged.dir.join("pg_wal");
    let names = fs::read_dir(&pg_wal).unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let last = names.filter(|name| name.len() == 24).max().unwrap();
    let mut bytes = fs::read(pg_wal.join(&last)).unwrap();
    let stop: runbook::pgformat::Lsn = backup.stop_lsn.parse().unwrap();
    let offset = usize::try_from(stop.0 % bytes.len() as u64).unwrap();
    bytes[offset..].fill(0);
    fs::write(pg_wal.join(&last), bytes).unwrap();
    let error = run.try_recover(&staged, json!({})).await.unwrap_err();
    assert!(error.to_string().contains("creates a tablespace at"), "{error}");
    is_untouched(&site);
}

#[tokio::test]
async fn a_drill_just_after_a_promotion_knows_the_new_timeline() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let backup = site.run().base_backup().await.backup;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.archive();
    let standby = site.cluster.standby();
    standby.stop("fast");
    standby.configure(&[("archive_mode", "on")]);
    standby.up();
    standby.sql("SELECT pg_promote(true, 60)");
    let stored = || site.stored().iter().any(|name| name.starts_with("00000002.history"));
    until("the history of the new timeline is archived", stored);
    assert!(!site.stored().iter().any(|name| name.starts_with("000000020")), "{:?}", site.stored());
    let site = site.drill();
    for target in [json!({}), json!({ "timeline": 2 })] {
        let run = site.run();
        let staged = run.stage(&backup).await;
        let copy = run.recover(&staged, target.clone()).await;
        assert_eq!((copy.timeline, rows(&run, &copy).await), (3, json!("1,2")), "{target}: {}", site.said());
    }
}

#[tokio::test]
async fn a_tablespace_that_production_makes_during_a_drill_is_never_replayed() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let backup = site.run().base_backup().await.backup;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.archive();
    let location = site.cluster.folder("fast");
    // The first fetch comes after the WAL was looked through.
    let (script, dir) = (site.cluster.dir().join("fetching"), site.cluster.dir().display().to_string());
    let psql = format!(
        "{}/psql -XAtq -U postgres -d postgres -h {dir} -p {} -c",
        site.cluster.bin().display(),
        site.cluster.port()
    );
    let text = format!(
        "#!/bin/sh\nif test \"$2\" = fetch && mkdir {dir}/first 2>/dev/null; then\n\
         {psql} \"CREATE TABLESPACE fast LOCATION '{}'\" || exit 99\n\
         {psql} 'CREATE TABLE f(n int) TABLESPACE fast; INSERT INTO f VALUES (7)' || exit 99\n\
         name=$({psql} 'SELECT pg_walfile_name(pg_current_wal_lsn())')\n{psql} 'SELECT pg_switch_wal()' >/dev/null\n\
         until test t = \"$({psql} \"SELECT last_archived_wal >= '$name' FROM pg_stat_archiver\")\"; do :; done\nfi\n\
         exec {} \"$@\"\n",
        location.display(),
        env!("CARGO_BIN_EXE_runbook")
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let site = site.drill();
    let run = site.run();
    let staged = run.stage(&backup).await;
    let recover = Recover::new(script);
    let copy = recover.run(&run.recover_params(&staged, json!({})), &run.context()).await;
    let copy = copy.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    assert_eq!(rows(&run, &copy).await, json!("1,2"));
    assert_eq!(ask(&run, &copy.instance, "SELECT count(*) FROM pg_tablespace").await, json!(2));
    is_untouched(&site);
}

#[tokio::test]
async fn a_copy_that_waits_goes_on_only_through_wal_that_was_looked_through() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let backup = site.run().base_backup().await.backup;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    let between = site.cluster.sql("SELECT pg_current_wal_insert_lsn()");
    site.cluster.sql("INSERT INTO t VALUES (3)");
    site.archive();
    let site = site.drill();
    let run = site.run();
    let staged = run.stage(&backup).await;
    let waits = run.recover(&staged, json!({ "target": "immediate", "action": "pause" })).await;
    assert_eq!((waits.state, rows(&run, &waits).await), (InstanceState::Paused, json!("1")));
    let manifest: Value = serde_json::from_str(&site.manifests()).unwrap();
    let as_of = waits.recovered_to_time.max(manifest["started_at"].as_str().unwrap().parse().ok());
    assert_eq!(waits.as_of, as_of, "what was done while the backup ended may not be in it");
    let on = json!({ "database": "main", "instance": waits.instance, "target_lsn": between, "inclusive": false, "action": "pause" });
    let waits = run.recover_with(on).await.unwrap_or_else(|error| panic!("{:#?}", error.info()));
    assert_eq!(rows(&run, &waits).await, json!("1,2"));
    with_tablespace(&site);
    site.archive();
    let error = run.recover_with(json!({ "database": "main", "instance": waits.instance })).await.unwrap_err();
    assert!(error.to_string().contains("creates a tablespace at"), "{error}");
    assert_eq!(rows(&run, &waits).await, json!("1,2"), "it waits as before");
    is_untouched(&site);
}

#[tokio::test]
async fn a_drill_goes_on_where_the_wal_raises_settings_and_is_no_target_reached_before() {
    let site = Site::with(&[("max_prepared_transactions", "0"), ("max_connections", "40")]);
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let backup = site.run().base_backup().await.backup;
    for (connections, prepared) in [("60", "5"), ("70", "9")] {
        site.cluster.stop("fast");
        site.cluster.configure(&[("max_connections", connections), ("max_prepared_transactions", prepared)]);
        site.cluster.up();
        site.cluster.sql(&format!("INSERT INTO t VALUES ({connections})"));
    }
    let at = site.cluster.sql(
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM pg_sleep(0.01)",
    );
    site.cluster.sql("SELECT pg_sleep(0.01)");
    site.cluster.sql("INSERT INTO t VALUES (80)");
    site.archive();
    let site = site.drill();
    for (target, state, wanted) in [
        (json!({}), InstanceState::Open, "1,60,70,80"),
        (json!({ "target_time": at, "action": "pause" }), InstanceState::Paused, "1,60,70"),
    ] {
        let run = site.run();
        let staged = run.stage(&backup).await;
        let copy = run.recover(&staged, target.clone()).await;
        assert_eq!((copy.state, rows(&run, &copy).await), (state, json!(wanted)), "{target}: {}", site.said());
        assert_eq!(ask(&run, &copy.instance, "SHOW max_connections").await, json!("70"));
    }
    assert!(site.said().contains("so it is raised too"), "{}", site.said());
}
