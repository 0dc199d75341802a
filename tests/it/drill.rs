//! What a drill refuses, and that a real one leaves production alone.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::cli::{Cli, listing, processes_of, until};
use crate::support::recovery::Site;

/// A drill of one `run` step in which the database `orders` of the protected environment is at `pg`.
fn drill(step: &str, environment: &str) -> Cli {
    let cli = Cli::new();
    cli.file("pg/main/PG_VERSION", "15\n");
    let pgdata = cli.path("pg/main");
    cli.file(
        "runbook.yaml",
        &format!(
            "version: 1\nname: tried\ndatabases: {{ orders: {{ pgdata: {0} }} }}\nstores: {{ depot: {{ url: \"file://{0}-store\" }} }}\n\
             environments: {{ production: {{ protected: true, default: true }}{environment} }}\nsteps:\n  - {{ id: a, run: touch changed{step} }}\n",
            pgdata.display()
        ),
    );
    cli
}

const DRILL: &str = ", drill: {}";

#[track_caller]
fn is_refused(cli: &Cli, words: &str) {
    let before = listing(&cli.path(""));
    cli.run(&["drill", "runbook.yaml"]).ends(4).says(words).says("nothing was changed");
    assert_eq!(listing(&cli.path("")), before);
    assert!(cli.runs().is_empty());
}

#[test]
fn a_drill_without_an_environment_of_its_own_is_refused() {
    is_refused(&drill("", ""), "no environment `drill` is defined");
}

#[test]
fn a_script_that_may_write_anywhere_is_refused_in_a_drill() {
    is_refused(&drill("", DRILL), "may write anywhere");
    drill(", modes: [real, drill]", DRILL).run(&["drill", "runbook.yaml"]).ends(0);
    drill(", effect: read", DRILL).run(&["drill", "runbook.yaml"]).ends(0);
}

#[test]
fn what_the_drill_environment_does_not_name_is_read_only_to_it() {
    is_refused(
        &drill(", targets: [ { database: orders } ]", DRILL),
        "the database `orders`, which environment `drill` does not name",
    );
    is_refused(&drill(", targets: [ { store: depot } ]", DRILL), "the store `depot`");
}

#[test]
fn a_database_that_the_drill_names_but_shares_with_production_is_refused() {
    let shared = ", drill: { databases: { orders: { port: 5433 } } }";
    is_refused(&drill(", targets: [ { database: orders } ]", shared), "of the protected environment `production`");
}

#[test]
fn a_path_that_is_contains_or_lies_inside_protected_data_is_refused() {
    for tail in ["pg/main", "pg/main/base/1", "pg"] {
        let path = |cli: &Cli| cli.path(tail).display().to_string();
        let cli = drill(", targets: [ { path: PLACE } ]", DRILL);
        let text = cli.read("runbook.yaml").replace("PLACE", &path(&cli));
        cli.file("runbook.yaml", &text);
        is_refused(&cli, "of the protected environment `production`");
    }
}

#[test]
fn a_path_of_production_is_refused_and_one_of_the_drills_own_is_not() {
    let step = ", targets: [ { path: \"{{ vars.place }}\" } ]";
    let vars = "\nvars: { place: /tmp/rb-elsewhere }\nsteps:";
    let cli = drill(step, DRILL);
    cli.file("runbook.yaml", &cli.read("runbook.yaml").replace("\nsteps:", vars));
    is_refused(&cli, "of the protected environment `production`");
    let cli = drill(step, ", drill: { vars: { place: /tmp/rb-of-the-drill } }");
    cli.file("runbook.yaml", &cli.read("runbook.yaml").replace("\nsteps:", vars));
    cli.run(&["drill", "runbook.yaml"]).ends(0);
}

#[test]
fn a_link_to_protected_data_is_seen_through() {
    let cli = drill(", targets: [ { path: PLACE } ]", DRILL);
    std::os::unix::fs::symlink(cli.path("pg"), cli.path("innocent")).unwrap();
    let text = cli.read("runbook.yaml").replace("PLACE", &cli.path("innocent/main/base").display().to_string());
    cli.file("runbook.yaml", &text);
    is_refused(&cli, "of the protected environment `production`");
}

#[test]
fn a_bind_mount_of_protected_data_is_seen_through() {
    let own_mounts = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script]);
        command
    };
    let allowed = own_mounts("mount -t tmpfs none /mnt").output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("this machine does not let a test mount anything; bind mounts are judged by unit tests only");
        return;
    }
    let cli = drill(", targets: [ { path: PLACE } ]", DRILL);
    fs::create_dir(cli.path("innocent")).unwrap();
    let place = cli.path("innocent");
    let text = cli.read("runbook.yaml").replace("PLACE", &place.join("base").display().to_string());
    cli.file("runbook.yaml", &text);
    let script = format!(
        "mount --bind '{}' '{}' && exec '{}' drill runbook.yaml",
        cli.path("pg/main").display(),
        place.display(),
        env!("CARGO_BIN_EXE_runbook")
    );
    let output = own_mounts(&script).current_dir(cli.path("")).env("RUNBOOK_STATE", cli.state()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("of the protected environment `production`"), "{said}");
    assert!(!cli.path("changed").exists());
}

/// A production cluster with a base backup and later commits, and somebody who can drill its loss.
struct Production {
    site: Site,
    cli: Cli,
}

impl Production {
    fn new() -> Self {
        let site = Site::new();
        let cli = Cli::new();
        let cluster = &site.cluster;
        cli.file(
            "inventory.yaml",
            &format!(
                "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: primary, prefix: main,\n    \
                 checks: [ {{ name: rows, sql: SELECT count(*) FROM t, expect: '= 1000' }} ] }}\nstores: {{ primary: {{ url: \"file://{}\" }} }}\n\
                 environments:\n  production: {{ protected: true, default: true }}\n  \
                 drill: {{ databases: {{ main: {{ scratch: true }} }}, stores: {{ primary: {{ read_only: true }} }} }}\n",
                cluster.pgdata().display(),
                cluster.port(),
                cluster.socket_dir().display(),
                cluster.bin().display(),
                cluster.dir().join("store").display(),
            ),
        );
        cluster.sql("CREATE TABLE t(n int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 500)");
        let backup = ["run", "base-backup", "-p", "database=main", "--confirm", "production"];
        cli.run(&backup).ends(0);
        fs::remove_dir_all(cli.state()).unwrap();
        cluster.sql("INSERT INTO t SELECT generate_series(501, 1000)");
        site.archive();
        Self { site, cli }
    }

    /// What a drill must not change: the server, its data, its configuration, its store.
    fn facts(&self) -> Vec<String> {
        let cluster = &self.site.cluster;
        let sql = "SELECT pg_postmaster_start_time(), (SELECT system_identifier FROM pg_control_system()), \
                   (SELECT timeline_id FROM pg_control_checkpoint()), sum(n), count(*), md5(string_agg(n::text, ',' ORDER BY n)) FROM t";
        let mut facts = vec![cluster.sql(sql)];
        let top = fs::read_dir(cluster.pgdata()).unwrap().flatten();
        let mut names: Vec<String> = top.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        facts.push(names.join(" "));
        for name in ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "postmaster.opts", "PG_VERSION"] {
            facts.push(fs::read_to_string(cluster.pgdata().join(name)).unwrap());
        }
        let beside = fs::read_dir(cluster.dir()).unwrap().flatten();
        let mut beside: Vec<PathBuf> = beside.map(|entry| entry.path()).collect();
        beside.sort();
        facts.push(format!("{beside:?}"));
        facts.extend(listing(&cluster.dir().join("store")));
        facts
    }

    fn nothing_is_left(&self) {
        let scratch = self.cli.state().join("scratch");
        let left = listing(&scratch);
        assert!(left.is_empty(), "{left:#?}");
        let running = processes_of(self.cli.dir());
        assert!(running.is_empty(), "{running:#?}");
        let kind = |event: &Value, name: &str| event["kind"]["type"] == name;
        let resources = |name: &str| {
            let mut found: Vec<String> = self
                .cli
                .journal()
                .iter()
                .filter(|event| kind(event, name))
                .map(|event| event["kind"]["resource"].to_string())
                .collect();
            found.sort();
            found.dedup();
            found
        };
        let registered = resources("resource_registered");
        assert!(!registered.is_empty());
        assert_eq!(resources("resource_removed"), registered);
    }
}

const LOSS: [&str; 4] = ["drill", "full-db-loss", "-p", "database=main"];

#[test]
fn a_drill_of_a_lost_database_leaves_production_as_it_was_and_nothing_behind() {
    let production = Production::new();
    let before = production.facts();
    production.cli.run(&LOSS).ends(0);
    assert_eq!(production.facts(), before);
    production.nothing_is_left();
    let shown = production.cli.shown();
    assert_eq!(shown["outcome"], "succeeded");
    assert!(shown["figures"]["rto_ms"].as_u64().is_some_and(|taken| taken > 0), "{:#}", shown["figures"]);
}

#[test]
fn a_drill_that_was_killed_half_way_is_finished_and_cleaned_up_by_resume() {
    let production = Production::new();
    let before = production.facts();
    let live = production.cli.spawn(&LOSS);
    let recovering = |event: &Value| event["kind"]["type"] == "attempt_started" && event["kind"]["step"] == "recover";
    until("the recovery begins", || {
        !production.cli.runs().is_empty() && production.cli.journal().iter().any(recovering)
    });
    assert!(live.kill());
    assert!(!listing(&production.cli.state().join("scratch")).is_empty());
    production.cli.run(&["resume", "last"]).ends(0);
    assert_eq!(production.facts(), before);
    production.nothing_is_left();
}
