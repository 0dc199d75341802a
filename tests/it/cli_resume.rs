//! Runs whose engine died, and what `resume` makes of them.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::cli::{Cli, listing, until};

/// A run whose engine is dead; its step `a` waits for the file `gate`.
fn crashed(more: &str) -> Cli {
    let cli = Cli::with(&format!(
        "version: 1\nname: crashed\nsteps:\n  - id: a\n    run: |\n      echo x >>effects\n      touch began\n      \
         for _ in $(seq 2400); do if test -e gate; then exit 0; fi; sleep 0.05; done\n{more}  - {{ id: b, run: echo y >>effects }}\n"
    ));
    let live = cli.spawn(&["run", "runbook.yaml"]);
    until("the step begins", || cli.path("began").exists());
    assert!(live.kill());
    cli
}

/// Kills what carried step `a` out, so that nobody knows how it went.
fn lose_the_attempt(cli: &Cli) {
    let attempt = cli.only_run().join("attempts/a/1");
    let supervisor = recorded(&attempt, "identity.json");
    for pid in [supervisor, recorded(&attempt, "child.json")] {
        let _ = kill_process(pid, Signal::KILL);
    }
    until("the processes are gone", || living_in_session(supervisor) == 0);
}

/// Kills the supervisor of step `a` alone: its program runs on, and nobody watches it.
fn lose_the_supervisor(cli: &Cli) -> Pid {
    let attempt = cli.only_run().join("attempts/a/1");
    let supervisor = recorded(&attempt, "identity.json");
    kill_process(supervisor, Signal::KILL).expect("the supervisor lives");
    let stat = format!("/proc/{}/stat", supervisor.as_raw_nonzero());
    until("the supervisor is gone", || {
        fs::read_to_string(&stat).is_ok_and(|stat| fields(&stat)[0] == "Z") || !Path::new(&stat).exists()
    });
    supervisor
}

fn recorded(attempt: &Path, name: &str) -> Pid {
    until("the process is recorded", || attempt.join(name).exists());
    let value: Value = serde_json::from_slice(&fs::read(attempt.join(name)).expect("a record")).unwrap();
    let pid = value.get("supervisor").unwrap_or(&value)["pid"].as_i64().expect("a pid");
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// The fields of a process's `stat` after its name: state, parent, group, session.
fn fields(stat: &str) -> Vec<&str> {
    stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect()
}

fn living_in_session(leader: Pid) -> usize {
    let leader = leader.as_raw_nonzero().to_string();
    let stats = fs::read_dir("/proc").unwrap().flatten().map(|entry| fs::read_to_string(entry.path().join("stat")));
    stats
        .flatten()
        .filter(|stat| fields(stat).first() != Some(&"Z") && fields(stat).get(3) == Some(&leader.as_str()))
        .count()
}

#[test]
fn what_still_runs_is_adopted_and_not_done_again() {
    let cli = crashed("");
    cli.run(&["runs"]).ends(0).prints("interrupted");
    let shown = cli.run(&["show", "last"]).ends(0).prints("  go on     runbook resume ");
    assert!(!shown.out.contains("--follow"), "nobody drives it: {}", shown.out);
    cli.run(&["show", "last", "--follow"]).ends(10).says("runbook resume");
    let live = cli.spawn(&["resume", "last"]);
    cli.file("gate", "");
    live.wait().ends(0);
    assert_eq!(cli.read("effects"), "x\ny\n");
}

#[test]
fn what_ended_meanwhile_is_taken_as_it_ended() {
    let cli = crashed("");
    cli.file("gate", "");
    until("the step ends", || {
        let folder = cli.only_run().join("attempts/a");
        fs::read_dir(folder.join("1"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.path().join("exit.json").exists() || entry.file_name() == "exit.json")
    });
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!(cli.read("effects"), "x\ny\n");
}

#[test]
fn a_finished_run_is_only_shown_and_ends_with_its_own_code() {
    for (script, code) in [("true", 0), ("exit 3", 10)] {
        let cli =
            Cli::with(&format!("version: 1\nname: over\nsteps:\n  - {{ id: a, run: 'echo x >>effects; {script}' }}\n"));
        cli.run(&["run", "runbook.yaml"]).ends(code);
        let before = |cli: &Cli| {
            let lines = listing(cli.dir()).into_iter();
            // The report may be written anew from the same journal; locks are touched.
            lines.filter(|line| !line.contains("report.html") && !line.contains("lock")).collect::<Vec<_>>()
        };
        let kept: Vec<String> =
            before(&cli).into_iter().filter(|line| line.contains("jsonl") || line.contains("/work")).collect();
        cli.run(&["resume", "last"]).ends(code).says(&cli.id());
        let now: Vec<String> =
            before(&cli).into_iter().filter(|line| line.contains("jsonl") || line.contains("/work")).collect();
        assert_eq!(now, kept);
    }
}

#[test]
fn a_torn_line_is_cut_with_a_warning_and_the_run_goes_on() {
    let cli = crashed("");
    let journal = cli.only_run().join("journal.jsonl");
    let mut file = fs::OpenOptions::new().append(true).open(journal).unwrap();
    file.write_all(b"{\"seq\":99,\"at\":\"2026-01-").unwrap();
    drop(file);
    cli.file("gate", "");
    cli.run(&["resume", "last"]).ends(0);
    assert!(cli.journal().iter().any(|event| event["kind"]["type"] == "tail_cut"));
    assert_eq!(cli.read("effects"), "x\ny\n");
    cli.run(&["audit", "verify", "all"]).ends(0);
}

#[test]
fn an_attempt_that_may_have_happened_waits_for_a_person_who_says_it_did_not() {
    let cli = crashed("");
    lose_the_attempt(&cli);
    cli.run(&["resume", "last"]).ends(13).says("--rerun a");
    cli.run(&["runs"]).ends(0).prints("waits for a person");
    cli.run(&["resume", "last", "--rerun", "b"]).ends(2);
    assert_eq!(cli.read("effects"), "x\n");
    cli.file("gate", "");
    cli.run(&["resume", "last", "--rerun", "a"]).ends(0);
    assert_eq!(cli.read("effects"), "x\nx\ny\n");
}

#[test]
fn what_is_asked_for_while_a_run_waits_to_know_what_became_of_a_step_is_done_when_it_is_resumed() {
    for (verb, code, effects) in [("retry", 0, "x\nx\ny\n"), ("mark-done", 5, "x\ny\n"), ("skip", 5, "x\n")] {
        let cli = crashed("");
        lose_the_attempt(&cli);
        cli.run(&["resume", "last"]).ends(13);
        cli.file("gate", "");
        cli.run(&[verb, "last", "a", "--reason", "looked at it"]).ends(0).says("is kept");
        cli.run(&["resume", "last"]).ends(code);
        assert!(cli.read("effects").starts_with(effects), "{verb}: {}", cli.read("effects"));
        assert!(!cli.journal().iter().any(|event| event["kind"]["type"] == "operator_refused"), "{verb} was refused");
    }
}

#[test]
fn an_attempt_that_a_person_calls_done_is_an_exception_with_the_outputs_given() {
    let cli = crashed("");
    lose_the_attempt(&cli);
    cli.run(&["resume", "last"]).ends(13);
    cli.run(&["resume", "last", "--output", "exit_code=0"]).ends(2);
    cli.run(&["resume", "last", "--done", "a", "--output", "exit_code=0"]).ends(5);
    assert_eq!(cli.read("effects"), "x\ny\n");
    let shown = cli.shown();
    let step = shown["steps"].as_array().unwrap().iter().find(|step| step["id"] == "a").unwrap().clone();
    assert_eq!((&step["marked_done"], &step["output"]["exit_code"]), (&true.into(), &0.into()));
}

#[test]
fn a_probe_tells_whether_a_lost_attempt_happened() {
    let probed = |code: i32| {
        let cli = crashed(&format!("    on_unknown: {{ probe: 'exit {code}' }}\n"));
        lose_the_attempt(&cli);
        cli.file("gate", "");
        let ran = cli.run(&["resume", "last"]);
        (ran, cli)
    };
    let (ran, cli) = probed(0);
    ran.ends(0);
    assert_eq!(cli.read("effects"), "x\ny\n");
    let (ran, cli) = probed(1);
    ran.ends(0);
    assert_eq!(cli.read("effects"), "x\nx\ny\n");
    let (ran, cli) = probed(2);
    ran.ends(13);
    assert_eq!(cli.read("effects"), "x\n");
}

#[test]
fn a_step_whose_end_nobody_saw_in_a_live_run_is_unknown_and_the_run_ends_with_11() {
    let cli = Cli::with(
        "version: 1\nname: lost\nsteps:\n  - id: a\n    run: |\n      touch began\n      for _ in $(seq 2400); do if test -e gate; then exit 0; fi; sleep 0.05; done\n",
    );
    let live = cli.spawn(&["run", "runbook.yaml"]);
    until("the step begins", || cli.path("began").exists());
    lose_the_attempt(&cli);
    live.wait().ends(11);
    assert_eq!(cli.status("a"), "unknown");
    cli.run(&["resume", "last"]).ends(11);
}

#[test]
fn no_second_attempt_is_made_beside_a_program_that_nobody_watches_any_more() {
    for rule in ["", "    on_unknown: rerun\n", "    on_unknown: { probe: 'exit 1' }\n"] {
        let cli = crashed(rule);
        let supervisor = lose_the_supervisor(&cli);
        cli.run(&["resume", "last"]).ends(13).says("still run");
        cli.run(&["resume", "last", "--rerun", "a"]).ends(13).says("end it before");
        assert_eq!(cli.read("effects"), "x\n");
        cli.file("gate", "");
        until("the program ends", || living_in_session(supervisor) == 0);
        let answer: &[&str] = if rule.is_empty() { &["--rerun", "a"] } else { &[] };
        cli.run(&[&["resume", "last"], answer].concat()).ends(0);
        assert_eq!(cli.read("effects"), "x\nx\ny\n");
    }
}

#[test]
fn an_attempt_whose_records_cannot_be_read_is_not_made_again_by_a_rule() {
    let cli = crashed("    on_unknown: rerun\n");
    let identity = cli.only_run().join("attempts/a/1/identity.json");
    let kept = fs::read(&identity).expect("a record");
    fs::write(&identity, "").expect("as a power cut leaves it");
    cli.run(&["resume", "last"]).ends(13).says("cannot be told");
    cli.run(&["resume", "last", "--rerun", "a"]).ends(13);
    assert_eq!(cli.read("effects"), "x\n");
    fs::write(&identity, kept).expect("mended");
    cli.file("gate", "");
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!(cli.read("effects"), "x\ny\n");
}

#[test]
fn a_record_that_a_power_cut_emptied_stands_in_nobodys_way_after_the_restart() {
    for rule in ["", "    on_unknown: rerun\n"] {
        let cli = crashed(rule);
        lose_the_attempt(&cli);
        let attempt = cli.only_run().join("attempts/a/1");
        fs::write(attempt.join("identity.json"), "").expect("as a power cut leaves it");
        fs::write(attempt.join("child.json"), "").expect("as a power cut leaves it");
        let named = fs::read_dir(&attempt).unwrap().flatten().map(|entry| entry.path());
        let boot = named.into_iter().find(|path| path.to_string_lossy().contains("/boot.")).expect("the boot's name");
        fs::rename(boot, attempt.join("boot.of-before")).expect("another boot");
        let answer: &[&str] = match rule {
            "" => {
                cli.run(&["resume", "last"]).ends(13).says("an earlier boot");
                &["--rerun", "a"]
            }
            _ => &[],
        };
        cli.file("gate", "");
        cli.run(&[&["resume", "last"], answer].concat()).ends(0);
        assert_eq!(cli.read("effects"), "x\nx\ny\n");
    }
}

#[test]
fn a_lock_of_a_run_that_a_power_cut_ended_is_given_to_the_next_one() {
    let cli = Cli::with(
        "version: 1\nname: crashed\ndatabases: { orders: { pgdata: /nowhere/orders } }\nsteps:\n  - id: a\n    effect: destroy\n    \
         targets: [ { database: orders } ]\n    run: |\n      echo x >>effects\n      touch began\n      \
         for _ in $(seq 2400); do if test -e gate; then exit 0; fi; sleep 0.05; done\n",
    );
    let live = cli.spawn(&["run", "runbook.yaml"]);
    until("the step begins", || cli.path("began").exists());
    assert!(live.kill());
    lose_the_attempt(&cli);
    let attempt = cli.only_run().join("attempts/a/1");
    fs::write(attempt.join("identity.json"), "").expect("as a power cut leaves it");
    cli.file("gate", "");
    cli.run(&["run", "runbook.yaml"]).ends(15);
    let named = fs::read_dir(&attempt).unwrap().flatten().map(|entry| entry.path());
    let boot = named.into_iter().find(|path| path.to_string_lossy().contains("/boot.")).expect("the boot's name");
    fs::rename(boot, attempt.join("boot.of-before")).expect("another boot");
    cli.run(&["run", "runbook.yaml"]).ends(0);
}

#[test]
fn a_persons_word_outweighs_the_rule_of_the_step() {
    let cli = crashed("    on_unknown: rerun\n");
    lose_the_attempt(&cli);
    cli.run(&["resume", "last", "--done", "a"]).ends(5);
    assert_eq!(cli.read("effects"), "x\ny\n");
}

#[test]
fn a_live_run_that_loses_a_supervisor_names_what_still_runs() {
    let cli = Cli::with(
        "version: 1\nname: lost\nsteps:\n  - id: a\n    run: |\n      touch began\n      for _ in $(seq 2400); do if test -e gate; then exit 0; fi; sleep 0.05; done\n",
    );
    let live = cli.spawn(&["run", "runbook.yaml"]);
    until("the step begins", || cli.path("began").exists());
    let supervisor = lose_the_supervisor(&cli);
    live.wait().ends(11).says("still run");
    cli.file("gate", "");
    until("the program ends", || living_in_session(supervisor) == 0);
}

#[test]
fn a_run_that_waits_for_a_person_can_be_cancelled_and_runs_what_must_run() {
    let cli = crashed("");
    lose_the_attempt(&cli);
    cli.run(&["resume", "last"]).ends(13);
    cli.run(&["cancel", "last"]).ends(0).says("runbook resume");
    cli.run(&["resume", "last"]).ends(11);
    assert_eq!(
        (cli.read("effects").as_str(), cli.status("a"), cli.status("b")),
        ("x\n", "unknown".to_owned(), "skipped".to_owned())
    );
}

#[test]
fn an_old_run_does_not_go_on_over_what_a_newer_one_replaced() {
    let cli = Cli::with(
        "version: 1\nname: crashed\ndatabases: { orders: { pgdata: /nowhere/orders } }\nsteps:\n  - id: a\n    effect: destroy\n    \
         targets: [ { database: orders } ]\n    run: |\n      echo x >>effects\n      touch began\n      \
         for _ in $(seq 2400); do if test -e gate; then exit 0; fi; sleep 0.05; done\n",
    );
    let live = cli.spawn(&["run", "runbook.yaml"]);
    until("the step begins", || cli.path("began").exists());
    assert!(live.kill());
    lose_the_attempt(&cli);
    let old = cli.id();
    cli.file("gate", "");
    cli.run(&["run", "runbook.yaml"]).ends(0);
    cli.run(&["resume", &old, "--rerun", "a"]).ends(4).says("has worked on the same database");
    assert_eq!(cli.read("effects"), "x\nx\n");
    // It can be ended all the same, and nothing of it is gone on with or undone.
    let ids = cli.runs().into_iter().map(|run| run.file_name().unwrap().to_string_lossy().into_owned());
    let newer = ids.into_iter().find(|id| *id != old).unwrap();
    cli.file("inventory.yaml", "version: 1\ndatabases: { orders: { pgdata: /nowhere/orders } }\n");
    let end = format!("run {newer} has replaced the same data since: end it with runbook cancel {old}");
    cli.run(&["status", "orders"]).ends(2).prints(&end);
    fs::remove_file(cli.path("inventory.yaml")).unwrap();
    cli.run(&["cancel", &old, "--reason", "done by hand"]).ends(0).says(&format!("run {newer} has overtaken it"));
    assert_eq!(cli.read("effects"), "x\nx\n");
    let shown: serde_json::Value = serde_json::from_str(&cli.run(&["show", &old, "--json"]).ends(0).out).unwrap();
    assert_eq!(shown["outcome"], "cancelled", "{shown:#}");
    assert!(shown.to_string().contains(&format!("done by hand (overtaken by run `{newer}`")), "{shown:#}");
    cli.run(&["cancel", &old]).ends(2).says("has ended");
    cli.run(&["undo", &old]).ends(4).says("has replaced data of the same database");
    cli.run(&["audit", "verify", &old]).ends(0);
}
