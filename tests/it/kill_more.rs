//! SIGKILL of the real program where people, locks, groups and undos are under way: `resume` comes to the same end.

use std::path::Path;

use serde_json::Value;

use crate::support::cli::{Cli, Live, until};

/// A script that leaves a word in `log`, says it began, and runs until its gate is open.
fn slow(name: &str) -> String {
    format!(
        "echo {name} >>log; touch began-{name}; for _ in $(seq 2400); do if test -e gate-{name}; then exit 0; fi; sleep 0.05; done; exit 99"
    )
}

fn log(cli: &Cli) -> Vec<String> {
    cli.read("log").lines().map(str::to_owned).collect()
}

fn sorted(cli: &Cli) -> Vec<String> {
    let mut lines = log(cli);
    lines.sort();
    lines
}

fn id(cli: &Cli, run: usize) -> String {
    cli.runs()[run].file_name().expect("a name").to_string_lossy().into_owned()
}

fn has(cli: &Cli, run: usize, kind: &str) -> bool {
    cli.events(run).iter().any(|event| event["type"] == kind)
}

fn taken(cli: &Cli, run: usize) -> Vec<Value> {
    cli.events(run).into_iter().filter(|event| event["type"] == "lock_taken").collect()
}

/// Kills the program once a step has begun.
fn killed(cli: &Cli, args: &[&str], began: &str) {
    let live = cli.spawn(args);
    until(&format!("`{began}` begins"), || cli.path(&format!("began-{began}")).exists());
    assert!(live.kill());
}

fn holds_together(cli: &Cli) {
    cli.run(&["audit", "verify", "all"]).ends(0);
}

#[test]
fn answers_that_came_before_an_engine_was_killed_count_after_it() {
    let cli = Cli::with(
        "version: 1\nname: ask\nsteps:\n  - { id: before, run: echo before >>log }\n  - id: declare\n    uses: approval\n    \
         with: { prompt: Go on?, quorum: 2 }\n  - { id: after, run: echo after >>log }\n",
    );
    let mut terminal = cli.at_terminal(&["run", "runbook.yaml"]);
    terminal.shows("Approve? [yes/no]");
    terminal.types("yes");
    terminal.shows("1 more to approve");
    terminal.kill();
    cli.run(&["resume", "last"]).ends(13).says("declare");
    cli.run(&["approve", "last"]).ends(0).says("approved by tester");
    cli.run(&["resume", "last"]).ends(13).says("has answered already");
    let terminal = cli.at_terminal(&["resume", "last"]);
    terminal.shows("tester has answered; somebody else has to as well");
    terminal.kill();
    cli.run(&["approve", "last", "--as", "ada"]).ends(0);
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!(log(&cli), ["before", "after"]);
    assert_eq!((cli.count("step_asked"), cli.count("step_answered")), (1, 2));
    holds_together(&cli);
}

#[test]
fn a_step_that_was_held_when_the_engine_was_killed_is_held_and_takes_orders() {
    let cli = Cli::with(
        "version: 1\nname: held\nsteps:\n  - { id: bad, on_failure: pause, run: \"echo bad >>log; test -e good\" }\n  - { id: z, run: echo z >>log }\n",
    );
    let terminal = cli.at_terminal(&["run", "runbook.yaml"]);
    until("it is held", || cli.count("step_held") == 1);
    terminal.kill();
    cli.run(&["resume", "last"]).ends(13);
    assert_eq!(log(&cli), ["bad"], "nothing is tried again without an order");
    cli.run(&["retry", "last", "bad"]).ends(0).says("is kept");
    let terminal = cli.at_terminal(&["resume", "last"]);
    until("it is held again", || cli.count("step_held") == 2);
    terminal.kill();
    assert_eq!(log(&cli), ["bad", "bad"]);
    cli.file("good", "");
    cli.run(&["retry", "last", "bad"]).ends(0);
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!((log(&cli).join(" "), cli.count("operator_acted")), ("bad bad bad z".to_owned(), 2));
    holds_together(&cli);
}

/// Three steps with undos, of which the second one's waits for its gate, and one that fails when `fails` is there.
fn undone() -> Cli {
    let cli = Cli::new();
    let step = |id: &str, undo: &str| {
        format!("  - id: {id}\n    run: echo {id} >>log\n    undo:\n      run: |\n        {undo}\n")
    };
    let steps = [step("a", "echo undo-a >>log"), step("b", &slow("undo-b")), step("c", "echo undo-c >>log")].concat();
    cli.file("runbook.yaml", &format!("version: 1\nname: undone\nsteps:\n{steps}  - {{ id: d, run: \"! test -e fails\" }}\nfinally:\n  - {{ id: fin, run: echo fin >>log }}\n"));
    cli
}

#[test]
fn an_undo_inside_a_run_that_lost_its_engine_goes_on_where_it_was() {
    let cli = undone();
    cli.file("fails", "");
    killed(&cli, &["run", "runbook.yaml", "--undo-on-failure"], "undo-b");
    killed(&cli, &["resume", "last"], "undo-b");
    cli.file("gate-undo-b", "");
    cli.run(&["resume", "last"]).ends(10).says("undone   `c`, `b`, `a`");
    assert_eq!(log(&cli), ["a", "b", "c", "undo-c", "undo-b", "undo-a", "fin"]);
    holds_together(&cli);
}

#[test]
fn a_run_that_undoes_another_one_and_lost_its_engine_goes_on_where_it_was() {
    let cli = undone();
    cli.run(&["run", "runbook.yaml"]).ends(0);
    let old = id(&cli, 0);
    killed(&cli, &["undo", &old], "undo-b");
    let undo = id(&cli, 1);
    cli.run(&["undo", &old]).ends(4).says(&undo);
    cli.file("gate-undo-b", "");
    cli.run(&["resume", &undo]).ends(0);
    assert_eq!(log(&cli), ["a", "b", "c", "fin", "undo-c", "undo-b", "undo-a"]);
    cli.run(&["resume", &undo]).ends(0);
    cli.run(&["undo", &old]).ends(4).says("was undone");
    holds_together(&cli);
}

/// A runbook whose only step, of the name given, waits for its gate.
fn locking(cli: &Cli, name: &str, (run_locks, step_locks): (&str, &str)) {
    let text = format!(
        "version: 1\nname: {name}\nlocks: [{run_locks}]\nsteps:\n  - id: {name}\n    locks: [{step_locks}]\n    run: |\n      {}\n",
        slow(name)
    );
    cli.file(&format!("{name}.yaml"), &text);
}

#[test]
fn a_lock_of_a_run_whose_engine_was_killed_is_taken_over_when_its_step_has_ended() {
    let cli = Cli::new();
    locking(&cli, "first", ("tape", ""));
    locking(&cli, "second", ("tape", ""));
    cli.file("gate-second", "");
    killed(&cli, &["run", "first.yaml"], "first");
    let first = id(&cli, 0);
    cli.run(&["run", "second.yaml"]).ends(14).says(&first).says("still used");
    cli.file("gate-first", "");
    until("its step has ended", || ended(&cli.runs()[0], "first"));
    cli.run(&["run", "second.yaml"]).ends(0);
    let second = cli.runs().len() - 1;
    assert_eq!(taken(&cli, second)[0]["over"], first.as_str());
    cli.run(&["resume", &first]).ends(0);
    assert_eq!(log(&cli), ["first", "second"]);
    holds_together(&cli);
}

fn ended(run: &Path, step: &str) -> bool {
    run.join(format!("attempts/{step}/1/exit.json")).exists()
}

#[test]
fn a_lock_of_a_step_whose_engine_was_killed_is_taken_over_and_its_own_resume_has_it_again() {
    let cli = Cli::new();
    locking(&cli, "first", ("", "tape"));
    locking(&cli, "second", ("", "tape"));
    killed(&cli, &["run", "first.yaml"], "first");
    cli.file("gate-first", "");
    until("its step has ended", || ended(&cli.runs()[0], "first"));
    let second = cli.spawn(&["run", "second.yaml"]);
    until("the second one has the lock", || cli.path("began-second").exists());
    let first = id(&cli, 0);
    assert_eq!(taken(&cli, 1)[0]["over"], first.as_str());
    cli.file("gate-second", "");
    second.wait().ends(0);
    cli.run(&["resume", &first]).ends(0);
    assert_eq!(log(&cli), ["first", "second"]);
    holds_together(&cli);
}

/// Two real runs: the first one has the lock, the second one queues for it.
fn queueing() -> (Cli, Live, Live) {
    let cli = Cli::new();
    locking(&cli, "first", ("tape", ""));
    locking(&cli, "second", ("{ name: tape, on_conflict: queue }", ""));
    cli.file("gate-second", "");
    let first = cli.spawn(&["run", "first.yaml"]);
    until("the first one has the lock", || cli.path("began-first").exists());
    let second = cli.spawn(&["run", "second.yaml", "--json"]);
    until("the second one waits", || has(&cli, 1, "lock_awaited"));
    (cli, first, second)
}

#[test]
fn a_run_queues_for_a_lock_of_a_live_one_and_one_that_does_not_queue_is_refused() {
    let (cli, first, second) = queueing();
    locking(&cli, "third", ("tape", ""));
    cli.run(&["run", "third.yaml"]).ends(14).says(&id(&cli, 0)).says("nothing was changed");
    cli.file("gate-first", "");
    first.wait().ends(0);
    let second = second.wait().ends(0);
    for line in second.out.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()), "{line}");
    }
    assert_eq!(log(&cli), ["first", "second"]);
}

#[test]
fn a_run_killed_while_it_queues_for_a_lock_queues_again() {
    let (cli, first, second) = queueing();
    assert!(second.kill());
    let again = cli.spawn(&["resume", &id(&cli, 1)]);
    until("it waits again", || cli.events(1).iter().filter(|event| event["type"] == "lock_awaited").count() == 2);
    assert!(first.kill());
    cli.file("gate-first", "");
    again.wait().ends(0);
    assert_eq!(taken(&cli, 1)[0]["over"], id(&cli, 0).as_str(), "of the one that died meanwhile");
    cli.run(&["resume", &id(&cli, 0)]).ends(0);
    assert_eq!(log(&cli), ["first", "second"]);
    holds_together(&cli);
}

#[test]
fn a_sub_runbook_that_lost_its_engine_goes_on_inside() {
    let cli = Cli::new();
    cli.file("runbook.yaml", "version: 1\nname: outer\nsteps:\n  - { id: before, run: echo before >>log }\n  - { id: part, uses: runbook, with: { path: part.yaml } }\n  - { id: after, run: 'echo \"after $X\" >>log', env: { X: \"{{ steps.part.x }}\" } }\n");
    cli.file("part.yaml", &format!("version: 1\nname: part\noutputs: {{ x: \"{{{{ steps.give.x }}}}\" }}\nsteps:\n  - id: give\n    run: \"echo give >>log; echo 7\"\n    outputs: {{ x: json }}\n  - id: slow\n    run: |\n      {}\n  - {{ id: last, run: echo last >>log }}\nfinally:\n  - {{ id: fin, run: echo fin >>log }}\n", slow("slow")));
    killed(&cli, &["run", "runbook.yaml"], "slow");
    killed(&cli, &["resume", "last"], "slow");
    cli.file("gate-slow", "");
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!(log(&cli), ["before", "give", "slow", "last", "fin", "after 7"]);
    assert_eq!(cli.count("group_opened"), 1);
    holds_together(&cli);
}

#[test]
fn every_instance_of_a_fan_out_happens_once_however_often_its_engine_is_killed() {
    let cli = Cli::new();
    let script = "echo \"$N\" >>log; touch \"began-$N\"; for _ in $(seq 2400); do if test -e \"gate-$N\"; then exit 0; fi; sleep 0.05; done; exit 99";
    cli.file("runbook.yaml", &format!("version: 1\nname: many\nsteps:\n  - id: each\n    for_each: [a, b, c, d, e]\n    max_parallel: 3\n    env: {{ N: \"{{{{ item }}}}\" }}\n    run: |\n      {script}\n  - {{ id: after, run: echo after >>log }}\n"));
    let live = cli.spawn(&["run", "runbook.yaml"]);
    until("three of them run", || ["a", "b", "c"].iter().all(|name| cli.path(&format!("began-{name}")).exists()));
    assert!(live.kill());
    cli.file("gate-b", "");
    killed(&cli, &["resume", "last"], "d");
    for name in ["a", "c", "d", "e"] {
        cli.file(&format!("gate-{name}"), "");
    }
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!(sorted(&cli), ["a", "after", "b", "c", "d", "e"]);
    holds_together(&cli);
}

#[test]
fn a_run_that_goes_on_by_a_mended_file_and_lost_its_engine_keeps_to_that_file() {
    let cli = Cli::new();
    let file =
        |rest: &str| format!("version: 1\nname: amended\nsteps:\n  - id: a\n    run: |\n      {}\n{rest}", slow("a"));
    cli.file("runbook.yaml", &file("  - { id: b, run: echo old >>log }\n"));
    let new = format!("  - id: b\n    run: |\n      {}\n  - {{ id: c, run: echo new >>log }}\n", slow("b"));
    cli.file("mended.yaml", &file(&new));
    killed(&cli, &["run", "runbook.yaml"], "a");
    cli.file("gate-a", "");
    killed(&cli, &["resume", "last", "--with", "mended.yaml"], "b");
    cli.run(&["resume", "last", "--with", "runbook.yaml"]).ends(4).says("step `b` has begun");
    cli.file("gate-b", "");
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!(log(&cli), ["a", "b", "new"]);
    assert_eq!(cli.count("plan_amended"), 1);
    holds_together(&cli);
}

#[test]
fn a_real_restore_preempts_a_real_backup_and_both_journals_say_so() {
    let cli = Cli::new();
    let inventory = "databases: { orders: { pgdata: /nowhere/orders } }\n";
    let file = |name: &str, head: &str, effect: &str| {
        format!(
            "version: 1\nname: {name}\n{inventory}{head}steps:\n  - id: {name}\n{effect}    run: |\n      {}\nfinally:\n  - {{ id: fin, run: echo fin-{name} >>log }}\n",
            slow(name)
        )
    };
    cli.file("backup.yaml", &file("backup", "locks: [nightly]\n", "    targets: [ { path: /srv/dump } ]\n"));
    cli.file(
        "restore.yaml",
        &file("restore", "locks: [nightly]\n", "    effect: destroy\n    targets: [ { database: orders } ]\n"),
    );
    cli.file("gate-restore", "");
    let backup = cli.spawn(&["run", "backup.yaml"]);
    until("the backup runs", || cli.path("began-backup").exists());
    cli.run(&["run", "restore.yaml"]).ends(14).says(&id(&cli, 0));
    cli.run(&["run", "restore.yaml", "--preempt"]).ends(0).says("was told to make room");
    backup.wait().ends(12);
    assert_eq!(log(&cli), ["backup", "fin-backup", "restore", "fin-restore"]);
    assert_eq!(taken(&cli, 1)[0]["preempted"], id(&cli, 0).as_str());
    let asked = cli.events(0).into_iter().find(|event| event["type"] == "cancel_requested").expect("it was asked");
    assert_eq!(asked["reason"], format!("preempted by run {} of restore", id(&cli, 1)));
    holds_together(&cli);
}
