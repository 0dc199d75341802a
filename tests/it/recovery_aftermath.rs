//! What a recovery leaves behind: frozen backups and folders beside the data, and what ends each of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::cli::{Cli, Ran};
use crate::support::production::Production;

const CONFIRM: [&str; 2] = ["--confirm", "production"];

fn status(production: &Production) -> Value {
    production.cli.run(&["status", "--json"]).json()[0].clone()
}

fn rows(production: &Production) -> String {
    production.site.cluster.sql("SELECT count(*), sum(n) FROM t")
}

/// A recovery whose server cannot fetch WAL any more when it is tried: it fails before it moves anything.
fn locked_out(production: &Production) -> Ran {
    let store = production.site.depot.root.display().to_string();
    let lock =
        format!("if [ \"$(id -u)\" = 0 ]; then chown 0:0 {store}; chmod 700 {store}; else chmod 000 {store}; fi");
    production.cli.file(
        "attempt.yaml",
        &format!(
            "version: 1\nname: attempt\nparams:\n  database: {{ type: database }}\n  incident_at: {{ type: timestamp }}\nsteps:\n  \
             - {{ id: choose, uses: backup.find, with: {{ database: '{{{{ params.database }}}}' }} }}\n  \
             - {{ id: stage, uses: postgres.restore_base, with: {{ database: '{{{{ params.database }}}}', backup: '{{{{ steps.choose.backup }}}}' }} }}\n  \
             - id: stop_server\n    uses: postgres.stop\n    with: {{ database: '{{{{ params.database }}}}', if_running: true }}\n    \
             undo: {{ uses: postgres.start, with: {{ database: '{{{{ params.database }}}}', only_if: stopped, stopped: '{{{{ steps.stop_server.stopped }}}}' }} }}\n  \
             - {{ id: lock_out, run: '{lock}' }}\n  \
             - {{ id: recover, uses: postgres.recover, with: {{ database: '{{{{ params.database }}}}', staged: '{{{{ steps.stage.staged }}}}' }} }}\n"
        ),
    );
    let run = ["run", "attempt.yaml", "-p", "database=main", "-p", "incident_at=now", CONFIRM[0], CONFIRM[1]];
    let failed = production.cli.run(&run).ends(10);
    let open = format!("chown --reference={} {store}; chmod 755 {store}", production.site.cluster.pgdata().display());
    assert!(Command::new("sh").args(["-c", &open]).status().unwrap().success());
    failed
}

/// The command that a line says removes what is left.
fn removal(status: &Value, word: &str) -> String {
    let left = status["left"].as_array().unwrap_or_else(|| panic!("nothing is left: {status:#}"));
    let is_it = |one: &&Value| one["path"].as_str().unwrap().contains(word);
    let found = left.iter().find(is_it).unwrap_or_else(|| panic!("no `{word}` in {status:#}"));
    found["remove"].as_str().unwrap_or_else(|| panic!("it must stay: {found:#}")).to_owned()
}

#[test]
fn an_undo_of_a_recovery_that_came_to_its_end_says_that_it_is_not_taken_back_and_where_the_old_data_lies() {
    let production = Production::new();
    let cli = &production.cli;
    cli.run(&["restore", "main", CONFIRM[0], CONFIRM[1]]).ends(0);
    let undone = cli.run(&["undo", "last", CONFIRM[0], CONFIRM[1]]).ends(5);
    undone.says("a recovery has no undo").says(".runbook-old-").says("runbook restore main --timeline");
    assert_eq!(rows(&production), "1000|500500");
}

#[test]
fn a_failed_recovery_says_what_is_frozen_and_left_and_its_undo_lifts_the_freeze_as_nothing_was_replaced() {
    let production = Production::new();
    let cli = &production.cli;
    let failed = locked_out(&production).says("frozen").says("run lift-freeze").says("left beside the data");
    assert!(failed.err.contains("rm -rf -- ") && failed.err.contains(".runbook-staged-"), "{}", failed.err);
    let freezes = || fs::read_dir(production.site.depot.root.join("main/freeze")).unwrap().count();
    assert!(freezes() > 0, "whoever prunes that place finds it there");
    cli.run(&["undo", "last", CONFIRM[0], CONFIRM[1]]).ends(0);
    assert_eq!(rows(&production), "1000|500500");
    let now = status(&production);
    assert_eq!(now["open"], Value::Null, "{now:#}");
    cli.run(&["backup", CONFIRM[0], CONFIRM[1]]).ends(0);
    let remove = removal(&now, ".runbook-staged-");
    assert!(Command::new("sh").args(["-c", &remove]).status().unwrap().success());
    let left = status(&production)["left"].to_string();
    assert!(!left.contains(".runbook-staged-"), "{left}");
}

#[test]
fn a_freeze_of_a_run_that_is_over_or_not_known_here_is_told_with_what_lifts_it() {
    let production = Production::new();
    let (cli, cluster) = (&production.cli, &production.site.cluster);
    // Cut off between the stop of the server and the swap, as by Ctrl-C; then somebody starts the server by hand.
    cli.file(
        "attempt.yaml",
        "version: 1\nname: attempt\nsteps:\n  - { id: choose, uses: backup.find, with: { database: main } }\n  \
         - { id: stage, uses: postgres.restore_base, with: { database: main, backup: '{{ steps.choose.backup }}' } }\n  \
         - id: stop_server\n    uses: postgres.stop\n    with: { database: main, if_running: true }\n    \
         undo: { uses: postgres.start, with: { database: main, only_if: stopped, stopped: '{{ steps.stop_server.stopped }}' } }\n  \
         - { id: cut_off, run: 'false' }\n  \
         - { id: recover, uses: postgres.recover, with: { database: main, staged: '{{ steps.stage.staged }}' } }\n",
    );
    cli.run(&["run", "attempt.yaml", CONFIRM[0], CONFIRM[1]]).ends(10).says("frozen");
    cluster.up();
    let now = status(&production);
    assert_eq!((&now["open"], &now["frozen"][0]["run"]), (&Value::Null, &cli.id().into()), "{now:#}");
    assert!(now["level"] != "ok" && now["frozen"][0]["host"].is_string(), "{now:#}");
    let undo = format!("runbook undo {} --confirm production", cli.id());
    cli.run(&["status"]).prints("prune, unattended backups and lifecycle changes are frozen").prints(&undo);

    let other = Cli::new();
    other.file("inventory.yaml", &cli.read("inventory.yaml"));
    let theirs = other.run(&["status", "--json"]).json()[0].clone();
    assert_eq!(theirs["frozen"][0]["known_here"], Value::Bool(false), "{theirs:#}");
    let told = theirs.to_string();
    assert!(told.contains("may still work on this data") && !told.contains("has ended had staged"), "{theirs:#}");
    let why = other.run(&["restore", "main"]).err;
    assert!(why.contains("is not known here") && why.contains(&cli.id()), "{why}");

    cli.run(&["undo", "last", CONFIRM[0], CONFIRM[1]]).ends(0);
    assert_eq!(status(&production)["frozen"], Value::Null, "its undo lifts it");
}

#[test]
fn old_data_may_go_once_a_recovery_has_gone_well_and_never_while_the_data_directory_is_unfinished() {
    let production = Production::new();
    let (cli, pgdata) = (&production.cli, production.site.cluster.pgdata());
    cli.run(&["restore", "main", CONFIRM[0], CONFIRM[1]]).ends(0);
    let remove = removal(&status(&production), ".runbook-old-");
    let (version, aside) = (pgdata.join("PG_VERSION"), pgdata.join("PG_VERSION.aside"));
    fs::rename(&version, &aside).unwrap();
    let told = cli.run(&["status", "main"]).prints("it stays until a recovery has gone well");
    assert!(!told.out.contains("rm -rf"), "{}", told.out);
    fs::rename(&aside, &version).unwrap();
    cli.run(&["status", "main"]).prints(&remove);
    assert!(Command::new("sh").args(["-c", &remove]).status().unwrap().success());
    assert_eq!(rows(&production), "1000|500500");
}

#[test]
fn the_undo_of_a_recovery_that_opened_and_was_never_proven_does_not_start_what_it_recovered() {
    let production = Production::new();
    let (cli, cluster) = (&production.cli, &production.site.cluster);
    let kept = cli.dir().join("marker.json");
    let staged = format!("{}.runbook-staged-*", cluster.pgdata().display());
    let name = "runbook-restore.json";
    cli.file(
        "attempt.yaml",
        &format!(
            "version: 1\nname: attempt\nsteps:\n  \
             - {{ id: choose, uses: backup.find, with: {{ database: main }} }}\n  \
             - {{ id: stage, uses: postgres.restore_base, with: {{ database: main, backup: '{{{{ steps.choose.backup }}}}' }} }}\n  \
             - {{ id: keep, run: 'cp {staged}/{name} {}' }}\n  \
             - id: stop_server\n    uses: postgres.stop\n    with: {{ database: main, if_running: true }}\n    \
             undo: {{ uses: postgres.start, with: {{ database: main, only_if: stopped, stopped: '{{{{ steps.stop_server.stopped }}}}' }} }}\n  \
             - {{ id: recover, uses: postgres.recover, with: {{ database: main, staged: '{{{{ steps.stage.staged }}}}' }} }}\n  \
             - {{ id: prove, run: 'false' }}\n",
            kept.display()
        ),
    );
    cli.run(&["run", "attempt.yaml", CONFIRM[0], CONFIRM[1]]).ends(10).says("prove");
    // As if the recovery had died between the opening and the proof that the server archives.
    cluster.stop("fast");
    let mut marker: Value = serde_json::from_str(&fs::read_to_string(&kept).unwrap()).unwrap();
    marker["opened"] = serde_json::json!({ "timeline": 2, "newest_commit": null, "is_short": false });
    fs::write(cluster.pgdata().join(name), marker.to_string()).unwrap();
    cluster.give(&cluster.pgdata().join(name));
    cli.run(&["undo", "last", CONFIRM[0], CONFIRM[1]]).ends(10).says("whose recovery has not ended");
    assert!(!cluster.pgdata().join("postmaster.pid").exists());
}

#[test]
fn the_undo_of_a_recovery_that_failed_after_the_swap_says_where_the_old_data_lies_also_where_no_server_ran_before() {
    let production = Production::new();
    let (cli, cluster) = (&production.cli, &production.site.cluster);
    let staged = format!("{}.runbook-staged-*", cluster.pgdata().display());
    cli.file(
        "attempt.yaml",
        &format!(
            "version: 1\nname: attempt\nsteps:\n  \
             - {{ id: choose, uses: backup.find, with: {{ database: main }} }}\n  \
             - {{ id: stage, uses: postgres.restore_base, with: {{ database: main, backup: '{{{{ steps.choose.backup }}}}' }} }}\n  \
             - {{ id: spoil, run: \"echo shared_preload_libraries = not_there >> $(echo {staged})/postgresql.conf\" }}\n  \
             - id: stop_server\n    uses: postgres.stop\n    with: {{ database: main, if_running: true }}\n    \
             undo: {{ uses: postgres.start, with: {{ database: main, only_if: stopped, stopped: '{{{{ steps.stop_server.stopped }}}}' }} }}\n  \
             - {{ id: recover, uses: postgres.recover, with: {{ database: main, staged: '{{{{ steps.stage.staged }}}}' }} }}\n"
        ),
    );
    cluster.stop("immediate");
    cli.run(&["run", "attempt.yaml", CONFIRM[0], CONFIRM[1]]).ends(10).says("not_there").says("undo ");
    let run = cli.id();
    let kept = format!("{}.runbook-old-{run}", cluster.pgdata().display());
    assert!(Path::new(&kept).exists(), "it failed after the swap");
    let undone = cli.run(&["undo", "last", CONFIRM[0], CONFIRM[1]]).ends(10);
    let undone = undone.says("no server ran before, so none is started").says("whose recovery has not ended");
    let undone = undone.says(&format!("the old data lies in `{kept}`")).says("or take the old data back: ");
    assert!(!undone.err.contains("nothing to undo"), "{}", undone.err);
    // As it is printed, but for the start.
    let back = undone.err.split("or take the old data back: `").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
    let (back, _start) = back.rsplit_once(" && ").unwrap();
    assert!(Command::new("sh").args(["-c", back]).status().unwrap().success(), "{back}");
    cluster.up();
    assert_eq!(rows(&production), "1000|500500");
    // Now there is nothing of that run any more.
    cluster.stop("immediate");
    cli.run(&["undo", &run, CONFIRM[0], CONFIRM[1]]).ends(0).says("that step stopped no server, so none is started");
}
