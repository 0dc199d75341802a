//! Mistakes of somebody who uses the program for the first time: each is answered with what to do next.

use crate::support::cli::{Cli, until};

const INVENTORY: &str = "version: 1\ndatabases: { orders: { pgdata: /nowhere/orders } }\n";

fn asking(params: &str) -> Cli {
    let cli = Cli::with(&format!(
        "version: 1\nname: asking\nparams:\n{params}\nsteps:\n  - {{ id: a, run: 'true', env: {{ X: \"{{{{ params.x }}}}\" }} }}\n"
    ));
    cli.file("inventory.yaml", INVENTORY);
    cli
}

#[test]
fn a_missing_parameter_is_answered_with_the_words_to_add() {
    let cli = asking("  x: { type: database }\n  incident_at: { type: timestamp }");
    cli.run(&["run", "runbook.yaml"]).ends(2).says("add `-p x=orders`").says("add `-p incident_at='5m ago'`");
}

#[test]
fn a_wrong_name_is_answered_with_the_right_ones_or_where_they_come_from() {
    let cli = asking("  x: { type: database }");
    cli.run(&["run", "runbook.yaml", "-p", "x=ordres"]).ends(2).says("no database `ordres`").says("`orders`");
    cli.file("inventory.yaml", "version: 1\n");
    cli.run(&["run", "runbook.yaml", "-p", "x=orders"]).ends(2).says("--inventory FILE");
}

#[test]
fn allowed_values_are_read_as_values_of_their_type() {
    let cli = asking("  x: { type: size, enum: [16MiB, 1GiB] }");
    cli.run(&["run", "runbook.yaml", "-p", "x=16MiB"]).ends(0);
    cli.run(&["run", "runbook.yaml", "-p", "x=17MiB"]).ends(2).says("allowed: `16MiB`, `1GiB`");
}

#[test]
fn a_default_that_check_accepts_can_be_evaluated() {
    let cli = asking("  x: { default: \"{{ run.name }} of {{ run.environment }}\" }");
    cli.run(&["check", "runbook.yaml"]).ends(0);
    cli.run(&["run", "runbook.yaml"]).ends(0);
    let plan = std::fs::read_to_string(cli.only_run().join("plan.json")).expect("a plan");
    assert!(plan.contains("asking of default"), "{plan}");
}

#[test]
fn templates_in_targets_are_checked_like_any_other() {
    let cli = Cli::with(
        "version: 1\nname: t\nsteps:\n  - { id: a, run: 'true', targets: [ { path: \"/srv/{{ params.nothing }}\" } ] }\n",
    );
    cli.run(&["check", "runbook.yaml"]).ends(3).says("RB0301").says("nothing");
}

#[test]
fn an_answer_to_a_run_that_has_ended_is_refused() {
    let cli = Cli::with("version: 1\nname: t\nsteps:\n  - { id: a, run: 'exit 1' }\n");
    cli.run(&["run", "runbook.yaml"]).ends(10);
    cli.run(&["resume", "last", "--done", "a"]).ends(2).says("has ended (failed)").says("start a new run");
    cli.run(&["resume", "last"]).ends(10);
}

#[test]
fn the_command_to_run_again_names_the_runbook_not_the_inventory() {
    let cli = Cli::with("version: 1\nname: t\nsteps:\n  - { id: a, run: 'exit 1' }\n");
    cli.file("other.yaml", INVENTORY);
    cli.run(&["run", "runbook.yaml", "--inventory", "other.yaml"]).ends(10).says("runbook run runbook.yaml -e default");
}

#[test]
fn the_command_to_drill_again_leaves_the_next_drill_its_own_incident() {
    let cli = Cli::with(
        "version: 1\nname: t\nparams: { incident_at: { type: timestamp } }\nenvironments: { drill: {} }\n\
         steps:\n  - { id: a, run: 'exit 1', effect: none }\n",
    );
    let own = cli.run(&["drill", "runbook.yaml"]).ends(10).says("runbook drill runbook.yaml").err;
    assert!(!own.contains("incident_at="), "{own}");
    cli.run(&["drill", "runbook.yaml", "-p", "incident_at=2026-01-28T15:30:00Z"])
        .ends(10)
        .says("-p incident_at=2026-01-28T15:30:00Z");
}

#[test]
fn the_example_with_an_approval_is_answered_from_another_terminal_and_taken_back() {
    let cli = Cli::with(include_str!("../../examples/deploy-with-approval.yaml"));
    let folder = format!("folder={}", cli.path("sites").display());
    cli.run(&["dry-run", "runbook.yaml", "-p", &folder]).ends(0).prints("nobody is asked in a dry run");
    let live = cli.spawn(&["run", "runbook.yaml", "--wait", "-p", &folder]);
    until("it asks", || live.said().contains("? agree"));
    cli.run(&["approve", "last", "agree"]).ends(2).says("add `--input ticket=VALUE`");
    cli.run(&["approve", "last", "agree", "--as", "ada", "--input", "ticket=C-1", "--within", "60s"]).ends(0);
    until("it tells what to do", || live.said().contains("? look"));
    cli.run(&["approve", "last", "look", "--within", "60s"]).ends(0).says("it names the new release");
    live.wait().ends(0);
    let shown = |site: &str| cli.read(&format!("sites/{site}/current/index.html"));
    assert_eq!((shown("amsterdam"), shown("cork")), ("release 2.0.0\n".to_owned(), "release 2.0.0\n".to_owned()));
    cli.run(&["logs", "last", "tell"]).ends(0).prints("of C-1 ended succeeded");

    let newer = cli.spawn(&["run", "runbook.yaml", "--wait", "-p", &folder, "-p", "release=2.0.1"]);
    until("it asks", || newer.said().contains("? agree"));
    cli.run(&["approve", "last", "agree", "--input", "ticket=C-2", "--within", "60s"]).ends(0);
    until("it tells what to do", || newer.said().contains("? look"));
    assert_eq!(shown("berlin"), "release 2.0.1\n");
    cli.run(&["deny", "last", "look", "--comment", "it is blank", "--within", "60s"]).ends(0);
    newer.wait().ends(10).says("it is blank");
    cli.run(&["undo", "last", "--reason", "it is blank"]).ends(0);
    assert_eq!(shown("berlin"), "release 2.0.0\n");
}

#[test]
fn a_name_that_is_nearly_a_file_or_a_step_is_answered_with_the_right_one() {
    let cli =
        Cli::with("version: 1\nname: t\nsteps:\n  - { id: first, run: 'true' }\n  - { id: second, run: 'exit 1' }\n");
    cli.run(&["run", "runbook"]).ends(2).says("did you mean `runbook.yaml`?");
    cli.run(&["run", "runbok.yml"]).ends(2).says("did you mean `runbook.yaml`?");
    cli.run(&["run", "elsewhere"]).ends(2).says("a path, or one of");
    cli.run(&["run", "runbook.yaml"]).ends(10);
    cli.run(&["run", "runbook.yaml", "--from", "secund", "--of", "last"]).ends(2).says("did you mean `second`?");
}

#[test]
fn a_declared_output_of_a_program_can_be_given_by_hand() {
    let cli = Cli::with(
        "version: 1\nname: t\nsteps:\n  - { id: copy, on_failure: pause, run: 'exit 3', outputs: { rows: text } }\n  \
         - { id: tell, run: 'echo \"$ROWS rows\"', env: { ROWS: \"{{ steps.copy.rows }}\" } }\n",
    );
    cli.run(&["run", "runbook.yaml"]).ends(13);
    cli.run(&["mark-done", "last", "copy", "--output", "rows=42"]).ends(0);
    cli.run(&["resume", "last"]).ends(5);
    cli.run(&["logs", "last", "tell"]).ends(0).prints("42 rows");
}
