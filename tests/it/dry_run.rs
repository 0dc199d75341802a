//! What a dry run proves, and that it writes nothing.

use serde_json::Value;

use crate::support::cli::{Cli, listing};

const RUNBOOK: &str = r#"
version: 1
name: levels
objectives: { rto: 1ms }
steps:
  - { id: look, uses: exec, with: { argv: [echo, hello] }, effect: read }
  - { id: script, effect: read, run: 'echo "$TEXT"', env: { TEXT: "{{ steps.look.stdout }}" } }
  - { id: judge, uses: assert, with: { that: "{{ steps.script.stdout == 'hello' }}", message: no } }
  - { id: never, when: steps.look.stdout == 'bye', run: touch never }
  - { id: write, run: touch written }
  - { id: late, uses: assert, with: { that: "{{ steps.write.exit_code == 7 }}", message: no } }
  - { id: again, uses: exec, with: { argv: [ls, written] }, effect: read }
finally:
  - { id: tell, uses: notify.command, with: { argv: [touch, told], text: "{{ run.outcome }}" } }
"#;

fn step<'a>(told: &'a Value, id: &str) -> &'a Value {
    let steps = told["steps"].as_array().expect("steps");
    steps.iter().find(|step| step["id"] == id).unwrap_or_else(|| panic!("no `{id}`"))
}

#[test]
fn what_only_reads_is_made_and_nothing_is_written() {
    let cli = Cli::with(RUNBOOK);
    let before = listing(cli.dir());
    let told = cli.run(&["dry-run", "runbook.yaml", "--json"]).ends(0).json();
    assert_eq!(listing(cli.dir()), before, "neither a run, nor scratch, nor a lock");
    for (id, level, reason) in [
        ("look", 2, ""),
        ("script", 2, ""),
        ("judge", 2, ""),
        ("never", 2, "its condition is false now: it would be skipped"),
        ("write", 1, "it would change something"),
        ("late", 0, "its values come from `write`, which was not made"),
        ("again", 1, "it looks at what `never` would have changed"),
        ("tell", 1, "it would change something"),
    ] {
        assert_eq!((&step(&told, id)["level"], &step(&told, id)["reason"]), (&level.into(), &reason.into()), "{id}");
    }
    assert_eq!(told["unproved"], serde_json::json!(["late"]));
}

#[test]
fn a_step_that_reads_and_fails_is_a_refusal_and_what_follows_is_named() {
    let cli = Cli::with(&RUNBOOK.replace("argv: [echo, hello]", "argv: [sh, -c, exit 9]"));
    let told = cli.run(&["dry-run", "runbook.yaml", "--json"]).ends(4).json();
    assert_eq!(step(&told, "look")["refused"], true);
    assert!(step(&told, "look")["findings"].to_string().contains("exit code 9"));
    assert_eq!(step(&told, "write")["reason"], "it was not reached: a step before it failed");
    cli.run(&["dry-run", "runbook.yaml", "--level", "1"]).ends(0).says("nothing was written");
}

#[test]
fn a_template_that_cannot_work_is_found_before_the_run() {
    let wrong =
        RUNBOOK.replace("id: write, run", "id: write, preconditions: [{ that: \"steps.look.stdout == 'x'\" }], run");
    let cli = Cli::with(&wrong);
    let told = cli.run(&["dry-run", "runbook.yaml", "--json"]).ends(4).json();
    assert_eq!(step(&told, "write")["refused"], true, "{told:#}");
}

#[test]
fn a_forecast_over_the_rto_refuses_only_when_it_is_asked_to() {
    let cli = Cli::with(&RUNBOOK.replace("exit_code == 7", "exit_code == 0"));
    cli.run(&["dry-run", "runbook.yaml", "--strict"]).ends(0).prints("forecast: none yet");
    cli.run(&["run", "runbook.yaml"]).ends(0);
    cli.run(&["dry-run", "runbook.yaml"]).ends(0).prints("over the RTO of 1ms");
    cli.run(&["dry-run", "runbook.yaml", "--strict"]).ends(4).says("exceeds the RTO");
    let told = cli.run(&["dry-run", "runbook.yaml", "--json"]).ends(0).json();
    assert_eq!((&told["forecast"]["runs"], &told["forecast"]["steps"][0]["samples"]), (&1.into(), &1.into()));
}

#[test]
fn a_forecast_from_past_runs_writes_nothing_either() {
    let cli = Cli::with("version: 1\nname: short\nsteps:\n  - { id: a, run: 'true' }\n");
    cli.run(&["run", "runbook.yaml"]).ends(0);
    let before = listing(cli.dir());
    cli.run(&["dry-run", "runbook.yaml"]).ends(0).prints("from 1 past runs");
    cli.run(&["plan", "runbook.yaml"]).ends(0);
    assert_eq!(listing(cli.dir()), before);
}

#[test]
fn what_people_would_fill_in_has_a_sample_and_an_undo_is_told_for_what_it_is() {
    let cli = Cli::with(
        r#"
version: 1
name: people
steps:
  - { id: ask, uses: approval, with: { prompt: go?, inputs: { ticket: { type: string } } } }
  - { id: say, run: 'true', env: { T: "{{ steps.ask.inputs.ticket }}" }, undo: { run: 'true' } }
"#,
    );
    let told = cli.run(&["dry-run", "runbook.yaml", "--json"]).ends(0).json();
    assert_eq!(step(&told, "say")["reason"], "it would change something");
    assert_eq!(step(&told, "say.undo")["reason"], "it is made only when what its step did is to be reversed");
}
