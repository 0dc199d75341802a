//! Plans in files, and what differs between runs.

use std::fs;

use crate::support::cli::Cli;

const RUNBOOK: &str = r#"
version: 1
name: copy
params:
  from: { type: string }
  incident_at: { type: timestamp }
steps:
  - { id: look, uses: exec, with: { argv: [echo, "{{ params.from }}"] }, effect: read }
  - id: note
    run: echo "$WHAT" >>made
    env: { WHAT: "{{ steps.look.stdout }} {{ params.incident_at }}" }
"#;

fn planned() -> Cli {
    let cli = Cli::with(RUNBOOK);
    cli.run(&["plan", "runbook.yaml", "-p", "from=a", "-o", "copy.plan"]).ends(0).says("incident_at: open");
    cli
}

#[test]
fn a_plan_that_still_holds_is_carried_out_with_what_it_left_open() {
    let cli = planned();
    cli.run(&["plan", "copy.plan"]).ends(0).says("it holds");
    cli.run(&["run", "copy.plan"]).ends(2).says("incident_at");
    assert!(cli.runs().is_empty());
    cli.run(&["run", "copy.plan", "-p", "incident_at=2026-01-01T00:00:00Z"]).ends(0);
    assert_eq!(cli.read("made"), "a 2026-01-01T00:00:00Z\n");
    assert_eq!(cli.shown()["outcome"], "succeeded");
}

#[test]
fn each_difference_is_named_and_nothing_is_run() {
    let at = "incident_at=5m ago";
    let cli = planned();
    cli.run(&["run", "copy.plan", "-p", at, "-p", "from=b"]).ends(4).says("parameter `from` was `a` and is `b`");
    cli.file("runbook.yaml", &RUNBOOK.replace(">>made", ">>other"));
    cli.run(&["run", "copy.plan", "-p", at]).ends(4).says("file `runbook.yaml` was changed").says("step `note`");
    cli.run(&["plan", "copy.plan"]).ends(4).says("file `runbook.yaml` was changed");
    cli.file("runbook.yaml", "version: 1\nname: copy\nsteps: 3\n");
    cli.run(&["run", "copy.plan", "-p", at]).ends(4).says("file `runbook.yaml` was changed");
    cli.file("runbook.yaml", RUNBOOK);
    cli.file("inventory.yaml", "version: 1\nstores: { s: { url: \"file:///nowhere\" } }\n");
    cli.run(&["run", "copy.plan", "-p", at])
        .ends(4)
        .says("file `inventory.yaml` is new")
        .says("inventory entry `stores.s`");
    fs::remove_file(cli.path("runbook.yaml")).expect("a file");
    cli.run(&["run", "copy.plan", "-p", at]).ends(4).says("runbook.yaml");
    assert!(cli.runs().is_empty() && cli.read("made").is_empty());
}

#[test]
fn a_plan_that_was_edited_or_is_asked_for_more_is_refused() {
    let cli = planned();
    let text = cli.read("copy.plan");
    cli.run(&["run", "copy.plan", "--undo-on-failure"]).ends(2).says("as it is");
    cli.file("copy.plan", &text.replacen("\"from\": \"a\"", "\"from\": \"b\"", 1));
    cli.run(&["run", "copy.plan"]).ends(4).says("changed after it was made");
    cli.file("copy.plan", &text.replacen("\"runbook_plan\": 1", "\"runbook_plan\": 9", 1));
    cli.run(&["run", "copy.plan"]).ends(3).says("format 9");
}

#[test]
fn two_runs_are_compared_by_definition_inputs_and_steps() {
    let cli = Cli::with(RUNBOOK);
    let at = "incident_at=2026-01-01T00:00:00Z";
    cli.run(&["run", "runbook.yaml", "-p", "from=a", "-p", at]).ends(0);
    cli.file("runbook.yaml", &RUNBOOK.replace("echo \"$WHAT\"", "exit 3; echo \"$WHAT\""));
    cli.run(&["run", "runbook.yaml", "-p", "from=b", "-p", at]).ends(10);
    let names: Vec<String> =
        cli.runs().iter().map(|run| run.file_name().expect("a name").to_string_lossy().into_owned()).collect();
    cli.run(&["diff", &names[0], &names[1]])
        .ends(0)
        .prints("+    run: exit 3; echo \"$WHAT\" >>made")
        .prints("parameter `from` was `a` and is `b`")
        .prints("succeeded → failed");
    let told = cli.run(&["diff", &names[0], &names[1], "--json"]).ends(0).json();
    assert_eq!(told["steps"][0]["outputs"][0]["new"], "b");
    assert_eq!(told["steps"][1]["status"], serde_json::json!(["succeeded", "failed"]));
    assert_eq!((&told["old"]["exit_code"], &told["new"]["exit_code"]), (&0.into(), &10.into()));
}
