//! Runs that are watched, cancelled, signalled and left alone while they run.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::cli::{Cli, Live, gated, until};

/// A run whose one step waits for the gate, and whose end leaves a mark.
struct Waiting {
    cli: Cli,
    live: Live,
}

impl Waiting {
    fn new() -> Self {
        Self::with("", "echo tidy >>tidied")
    }

    /// `deaf` goes before the step's script.
    fn with(deaf: &str, last: &str) -> Self {
        let cli = Cli::new();
        let script = gated(&cli.path("began"), &cli.path("gate"));
        cli.file(
            "runbook.yaml",
            &format!(
                "version: 1\nname: waiting\nsteps:\n  - id: a\n    run: |\n      {deaf}\n      {script}\n  \
                 - {{ id: b, run: touch after }}\nfinally:\n  - id: tidy\n    run: |\n      {last}\n"
            ),
        );
        let live = cli.spawn(&["run", "runbook.yaml"]);
        until("the step begins", || cli.path("began").exists());
        Self { cli, live }
    }

    fn open(&self) {
        self.cli.file("gate", "");
    }

    fn cancelled(&self, level: &str) {
        let asked =
            |event: &serde_json::Value| event["kind"]["type"] == "cancel_requested" && event["kind"]["level"] == level;
        until("the cancel is in the journal", || self.cli.journal().iter().any(asked));
    }
}

#[test]
fn a_live_run_is_shown_and_followed_from_another_terminal_to_its_own_exit_code() {
    let run = Waiting::new();
    run.cli.run(&["runs"]).ends(0).prints("running");
    run.cli.run(&["show", "last"]).ends(0).prints("it is running");
    let following = run.cli.spawn(&["show", "last", "--follow"]);
    let machine = run.cli.spawn(&["show", "last", "--follow", "--json"]);
    until("both show the step", || {
        machine.printed().contains("attempt_started") && following.said().contains("started")
    });
    run.open();
    run.live.wait().ends(0);
    following.wait().ends(0).says("tidy");
    machine.wait().ends(0).prints("run_finished");
}

#[test]
fn a_live_run_is_driven_by_one_engine_alone() {
    let run = Waiting::new();
    run.cli.run(&["resume", "last"]).ends(14).says("is driven by process");
    run.open();
    run.live.wait().ends(0);
    assert_eq!(run.cli.read("tidied"), "tidy\n");
}

#[test]
fn a_database_that_is_being_replaced_is_locked_for_every_other_run() {
    let cli = Cli::new();
    let script = gated(&cli.path("began"), &cli.path("gate"));
    cli.file(
        "runbook.yaml",
        &format!(
            "version: 1\nname: replaces\ndatabases: {{ orders: {{ pgdata: /nowhere/orders }} }}\nsteps:\n  - id: a\n    \
             effect: destroy\n    targets: [ {{ database: orders }} ]\n    run: |\n      {script}\n"
        ),
    );
    let live = cli.spawn(&["run", "runbook.yaml"]);
    until("the step begins", || cli.path("began").exists());
    let id = cli.id();
    cli.run(&["run", "runbook.yaml"]).ends(14).says(&id).says("nothing was changed");
    cli.file("gate", "");
    live.wait().ends(0);
    cli.run(&["run", "runbook.yaml"]).ends(0);
}

#[test]
fn what_a_killed_engine_left_running_keeps_other_runs_off_its_database() {
    let cli = Cli::new();
    let script = gated(&cli.path("began"), &cli.path("gate"));
    cli.file(
        "runbook.yaml",
        &format!(
            "version: 1\nname: replaces\ndatabases: {{ orders: {{ pgdata: /nowhere/orders }} }}\nsteps:\n  - id: a\n    \
             effect: destroy\n    targets: [ {{ database: orders }} ]\n    run: |\n      {script}\n"
        ),
    );
    let live = cli.spawn(&["run", "runbook.yaml"]);
    until("the step begins", || cli.path("began").exists());
    let id = cli.id();
    assert!(live.kill());
    cli.run(&["run", "runbook.yaml"]).ends(14).says(&id).says("still used").says("nothing was changed");
    assert_eq!(cli.id(), id, "no second run exists");
    cli.file("gate", "");
    cli.run(&["resume", &id]).ends(0);
    cli.run(&["run", "runbook.yaml"]).ends(0);
}

#[test]
fn a_cancel_ends_the_step_and_runs_what_must_run() {
    let run = Waiting::new();
    run.cli.run(&["cancel", "last", "--reason", "wrong database"]).ends(0);
    run.live.wait().ends(12);
    assert_eq!(run.cli.read("tidied"), "tidy\n");
    assert!(!run.cli.path("after").exists());
    assert_eq!(run.cli.status("a"), "cancelled");
    let text = serde_json::to_string(&run.cli.journal()).expect("events");
    assert!(text.contains("wrong database") && text.contains("tester"), "{text}");
    run.cli.run(&["cancel", "last"]).ends(2).says("has ended");
}

#[test]
fn a_cancel_now_does_not_wait_for_a_deaf_step() {
    let run = Waiting::with("trap '' TERM INT", "echo tidy >>tidied");
    let begin = Instant::now();
    run.cli.run(&["cancel", "last", "--now"]).ends(0);
    run.live.wait().ends(12);
    assert!(begin.elapsed() < Duration::from_secs(9), "the grace is ten seconds: {:?}", begin.elapsed());
    assert_eq!(run.cli.read("tidied"), "tidy\n");
}

#[test]
fn the_first_interrupt_cancels_and_runs_what_must_run() {
    let run = Waiting::new();
    run.live.signal(Signal::INT);
    run.live.wait().ends(12).says("cancelling");
    assert_eq!(run.cli.read("tidied"), "tidy\n");
    assert!(!run.cli.path("after").exists());
}

#[test]
fn a_step_that_ended_by_a_cancel_after_its_engine_was_killed_is_cancelled_and_not_failed() {
    let patient = "trap 'touch told; until test -e enough; do sleep 0.05; done; exit 1' TERM";
    let run = Waiting::with(patient, "echo tidy >>tidied");
    run.live.signal(Signal::INT);
    until("the step was told", || run.cli.path("told").exists());
    assert!(run.live.kill());
    run.cli.file("enough", "");
    until("the step ends", || run.cli.only_run().join("attempts/a/1/exit.json").exists());
    run.cli.run(&["resume", "last"]).ends(12);
    assert_eq!(run.cli.status("a"), "cancelled");
    assert_eq!(run.cli.read("tidied"), "tidy\n");
}

#[test]
fn the_second_interrupt_kills_a_deaf_step_at_once() {
    let run = Waiting::with("trap '' TERM INT", "echo tidy >>tidied");
    let begin = Instant::now();
    run.live.signal(Signal::INT);
    run.cancelled("graceful");
    run.live.signal(Signal::INT);
    run.live.wait().ends(12);
    assert!(begin.elapsed() < Duration::from_secs(9), "the grace is ten seconds: {:?}", begin.elapsed());
    assert_eq!(run.cli.read("tidied"), "tidy\n");
}

#[test]
fn the_third_interrupt_leaves_what_must_run_to_resume_which_runs_it_once() {
    let last =
        "touch last; echo tidy >>tidied; for _ in $(seq 2400); do if test -e enough; then exit 0; fi; sleep 0.05; done";
    let run = Waiting::with("trap '' TERM INT", last);
    run.live.signal(Signal::INT);
    run.cancelled("graceful");
    run.live.signal(Signal::INT);
    until("the end begins", || run.cli.path("last").exists());
    run.live.signal(Signal::INT);
    run.live.wait().ends(12);
    assert!(run.cli.journal().iter().all(|event| event["kind"]["type"] != "run_finished"));
    run.cli.file("enough", "");
    run.cli.run(&["resume", "last"]).ends(12);
    assert_eq!(run.cli.read("tidied"), "tidy\n");
    assert_eq!(run.cli.shown()["outcome"], "cancelled");
}

#[test]
fn a_report_that_cannot_be_written_changes_nothing_about_how_the_run_ended() {
    let run = Waiting::new();
    std::fs::create_dir(run.cli.only_run().join("report.html")).expect("a folder in its place");
    run.open();
    run.live.wait().ends(0).says("the report cannot be written").says("succeeded");
}

#[test]
fn a_lost_terminal_does_not_end_the_run() {
    let mut run = Waiting::new();
    run.live.signal(Signal::HUP);
    let following = run.cli.spawn(&["show", "last", "--follow", "--json"]);
    until("another terminal shows it", || following.printed().contains("attempt_started"));
    assert!(run.live.lives());
    run.open();
    run.live.wait().ends(0);
    following.wait().ends(0);
    assert_eq!(run.cli.shown()["outcome"], "succeeded");
}
