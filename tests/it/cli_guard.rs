//! What stands between a slip and the wrong database: environments, confirmation, the guard of drills, the echo of times.

use std::fs;

use crate::support::cli::{Cli, listing};

const PRODUCTION: &str = "environments: { production: { protected: true, default: true }, drill: {} }\n";

fn runbook(rest: &str, steps: &str) -> String {
    format!("version: 1\nname: tried\n{rest}steps:\n{steps}")
}

#[test]
fn the_environment_of_drills_is_not_open_to_runs_where_nothing_is_guarded() {
    let touch = "  - { id: a, run: touch changed, modes: [real, drill] }\n";
    let cli = Cli::with(&runbook(PRODUCTION, touch));
    cli.run(&["run", "runbook.yaml", "-e", "drill"]).ends(2).says("runbook drill");
    let marked = Cli::with(&runbook("environments: { drill: { default: true } }\n", touch));
    marked.run(&["run", "runbook.yaml"]).ends(2).says("runbook drill");
    assert!(!cli.path("changed").exists() && !marked.path("changed").exists());
    cli.run(&["drill", "runbook.yaml"]).ends(0);
}

#[test]
fn a_confirmation_that_names_another_environment_is_refused_where_none_is_wanted_too() {
    let environments = "environments: { lab: {}, production: { protected: true } }\n";
    let cli = Cli::with(&runbook(environments, "  - { id: a, run: touch changed }\n"));
    let mixed_up = ["run", "runbook.yaml", "-e", "lab", "--confirm", "production"];
    cli.run(&mixed_up).ends(4).says("does not name the environment of this run, `lab`");
    assert!(!cli.path("changed").exists());
}

#[test]
fn a_dry_run_of_the_drill_is_judged_by_the_guard_and_writes_nothing() {
    let cli = Cli::new();
    let store = cli.dir().join("backups");
    fs::create_dir(&store).expect("a folder");
    std::os::unix::fs::symlink(&store, cli.path("shortcut")).expect("a link");
    let target = cli.path("shortcut").join("new");
    let rest = format!("{PRODUCTION}stores: {{ primary: {{ url: \"file://{}\" }} }}\n", store.display());
    let step = format!("  - {{ id: a, run: 'true', targets: [ {{ path: {} }} ] }}\n", target.display());
    cli.file("runbook.yaml", &runbook(&rest, &step));
    let before = listing(cli.dir());
    for command in [&["dry-run", "runbook.yaml", "-e", "drill"][..], &["dry-run", "runbook.yaml"][..]] {
        let code = if command.len() > 2 { 4 } else { 0 };
        cli.run(command).ends(code);
    }
    assert_eq!(before, listing(cli.dir()));
    cli.run(&["drill", "runbook.yaml"])
        .ends(4)
        .says("store `primary`")
        .says("of the protected environment `production`");
}

#[test]
fn a_drill_may_write_to_the_folder_of_its_own_run() {
    let step = "  - { id: a, run: 'true', targets: [ { path: \"{{ run.scratch }}/x\" } ] }\n";
    Cli::with(&runbook(PRODUCTION, step)).run(&["drill", "runbook.yaml"]).ends(0);
}

#[test]
fn a_declared_target_that_the_inventory_does_not_know_is_refused_before_the_run() {
    let step = "  - { id: a, run: touch changed, targets: [ { database: \"{{ params.name }}\" } ] }\n";
    let cli = Cli::with(&runbook("params: { name: { type: string } }\n", step));
    cli.run(&["run", "runbook.yaml", "-p", "name=oders"]).ends(3).says("there is no database `oders`");
    assert!(!cli.path("changed").exists());
}

#[test]
fn points_in_time_are_told_in_utc_and_in_local_time_before_anything_happens() {
    let rest = "params: { incident_at: { type: timestamp }, to: { type: timestamp, required: false } }\n";
    let text = runbook(rest, "  - { id: a, run: 'true', env: { TO: \"{{ params.to }}\" } }\n");
    let cli = Cli::with(&text).var("TZ", "Europe/Berlin");
    let to = "to=2026-01-28 14:30 Europe/Berlin";
    for command in ["run", "dry-run"] {
        cli.run(&[command, "runbook.yaml", "-p", "incident_at=5m ago", "-p", to])
            .ends(0)
            .says("to: 2026-01-28 13:30:00 UTC, 2026-01-28 14:30:00 Europe/Berlin")
            .says("5m 00s ago");
    }
}

#[test]
fn a_report_that_cannot_be_written_does_not_hide_how_the_run_ended() {
    let cli = Cli::new();
    let folder = cli.state().join("runs");
    let step = format!(
        "  - {{ id: a, run: 'mkdir \"{}/$ID/report.html\"', env: {{ ID: \"{{{{ run.id }}}}\" }} }}\n",
        folder.display()
    );
    cli.file("runbook.yaml", &runbook("", &step));
    cli.run(&["run", "runbook.yaml"]).ends(0).says("the report cannot be written").says("`tried` succeeded");
}

#[test]
fn numbers_reach_a_script_as_text() {
    let rest = "params: { n: { type: int, default: 3 } }\n";
    let steps = "  - { id: a, run: 'exit 0' }\n  - { id: b, run: 'echo \"$N and $CODE\"', env: { N: \"{{ params.n }}\", CODE: \"{{ steps.a.exit_code }}\" } }\n";
    let cli = Cli::with(&runbook(rest, steps));
    cli.run(&["run", "runbook.yaml"]).ends(0);
    cli.run(&["logs", "last", "b"]).ends(0).prints("3 and 0");
}
