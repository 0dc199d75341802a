//! The shipped recoveries carried out: as drills, and for real against a production that is thrown away.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::support::cli::{Cli, Ran, processes_of};
use crate::support::postgres::{Cluster, free_port};
use crate::support::production::Production;

fn now(cluster: &Cluster) -> String {
    let at = cluster.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    cluster.sql("SELECT pg_sleep(0.01)");
    at
}

#[test]
fn a_drill_of_the_point_in_time_recovery_proves_the_rows_of_that_moment_and_leaves_production_alone() {
    let production = Production::new();
    let cluster = &production.site.cluster;
    let target = format!("recover_to={}", now(cluster));
    cluster.sql("DELETE FROM t WHERE n > 10");
    production.site.archive();
    let before = production.facts();
    // The inventory's check wants the 1000 rows that were there at the target.
    production.cli.run(&["drill", "pitr", "-p", "database=main", "-p", &target]).ends(0);
    assert_eq!(production.facts(), before);
    production.nothing_is_left();
}

#[test]
fn a_point_in_time_recovery_that_asks_waits_for_people_and_goes_on_when_they_say_so() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let xid = cluster.sql("BEGIN; DELETE FROM t WHERE n > 10; SELECT txid_current(); COMMIT");
    let xid = format!("recover_to_xid={xid}");
    let run = ["run", "pitr", "-p", "database=main", "-p", &xid, "-p", "inclusive=false", "-p", "ask=true"];
    let run = [&run[..], &["-p", "incident_at=now", "--confirm", "production"]].concat();
    cli.run(&run).ends(13);
    assert_eq!(cluster.sql("SELECT count(*) FROM t"), "10", "nothing stops before somebody declares it");
    cli.run(&["approve", "last", "declare"]).ends(0);
    cli.run(&["resume", "last"]).ends(13);
    assert_eq!(cluster.sql("SELECT pg_is_in_recovery(), count(*) FROM t"), "t|1000", "it waits and can be read");
    cli.run(&["approve", "last", "decide"]).ends(0);
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!(cluster.sql("SELECT pg_is_in_recovery(), count(*) FROM t"), "f|1000");
    cluster.sql("INSERT INTO t VALUES (2000)");
}

#[test]
fn an_undo_of_a_recovery_that_has_replaced_the_data_says_that_production_stays_down_and_how_it_comes_back() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let xid = cluster.sql("BEGIN; DELETE FROM t WHERE n > 10; SELECT txid_current(); COMMIT");
    let xid = format!("recover_to_xid={xid}");
    let run = ["run", "pitr", "-p", "database=main", "-p", &xid, "-p", "inclusive=false", "-p", "ask=true"];
    cli.run(&[&run[..], &["-p", "incident_at=now", "--confirm", "production"]].concat()).ends(13);
    cli.run(&["approve", "last", "declare"]).ends(0);
    cli.run(&["resume", "last"]).ends(13);
    cluster.stop("immediate");
    cli.run(&["cancel", "last", "--reason", "it takes too long"]).ends(0);
    cli.run(&["resume", "last"]).ends(12);
    let undone = cli.run(&["undo", "last", "--confirm", "production"]);
    assert_ne!(undone.code, Some(0), "{}{}", undone.out, undone.err);
    let told = format!("{}{}", undone.out, undone.err);
    assert!(
        told.contains("the server that was stopped is not started") && told.contains("runbook restore main"),
        "{told}"
    );
    // As it is printed, but for the start; typed twice it does nothing the second time.
    let back = told.split("take the old data back: `").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
    let (back, _start) = back.rsplit_once(" && ").unwrap();
    let typed = || Command::new("sh").args(["-c", back]).status().unwrap().success();
    assert_eq!((typed(), typed()), (true, true), "{back}");
    cluster.up();
    cli.run(&["status", "main"]).prints(".runbook-abandoned-").prints("a recovery that did not come to its end");
    assert_eq!(cluster.sql("SELECT count(*) FROM t"), "10");
}

#[test]
fn an_undo_of_a_recovery_that_was_denied_says_that_the_server_waits_and_what_leads_on() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let xid = cluster.sql("BEGIN; UPDATE t SET n = n + 10000 WHERE n > 10; SELECT txid_current(); COMMIT");
    let xid = format!("recover_to_xid={xid}");
    let run = ["run", "pitr", "-p", "database=main", "-p", &xid, "-p", "inclusive=false", "-p", "ask=true"];
    cli.run(&[&run[..], &["-p", "incident_at=now", "--confirm", "production"]].concat()).ends(13);
    cli.run(&["approve", "last", "declare"]).ends(0);
    cli.run(&["resume", "last"]).ends(13);
    cli.run(&["deny", "last", "decide", "--comment", "wrong target"]).ends(0);
    let denied = cli.run(&["resume", "last"]).ends(10).says("runbook undo");
    denied.says("READ-ONLY, unless somebody opened it since: the server of `main` waits in recovery since `look`");
    let undone = cli.run(&["undo", "last", "--confirm", "production"]).ends(10);
    let told = format!("{}{}", undone.out, undone.err);
    for words in ["is not back", "waits in recovery, read-only at ", "the old data lies in `", "runbook restore main"] {
        assert!(told.contains(words), "no `{words}` in {told}");
    }
    assert!(!told.contains("RPO"), "an undo measures no loss: {told}");
    let status = cli.run(&["status", "main"]).ends(2);
    assert!(status.out.contains("the server waits in recovery, read-only: runbook restore main"), "{}", status.out);
    // What it names leads on.
    let back = told.split("take the old data back: `").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
    assert!(back.contains(" stop") && back.contains("mv "), "{back}");
    cli.run(&["restore", "main", "--confirm", "production"]).ends(0);
    assert_eq!(cluster.sql("SELECT pg_is_in_recovery(), max(n) FROM t"), "f|11000", "all there was is back");
}

#[test]
fn a_copy_that_may_not_be_removed_stays_until_somebody_says_that_it_may() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let started = cluster.sql("SELECT pg_postmaster_start_time()");
    let lives = || !processes_of(cli.dir()).is_empty();
    let reason = ["--reason", "he has looked"];
    cli.run(&["run", "side-copy", "-p", "database=main", "--confirm", "production"]).ends(13).says("A no keeps it");
    cli.run(&["deny", "last", "--comment", "not yet"]).ends(0);
    cli.run(&["resume", "last"]).ends(13).says("not yet");
    assert!(lives(), "a no keeps it");
    cli.run(&[&["retry", "last", "looked"], &reason[..]].concat()).ends(0);
    cli.run(&["resume", "last"]).ends(13).says("May it be removed?");
    assert!(lives(), "it is asked for again");
    cli.run(&["approve", "last"]).ends(0);
    cli.run(&["resume", "last"]).ends(0);
    assert!(!lives(), "a yes removes it");
    production.nothing_is_left();
    assert_eq!(cluster.sql("SELECT pg_postmaster_start_time()"), started);
}

/// Flips a bit in the middle of every base backup's data below a folder.
fn spoil(store: PathBuf) {
    let mut folders = vec![store];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap().to_string_lossy().starts_with("base.tar") {
                let mut bytes = fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&path, bytes).unwrap();
            }
        }
    }
}

#[test]
fn a_recovery_from_a_damaged_backup_stops_nothing() {
    let production = Production::new();
    let cluster = &production.site.cluster;
    let at = now(cluster);
    let started = cluster.sql("SELECT pg_postmaster_start_time()");
    spoil(cluster.dir().join("store"));
    let newest = ["restore", "main", "--confirm", "production"];
    let earlier = [&newest[..], &["--to", &at]].concat();
    for words in [&newest[..], &earlier] {
        let ran = production.cli.run(words);
        assert_ne!(ran.code, Some(0), "{}", ran.err);
        assert_eq!(production.cli.status("stage"), "failed");
        assert_eq!(cluster.sql("SELECT pg_postmaster_start_time()"), started);
    }
}

#[test]
fn a_proof_that_fails_waits_for_a_person_before_the_database_opens_and_in_a_drill_for_nobody() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let target = format!("recover_to={}", now(cluster));
    cluster.sql("DELETE FROM t WHERE n > 10");
    production.site.archive();
    // A condition that was true of today and is false of every older state.
    cli.file("inventory.yaml", &cli.read("inventory.yaml").replace("'= 1000'", "'= 10'"));
    cli.run(&["drill", "pitr", "-p", "database=main", "-p", &target]).ends(10);
    production.nothing_is_left();
    let real =
        ["run", "pitr", "-p", "database=main", "-p", &target, "-p", "incident_at=now", "--confirm", "production"];
    cli.run(&real).ends(13);
    assert_eq!(cluster.sql("SELECT pg_is_in_recovery(), count(*) FROM t"), "t|1000", "it can be looked at");
    cli.run(&["mark-done", "last", "prove", "--reason", "the condition is one of today"]).ends(0);
    cli.run(&["resume", "last"]).ends(5);
    assert_eq!(cluster.sql("SELECT pg_is_in_recovery(), count(*) FROM t"), "f|1000");
}

/// What each shipped runbook is given. Those for pgBackRest are dry-run where there is a stanza.
const GIVEN: [(&str, &[&str]); 17] = [
    ("accidental-drop", &["incident_at=now", "tables=t"]),
    ("base-backup", &[]),
    ("compliance-export", &["sql=SELECT 1", "to=/tmp/never-written.csv"]),
    ("daily-backup", &[]),
    ("data-corruption", &["incident_at=now", "dbname=postgres"]),
    ("full-db-loss", &["incident_at=now"]),
    ("lift-freeze", &["reason=dry"]),
    ("pitr", &["incident_at=now"]),
    ("quarterly-drill", &["incident_at=now"]),
    ("ransomware", &["incident_at=now", "store=primary"]),
    ("restore-dump", &["incident_at=now", "dbname=postgres"]),
    ("restore-in-place", &["incident_at=now"]),
    ("restore-test", &["incident_at=now"]),
    ("restore-test-dump", &["incident_at=now"]),
    ("setup-archiving", &[]),
    ("side-copy", &[]),
    ("table-recovery", &["incident_at=now", "tables=t"]),
];

#[test]
fn every_shipped_runbook_is_dry_run_against_production_and_changes_nothing() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    for backup in [&["daily-backup"][..], &["base-backup", "-p", "tier=monthly"]] {
        cli.run(&[&["run"], backup, &["-p", "database=main", "--confirm", "production"]].concat()).ends(0);
    }
    fs::remove_dir_all(cli.state()).unwrap();
    let at = now(cluster);
    let before = production.facts();
    let mut refused = Vec::new();
    for (name, given) in GIVEN {
        let moment = match name {
            "accidental-drop" | "table-recovery" | "pitr" | "side-copy" => format!("recover_to={at}"),
            "ransomware" => format!("clean_at={at}"),
            _ => String::new(),
        };
        let mut words = vec!["dry-run", name, "-p", "database=main"];
        words.extend(["-p", moment.as_str()].into_iter().filter(|_| !moment.is_empty()));
        words.extend(given.iter().flat_map(|param| ["-p", *param]));
        let ran = cli.run(&words);
        // Restore tests and quarterly drills are refused for real by their first step, which a dry run carries out.
        let only_a_drill = ["quarterly-drill", "restore-test", "restore-test-dump"].contains(&name);
        if ran.code != Some(if only_a_drill { 4 } else { 0 }) {
            refused.push(format!("{name}: {:?}\n{}{}", ran.code, ran.out, ran.err));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    assert_eq!(production.facts(), before);
}

#[test]
fn no_shipped_runbook_is_left_out_of_the_dry_runs() {
    let mut names: Vec<String> = ["postgres", "drills"]
        .iter()
        .flat_map(|folder| fs::read_dir(format!("{}/runbooks/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap().flatten())
        .map(|entry| entry.path().file_stem().unwrap().to_string_lossy().into_owned())
        // They need another region, and have tests of their own.
        .filter(|name| !["copy-offsite", "region-failover"].contains(&name.as_str()))
        .collect();
    names.sort();
    assert_eq!(names, GIVEN.map(|(name, _)| name));
}

#[test]
fn a_database_comes_back_from_before_an_intrusion_through_quarantine_and_only_when_people_say_so() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let clean = format!("clean_at={}", now(cluster));
    cluster.sql("UPDATE t SET n = -n; CREATE FUNCTION evil() RETURNS int LANGUAGE sql AS 'SELECT 1'");
    production.site.archive();
    let before = production.facts();
    cli.run(&["drill", "ransomware", "-p", "database=main", "-p", "store=primary", "-p", &clean]).ends(0);
    assert_eq!(production.facts(), before);
    production.nothing_is_left();

    let real = ["run", "ransomware", "-p", "database=main", "-p", "store=primary", "-p", &clean];
    cli.run(&[&real[..], &["-p", "incident_at=now", "--confirm", "production"]].concat()).ends(13);
    let answer = |step: &str, code: i32| {
        cli.run(&["approve", "last", step, "--comment", "done"]).ends(0);
        cli.run(&["resume", "last"]).ends(code);
    };
    answer("revoke", 13);
    assert!(cluster.try_sql("SELECT 1").stdout.is_empty(), "nothing is replaced before somebody judged the copy");
    let copy = fs::read_dir(cli.state().join("scratch")).unwrap().flatten().next().unwrap().path();
    assert!(copy.join("side/main/quarantine/pgdata/PG_VERSION").exists(), "the copy is there to be looked at");
    answer("judge", 13);
    assert_eq!(cluster.sql("SELECT count(*), sum(n) FROM t"), "1000|500500");
    assert_eq!(cluster.sql("SELECT count(*) FROM pg_proc WHERE proname = 'evil'"), "0");
    answer("renew", 0);
    assert!(!copy.join("side").exists(), "the quarantine is gone at the end");
}

#[test]
fn the_inventory_that_is_shipped_as_an_example_is_sound() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/runbooks/inventory.example.yaml");
    Cli::new().run(&["check", example]).ends(0);
}

/// A server whose archive is copied to another region, and the inventory of both.
struct Regions {
    cluster: Cluster,
    cli: Cli,
    here: (PathBuf, u16),
}

impl Regions {
    fn new() -> Self {
        let cli = Cli::new();
        let program = env!("CARGO_BIN_EXE_runbook");
        let cluster = Cluster::create(&[("archive_mode", "on")], &[]);
        let config = cluster.dir().join("wal.json");
        let command = format!("{program} wal push --config {} %p", config.display());
        cluster.configure(&[("archive_command", &command)]);
        let here = (cluster.folder("here"), free_port());
        let regions = Self { cluster, cli, here };
        for store in ["copy", "lost"] {
            regions.cluster.folder(store);
            regions.archive_into(store);
            regions.cli.run(&["wal", "init", "--config", &config.to_string_lossy()]).ends(0);
        }
        regions.cluster.up();
        regions.inventory();
        regions
    }

    /// Has `wal push` of the machine archive into a store.
    fn archive_into(&self, store: &str) {
        let path = self.cluster.dir().join("wal.json");
        let url = format!("file://{}", self.cluster.dir().join(store).display());
        fs::write(&path, json!({ "store": { "url": url }, "prefix": "main" }).to_string()).unwrap();
        self.cluster.give(&path);
    }

    fn inventory(&self) {
        let flag = |name: &str| {
            let file = self.cli.path(name);
            let file = file.display();
            format!(
                "{{ start: [touch, {file}], stop: [rm, -f, {file}], status: [bash, -c, \"test -e {file} || exit 3\"] }}"
            )
        };
        let (folder, port) = &self.here;
        let cluster = &self.cluster;
        let dir = cluster.dir().display();
        self.cli.file(
            "inventory.yaml",
            &format!(
                "version: 1\ndatabases:\n  main: {{ pgdata: {pgdata}, port: {old}, socket: {dir}, bin: {bin}, store: lost,\n    \
                 checks: [ {{ name: rows, sql: SELECT count(*) FROM t, expect: '= 1000' }} ] }}\n\
                 stores: {{ lost: {{ url: \"file://{dir}/lost\" }}, copy: {{ url: \"file://{dir}/copy\" }} }}\n\
                 services:\n  fence: {{ command: {fence} }}\n  routing: {{ command: {routing} }}\n\
                 environments:\n  production: {{ protected: true, default: true }}\n  \
                 failover: {{ protected: true, databases: {{ main: {{ pgdata: {here}/data, port: {port}, store: copy }} }} }}\n  \
                 drill: {{ databases: {{ main: {{ scratch: true, store: copy }} }}, stores: {{ copy: {{ read_only: true }} }} }}\n",
                pgdata = cluster.pgdata().display(),
                old = cluster.port(),
                bin = cluster.bin().display(),
                fence = flag("old-region"),
                routing = flag("routed"),
                here = folder.display(),
            ),
        );
    }

    /// Everything committed is archived, and everything archived is copied.
    fn copied(&self) {
        self.cluster.sql("CHECKPOINT");
        let name = self.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
        self.cluster.sql("SELECT pg_switch_wal()");
        crate::support::cli::until("the segment is archived", || {
            let sql = format!("SELECT coalesce(last_archived_wal, '') >= '{name}' FROM pg_stat_archiver");
            self.cluster.sql(&sql) == "t"
        });
        self.copies().ends(0);
        // The machine there runs its server by another user than the one that copied.
        let (lost, copy) = (self.cluster.dir().join("lost"), self.cluster.dir().join("copy"));
        let mut chown = std::process::Command::new("chown");
        let owner = format!("--reference={}", lost.display());
        assert!(chown.args(["-R", &owner]).arg(copy).status().unwrap().success());
    }

    /// Copies what is new into the other region, by the shipped procedure.
    fn copies(&self) -> Ran {
        let params = ["-p", "from=lost", "-p", "to=copy", "-p", "prefix=main", "--confirm", "production"];
        self.cli.run(&[&["run", "copy-offsite"], &params[..]].concat())
    }

    /// Rows of the server in the surviving region.
    fn rows(&self) -> String {
        let mut command = self.cluster.command("psql");
        command.args(["-XAtq", "-U", "postgres", "-d", "postgres", "-h"]).arg(self.cluster.socket_dir());
        let output = command.args(["-p", &self.here.1.to_string(), "-c", "SELECT count(*), sum(n) FROM t"]).output();
        String::from_utf8_lossy(&output.unwrap().stdout).trim().to_owned()
    }
}

impl Drop for Regions {
    fn drop(&mut self) {
        let data = self.here.0.join("data");
        let _ = self.cluster.command("pg_ctl").args(["-m", "immediate", "-w", "-D"]).arg(data).arg("stop").output();
    }
}

#[test]
fn a_lost_region_comes_up_in_another_one_from_the_copy_of_its_backups() {
    let regions = Regions::new();
    let (cluster, cli) = (&regions.cluster, &regions.cli);
    cli.file("old-region", "");
    cluster.sql("CREATE TABLE t(n int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 500)");
    cli.run(&["backup", "main", "--confirm", "production"]).ends(0);
    cluster.sql("INSERT INTO t SELECT generate_series(501, 1000)");
    regions.copied();
    let drill = ["drill", "region-failover", "-p", "database=main", "-p", "fence=fence", "-p", "routing=routing"];
    cli.run(&drill).ends(0);
    assert!(cli.path("old-region").exists() && !cli.path("routed").exists(), "a drill switches nothing");
    let real = ["-e", "failover", "-p", "database=main", "-p", "fence=fence", "-p", "routing=routing"];
    let real = [&["run", "region-failover"][..], &real, &["-p", "incident_at=now", "--confirm", "failover"]].concat();
    let dry = [&["dry-run"][..], &real[1..real.len() - 2]].concat();
    cli.run(&dry).ends(0);

    cluster.kill();
    fs::remove_dir_all(cluster.pgdata()).unwrap();
    fs::remove_dir_all(cluster.dir().join("lost")).unwrap();
    regions.archive_into("copy");
    let sound = cluster.dir().join("sound");
    let copy = cluster.dir().join("copy");
    assert!(std::process::Command::new("cp").args(["-a", "-T"]).args([&copy, &sound]).status().unwrap().success());
    spoil(copy.clone());
    let ran = cli.run(&real);
    assert_ne!(ran.code, Some(0), "{}", ran.err);
    assert!(cli.path("old-region").exists(), "a damaged copy fences nobody");
    fs::remove_dir_all(&copy).unwrap();
    fs::rename(&sound, &copy).unwrap();
    // The backup's configuration has the lost server's port: it listens on that of the inventory.
    cli.run(&real).ends(0).says("as the inventory says");
    assert_eq!(regions.rows(), "1000|500500");
    assert!(!cli.path("old-region").exists(), "the lost region is fenced");
    assert!(cli.path("routed").exists(), "applications are pointed here");
    let listed = cli.run(&["backups", "list", "--store", "copy", "--json"]).ends(0);
    assert_eq!(listed.out.matches("\"postgres.base\"").count(), 2, "{}", listed.out);
}

#[test]
fn a_copy_elsewhere_loses_nothing_by_what_is_deleted_and_takes_over_nothing_that_was_altered() {
    let regions = Regions::new();
    let (cluster, cli) = (&regions.cluster, &regions.cli);
    let params = ["-p", "from=lost", "-p", "to=copy", "-p", "prefix=main"];
    cluster.sql("CREATE TABLE t(n int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)");
    cli.run(&["backup", "main", "--tier", "monthly", "--confirm", "production"]).ends(0);
    cli.run(&[&["drill", "copy-offsite"], &params[..]].concat()).ends(4).says("store `copy`");
    cli.run(&[&["dry-run", "copy-offsite"], &params[..]].concat()).ends(0).prints("create");
    regions.copied();
    let list =
        |store: &str| cli.run(&["backups", "list", "--store", store, "--json"]).ends(0).json()["backups"].clone();
    let (here, there) = (list("lost"), list("copy"));
    assert_eq!((&here[0]["id"], &here[0]["manifest"]), (&there[0]["id"], &there[0]["manifest"]), "the same bytes");
    let id = here[0]["id"].as_str().unwrap();
    cli.run(&["backups", "hold", id, "--store", "lost", "--reason", "case 4711"]).ends(0);
    cli.run(&["backup", "main", "--confirm", "production"]).ends(0);
    regions.copied();
    let there = list("copy");
    let held = there.as_array().unwrap().iter().find(|one| one["id"] == id).unwrap();
    assert!(there.as_array().unwrap().len() == 2 && held["held"] == true, "{there:#}");
    cli.run(&["backups", "verify", "--all", "--budget", "1GB", "--store", "copy"]).ends(0);
    cli.run(&["backups", "hold", id, "--store", "lost", "--lift", "--reason", "closed here"]).ends(0);
    regions.copies().ends(5).says("hold.json");
    let there = list("copy");
    let held = there.as_array().unwrap().iter().find(|one| one["id"] == id).unwrap();
    assert_eq!(held["held"], true, "a hold is lifted where it is, and nowhere else");
    cli.run(&["backups", "hold", id, "--store", "copy", "--lift", "--reason", "closed here"]).ends(0);

    let folder = |store: &str| cluster.dir().join(store).join(held["folder"].as_str().unwrap());
    let manifest = fs::read(folder("copy").join("manifest.json")).unwrap();
    let altered = folder("lost").join("manifest.json");
    fs::write(&altered, b"{ \"format\": 2 }").unwrap();
    let refused = regions.copies().ends(10);
    refused.says("have other content than at the source").says("manifest.json");
    assert_eq!(fs::read(folder("copy").join("manifest.json")).unwrap(), manifest, "the good copy is as it was");
    fs::remove_dir_all(folder("lost")).unwrap();
    regions.copies().ends(0);
    assert_eq!(list("copy").as_array().unwrap().len(), 2, "what is deleted here stays there");
}
