//! Runs of the real program: how they end, and what is left of them.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::cli::{Cli, until};

/// A runbook of the steps given, one a line.
fn steps(lines: &[&str]) -> String {
    let mut text = "version: 1\nname: tried\nsteps:\n".to_owned();
    for line in lines {
        text.push_str(&format!("  - {{ {line} }}\n"));
    }
    text
}

#[test]
fn a_run_that_succeeds_is_listed_shown_and_reported_in_every_form() {
    let cli = Cli::with(&steps(&["id: a, run: echo hello from a", "id: b, run: echo to the other side >&2"]));
    cli.run(&["run", "runbook.yaml"]).ends(0);
    cli.run(&["runs"]).ends(0).prints(&cli.id()).prints("succeeded");
    let listed = cli.run(&["runs", "--json"]).ends(0).json();
    assert_eq!(listed[0]["id"], cli.id());
    cli.run(&["show", "last"]).ends(0).prints(&cli.id());
    cli.run(&["show", &cli.id()[..17]]).ends(0);
    cli.run(&["logs", "last"]).ends(0).prints("hello from a").prints("to the other side");
    let only = cli.run(&["logs", "last", "b"]).ends(0).out;
    assert!(!only.contains("hello from a"), "{only}");
    cli.run(&["logs", "last", "nobody"]).ends(2).says("its steps: a, b");
    cli.run(&["report", "last", "--html"]).ends(0).prints("<html").prints("hello from a");
    cli.run(&["report", "last", "--junit"]).ends(0).prints("<testsuite").prints("name=\"b\"");
    let report = cli.run(&["report", "last", "--json"]).ends(0).json();
    assert_eq!((&report["outcome"], &report["exit_code"]), (&"succeeded".into(), &0.into()));
    cli.run(&["report", "last"]).ends(2);
    assert!(cli.only_run().join("report.html").is_file());
    cli.run(&["audit", "verify", "all"]).ends(0).prints("everything holds together");
}

#[test]
fn the_command_that_starts_a_run_again_names_the_inventories_that_it_was_told() {
    let cli = Cli::with(&steps(&["id: a, run: 'false'"]));
    let entry = |name: &str| format!("version: 1\nstores: {{ {name}: {{ url: \"file:///nowhere/{name}\" }} }}\n");
    cli.file("inventory.yaml", &entry("one"));
    cli.file("small site.yaml", &entry("two"));
    let told = cli.run(&["run", "runbook.yaml", "--inventory", "small site.yaml"]).ends(10);
    let again = told.err.lines().find(|line| line.contains("again ")).expect("what starts it again");
    assert!(again.contains("runbook run runbook.yaml") && again.ends_with(" --inventory 'small site.yaml'"), "{again}");
    cli.run(&["show", "last"]).ends(0).prints(again.trim());
    cli.run(&["report", "last", "--markdown"]).ends(0).prints("--inventory 'small site.yaml'");
    // What is found by itself is not repeated.
    let found = cli.run(&["run", "runbook.yaml"]).ends(10);
    assert!(!found.err.contains("--inventory"), "{}", found.err);
    let both = ["run", "runbook.yaml", "--inventory", "inventory.yaml", "--inventory", "small site.yaml"];
    cli.run(&both).ends(10).says("--inventory inventory.yaml --inventory 'small site.yaml'");
}

#[test]
fn an_unknown_run_is_answered_with_those_that_may_be_meant() {
    let cli = Cli::with(&steps(&["id: a, run: 'true'"]));
    cli.run(&["run", "runbook.yaml"]).ends(0);
    let id = cli.id();
    let wrong = format!("{}x", &id[..id.len() - 1]);
    for command in ["show", "logs", "resume", "cancel"] {
        cli.run(&[command, &wrong]).ends(2).says(&id);
    }
}

#[test]
fn a_failed_step_ends_the_run_with_10_and_nothing_after_it_starts() {
    let cli = Cli::with(&steps(&["id: a, run: exit 7", "id: b, run: touch never"]));
    cli.run(&["run", "runbook.yaml"]).ends(10).says("7");
    assert_eq!((cli.status("a").as_str(), cli.status("b").as_str()), ("failed", "skipped"));
    assert!(!cli.path("never").exists());
    cli.run(&["report", "last", "--junit"]).ends(0).prints("<failure");
}

#[test]
fn a_tolerated_failure_and_a_failing_end_are_exceptions() {
    let cli = Cli::with(&steps(&["id: a, run: exit 7, on_failure: continue", "id: b, run: touch later"]));
    cli.run(&["run", "runbook.yaml"]).ends(5);
    assert!(cli.path("later").exists());
    let cli = Cli::with(&(steps(&["id: a, run: 'true'"]) + "finally:\n  - { id: z, run: exit 1 }\n"));
    cli.run(&["run", "runbook.yaml"]).ends(5);
}

#[test]
fn finally_runs_after_a_failure_and_knows_the_outcome() {
    let cli = Cli::with(
        &(steps(&["id: a, run: exit 1"])
            + "finally:\n  - { id: z, run: 'echo \"$O\" >outcome', env: { O: \"{{ run.outcome }}\" } }\n"),
    );
    cli.run(&["run", "runbook.yaml"]).ends(10);
    assert_eq!(cli.read("outcome"), "failed\n");
}

#[test]
fn a_step_is_tried_again_where_it_says_so_and_only_as_often() {
    let flaky = "id: a, run: 'echo x >>tries; test $(wc -l <tries) -ge 3'";
    let cli = Cli::with(&steps(&[&format!("{flaky}, retry: {{ max_attempts: 3, delay: 1ms, on: [1] }}")]));
    cli.run(&["run", "runbook.yaml"]).ends(0);
    assert_eq!(cli.read("tries").lines().count(), 3);
    let cli = Cli::with(&steps(&[&format!("{flaky}, retry: {{ max_attempts: 2, delay: 1ms, on: [1] }}")]));
    cli.run(&["run", "runbook.yaml"]).ends(10);
    let cli = Cli::with(&steps(&[&format!("{flaky}, retry: {{ max_attempts: 3, delay: 1ms, on: [9] }}")]));
    cli.run(&["run", "runbook.yaml"]).ends(10);
    assert_eq!(cli.read("tries").lines().count(), 1);
}

fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

#[test]
fn a_timeout_ends_the_whole_tree_of_the_step() {
    let cli = Cli::with(
        "version: 1\nname: slow\nsteps:\n  - id: a\n    timeout: 500ms\n    run: |\n      \
         setsid sleep 300 & echo $! >child\n      echo $$ >self\n      wait\n",
    );
    let begin = Instant::now();
    cli.run(&["run", "runbook.yaml"]).ends(10);
    assert!(begin.elapsed() < Duration::from_secs(30));
    for name in ["self", "child"] {
        let pid = cli.read(name);
        assert!(!pid.is_empty() && !is_alive(&pid), "`{name}` ({pid}) still runs");
    }
}

#[test]
fn silence_raises_an_alarm_and_kills_nothing() {
    let cli = Cli::with(
        "version: 1\nname: quiet\nsteps:\n  - id: a\n    stall: 100ms\n    run: |\n      touch began\n      until test -e gate; do sleep 0.02; done\n",
    );
    let live = cli.spawn(&["run", "runbook.yaml"]);
    until("the run begins", || cli.path("began").exists());
    until("an alarm", || cli.journal().iter().any(|event| event["kind"]["type"] == "step_stalled"));
    cli.file("gate", "");
    live.wait().ends(0);
}

#[test]
fn as_many_steps_run_at_once_as_are_allowed() {
    // Each waits until the other has begun.
    let meet = |own: &str, other: &str| {
        format!(
            "id: {own}, needs: [], run: 'touch {own}; for _ in $(seq 500); do test -e {other} && exit 0; sleep 0.02; done; exit 1'"
        )
    };
    let cli = Cli::with(&steps(&[&meet("a", "b"), &meet("b", "a")]));
    cli.run(&["run", "runbook.yaml", "--max-parallel", "2"]).ends(0);
    let alone = |id: &str| format!("id: {id}, needs: [], run: 'echo + >>log; sleep 0.05; echo - >>log'");
    let cli = Cli::with(&steps(&[&alone("a"), &alone("b"), &alone("c")]));
    cli.run(&["run", "runbook.yaml", "--max-parallel", "1"]).ends(0);
    assert_eq!(cli.read("log"), "+\n-\n+\n-\n+\n-\n");
}

#[test]
fn events_come_out_as_json_lines_for_machines() {
    let cli = Cli::with(&steps(&["id: a, run: echo hello"]));
    let out = cli.run(&["run", "runbook.yaml", "--json"]).ends(0).out;
    let kinds: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(kinds.iter().any(|line| line.to_string().contains("run_finished")), "{out}");
}

#[test]
fn a_protected_environment_wants_its_name_and_nothing_else() {
    let text = steps(&["id: a, run: touch changed"])
        + "environments: { production: { protected: true, default: true }, lab: {} }\n";
    let cli = Cli::with(&text);
    cli.run(&["run", "runbook.yaml"]).ends(4).says("--confirm production");
    cli.run(&["run", "runbook.yaml", "--confirm", "lab"]).ends(4);
    cli.run(&["run", "runbook.yaml", "--confirm", ""]).ends(4);
    assert!(!cli.path("changed").exists() && cli.runs().is_empty());
    cli.run(&["run", "runbook.yaml", "-e", "lab"]).ends(0);
    cli.run(&["run", "runbook.yaml", "--confirm", "production"]).ends(0);
}

#[test]
fn a_secret_stands_in_no_file_of_the_run_in_no_form() {
    let secret = "s3cr3t-Passw0rd/with+signs";
    let cli = Cli::with(
        "version: 1\nname: hidden\nsecrets: { token: { env: THE_TOKEN } }\nsteps:\n  - id: a\n    env: { T: \"{{ secrets.token }}\" }\n    \
         run: |\n      echo \"plain $T\"\n      printf %s \"$T\" | base64\n      echo \"$T\" >&2\n      printf %s \"$T\" >got\n      exit 3\n",
    )
    .var("THE_TOKEN", secret);
    let ran = cli.run(&["run", "runbook.yaml"]).ends(10);
    assert_eq!(cli.read("got"), secret);
    let encoded = "czNjcjN0LVBhc3N3MHJkL3dpdGgrc2lnbnM";
    let mut files = 0;
    let mut folders = vec![cli.state()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let text = String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned();
            assert!(!text.contains(secret) && !text.contains(encoded), "a secret stands in {}", path.display());
        }
    }
    assert!(files > 5, "{files} files");
    let told = ["--html", "--json", "--junit"].map(|form| cli.run(&["report", "last", form]).ends(0).out).concat();
    let said = [ran.out, ran.err, told, cli.run(&["logs", "last"]).out].concat();
    assert!(!said.contains(secret) && !said.contains(encoded), "{said}");
    assert!(said.contains("***token***"), "{said}");
}

#[test]
fn an_altered_or_removed_history_is_noticed() {
    let cli = Cli::with(&steps(&["id: a, run: echo hello"]));
    cli.run(&["run", "runbook.yaml"]).ends(0);
    let journal = cli.only_run().join("journal.jsonl");
    let text = fs::read_to_string(&journal).expect("a journal");
    fs::write(&journal, text.replacen("tester", "nobody", 1)).expect("a journal");
    cli.run(&["audit", "verify", "last"]).ends(15).prints("BROKEN");
    cli.run(&["resume", "last"]).ends(15);
    cli.run(&["show", "last"]).ends(15);
    fs::write(&journal, &text).expect("a journal");
    cli.run(&["audit", "verify", "all"]).ends(0);
    let last = text.trim_end().rfind('\n').expect("several lines") + 1;
    fs::write(&journal, &text[..last]).expect("a journal");
    cli.run(&["audit", "verify", "all"]).ends(15);
    fs::remove_dir_all(cli.only_run()).expect("a folder");
    cli.run(&["audit", "verify", "all"]).ends(15).prints("its folder is gone");
}

#[test]
fn a_history_that_cannot_be_written_stops_the_run_before_its_first_step() {
    let cli = Cli::with(&steps(&["id: a, run: touch changed"]));
    fs::write(cli.state(), "a file where a folder is wanted").expect("a file");
    cli.run(&["run", "runbook.yaml"]).ends(15);
    assert!(!cli.path("changed").exists());
}

#[test]
fn a_drill_that_misses_its_objective_or_measures_none_ends_with_16() {
    let missed = "version: 1\nname: slow\nobjectives: { rto: 1ms }\nparams: { incident_at: { type: timestamp } }\nenvironments: { drill: {} }\nsteps:\n  - { id: a, run: sleep 0.05, effect: none }\n";
    let cli = Cli::with(missed);
    cli.run(&["drill", "runbook.yaml"]).ends(16);
    assert_eq!(cli.shown()["outcome"], "objective_missed");
    let unmeasured = missed.replace("rto: 1ms", "rpo: 15m");
    let cli = Cli::with(&unmeasured);
    cli.run(&["drill", "runbook.yaml"]).ends(16);
    assert_eq!(cli.shown()["outcome"], "inconclusive");
    let cli = Cli::with(&missed.replace("rto: 1ms", "rto: 1h"));
    cli.run(&["drill", "runbook.yaml"]).ends(0);
}
