//! Undo, runs that build on earlier ones and amended plans, with the real program.

use std::fs;

use serde_json::Value;

use crate::support::cli::{Cli, gated, listing, until};

/// Three steps that make a file each, the last one fails after it did; every undo removes its file.
const CHAIN: &str = r#"
version: 1
name: chain
steps:
  - { id: a, run: "echo a >a; echo run-a >>log", undo: { run: "rm a; echo undo-a >>log" } }
  - { id: b, run: "echo b >b; echo run-b >>log", undo: { run: "rm b; echo undo-b >>log" } }
  - { id: c, run: "echo c >c; echo run-c >>log; test -e mended", undo: { run: "rm c; echo undo-c >>log" } }
  - { id: d, run: "echo run-d >>log" }
finally:
  - { id: z, run: "echo run-z >>log" }
"#;

/// The ids of all runs, oldest first.
fn ids(cli: &Cli) -> Vec<String> {
    cli.runs().iter().map(|dir| dir.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

fn log(cli: &Cli) -> Vec<String> {
    cli.read("log").lines().map(str::to_owned).collect()
}

/// A run of the chain that failed at `c`.
fn failed() -> (Cli, String) {
    let cli = Cli::with(CHAIN);
    cli.run(&["run", "runbook.yaml"]).ends(10).says("runbook undo ");
    fs::remove_file(cli.path("log")).unwrap();
    let id = ids(&cli).remove(0);
    (cli, id)
}

#[test]
fn a_failed_run_is_undone_by_a_run_of_its_own_and_only_once() {
    let (cli, old) = failed();
    let before = listing(&cli.runs()[0]);
    let ran = cli.run(&["undo", &old, "--reason", "wrong night"]).ends(0);
    ran.says("undone in").says("wrong night");
    assert_eq!(log(&cli), ["undo-c", "undo-b", "undo-a"]);
    assert_eq!(listing(&cli.runs()[0]), before, "nothing is written into the old run");
    let new = ids(&cli).remove(1);
    cli.run(&["undo", &old]).ends(4).says(&format!("was undone by run `{new}`"));
    cli.run(&["undo", &new]).ends(4).says("itself undoes");
    cli.run(&["show", &old]).ends(0).prints(&format!("undone by run {new}: succeeded"));
    cli.run(&["runs"]).ends(0).prints(&format!("undone by {new}"));
    let shown: Value = cli.run(&["show", &new, "--json"]).ends(0).json();
    assert_eq!((&shown["origin"]["run"], &shown["origin"]["reason"]), (&old.into(), &"wrong night".into()));
    let a = shown["steps"].as_array().unwrap().iter().find(|step| step["id"] == "a").unwrap();
    assert_eq!(a["undo"], "undone");
    cli.run(&["audit", "verify", "all"]).ends(0);
    assert_eq!(log(&cli).len(), 3);
}

#[test]
fn an_undo_goes_back_to_one_step_and_the_next_one_takes_the_rest() {
    let (cli, old) = failed();
    cli.run(&["undo", &old, "--to", "nothing"]).ends(2).says("no step `nothing`");
    cli.run(&["undo", &old, "--to", "d"]).ends(4).says("nothing that could be undone");
    cli.run(&["undo", &old, "--to", "b"]).ends(0);
    assert_eq!(log(&cli), ["undo-c", "undo-b"]);
    cli.run(&["show", &old]).ends(0).prints("undone back to `b` by run");
    cli.run(&["undo", &old]).ends(0);
    assert_eq!(log(&cli), ["undo-c", "undo-b", "undo-a"]);
}

#[test]
fn a_failing_undo_leaves_the_earlier_ones_and_can_be_tried_again() {
    let (cli, old) = failed();
    fs::rename(cli.path("b"), cli.path("elsewhere")).unwrap();
    cli.run(&["undo", &old]).ends(10).says("NOT UNDONE: `b`").says("left as they were after that: `a`");
    assert_eq!(log(&cli), ["undo-c"]);
    fs::rename(cli.path("elsewhere"), cli.path("b")).unwrap();
    cli.run(&["undo", &old]).ends(0);
    assert_eq!(log(&cli), ["undo-c", "undo-b", "undo-a"], "what was undone is not undone again");
}

#[test]
fn a_run_may_undo_itself_when_it_fails() {
    let cli = Cli::with(CHAIN);
    cli.run(&["run", "runbook.yaml", "--undo-on-failure"]).ends(10).says("undone   `c`, `b`, `a`");
    assert_eq!(log(&cli), ["run-a", "run-b", "run-c", "undo-c", "undo-b", "undo-a", "run-z"]);
    cli.run(&["undo", "last"]).ends(4).says("undid itself");
}

#[test]
fn an_undo_that_lost_its_engine_is_finished_by_resume() {
    let cli = Cli::new();
    let waits = gated(&cli.path("began"), &cli.path("gate"));
    let runbook = format!(
        "version: 1\nname: slow\nsteps:\n  - {{ id: a, run: \"true\", undo: {{ run: \"echo undo-a >>log\" }} }}\n  - id: b\n    run: echo b\n    undo:\n      run: |\n        {waits}\n"
    );
    cli.file("runbook.yaml", &runbook);
    cli.run(&["run", "runbook.yaml"]).ends(0);
    let old = ids(&cli).remove(0);
    let live = cli.spawn(&["undo", &old]);
    until("the undo begins", || cli.path("began").exists());
    cli.run(&["undo", &old]).ends(4).says("has not ended");
    assert!(live.kill());
    cli.run(&["undo", &old]).ends(4).says("runbook resume");
    cli.file("gate", "");
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!(log(&cli), ["undo-a"]);
    cli.run(&["undo", &old]).ends(4).says("was undone by");
    cli.run(&["audit", "verify", "all"]).ends(0);
}

#[test]
fn a_run_that_did_not_end_and_a_drill_are_not_undone() {
    let cli = Cli::new();
    let waits = gated(&cli.path("began"), &cli.path("gate"));
    cli.file("runbook.yaml", &format!("version: 1\nname: slow\nsteps:\n  - id: a\n    run: |\n      {waits}\n"));
    let live = cli.spawn(&["run", "runbook.yaml"]);
    until("the step begins", || cli.path("began").exists());
    cli.run(&["undo", "last"]).ends(4).says("still going on");
    assert!(live.kill());
    cli.run(&["undo", "last"]).ends(4).says("has not ended");
    cli.file("gate", "");
    cli.run(&["resume", "last"]).ends(0);
    cli.run(&["undo", "last"]).ends(4).says("nothing that could be undone");
}

#[test]
fn a_new_run_begins_at_a_step_with_the_outputs_of_an_earlier_one() {
    let cli = Cli::with(
        r#"
version: 1
name: restart
steps:
  - { id: a, uses: exec, with: { argv: [printf, "7"] } }
  - { id: aside, needs: [], uses: exec, with: { argv: [touch, aside] } }
  - { id: b, needs: [a], run: test -e "$CODE", env: { CODE: "{{ steps.a.exit_code }}" } }
  - { id: c, uses: exec, with: { argv: [touch, done] } }
"#,
    );
    cli.run(&["run", "runbook.yaml"]).ends(10);
    let old = ids(&cli).remove(0);
    cli.file("0", "");
    fs::remove_file(cli.path("aside")).unwrap();
    cli.run(&["run", "runbook.yaml", "--from", "nothing", "--of", &old]).ends(2).says("no step `nothing`");
    cli.run(&["run", "runbook.yaml", "--from", "c", "--of", &old]).ends(4).says("did not finish").says("`b`");
    let ran = cli.run(&["run", "runbook.yaml", "--from", "b", "--of", &old]).ends(0);
    ran.says(&format!("a succeeded in run `{old}`"));
    assert!(cli.path("done").exists() && !cli.path("aside").exists());
    assert_eq!(cli.shown()["origin"]["purpose"], "seed");
    cli.file("runbook.yaml", &cli.read("runbook.yaml").replace("\"7\"", "\"8\""));
    let before = cli.runs().len();
    cli.run(&["run", "runbook.yaml", "--from", "b", "--of", &old]).ends(4).says("`a` changed since run");
    assert_eq!(cli.runs().len(), before);
    cli.run(&["run", "runbook.yaml", "--from", "a", "--of", &old]).ends(0);
}

#[test]
fn what_was_undone_is_nothing_to_build_on() {
    let (cli, old) = failed();
    cli.run(&["undo", &old]).ends(0);
    cli.run(&["run", "runbook.yaml", "--from", "c", "--of", &old]).ends(4).says("undid run");
}

/// A run whose engine died while its first step waited for the file `gate`.
fn interrupted(rest: &str) -> (Cli, String) {
    let cli = Cli::new();
    let first = format!("  - id: a\n    run: |\n      {}\n", gated(&cli.path("began"), &cli.path("gate")));
    let head = format!("version: 1\nname: amended\nparams:\n  word: {{ type: string }}\nsteps:\n{first}");
    cli.file("runbook.yaml", &format!("{head}{rest}"));
    let live = cli.spawn(&["run", "runbook.yaml", "-p", "word=kept"]);
    until("the step begins", || cli.path("began").exists());
    assert!(live.kill());
    cli.file("gate", "");
    (cli, head)
}

#[test]
fn the_rest_of_a_run_goes_by_a_mended_file_and_everything_reads_that_one() {
    let (cli, head) = interrupted("  - { id: b, run: \"false\" }\n  - { id: old, run: \"true\" }\n");
    let rest =
        "  - { id: b, uses: exec, with: { argv: [touch, \"{{ params.word }}\"] } }\n  - { id: new, run: touch new }\n";
    cli.file("mended.yaml", &format!("{head}{rest}"));
    cli.run(&["resume", "last", "--with", "mended.yaml"]).ends(0).says("amended the plan: 3 steps differ");
    assert!(cli.path("kept").exists() && cli.path("new").exists());
    assert_eq!((cli.status("new").as_str(), cli.status("b").as_str()), ("succeeded", "succeeded"));
    assert!(cli.only_run().join("plan-2.json").exists());
    cli.run(&["report", "last", "--html"]).ends(0).prints("step-new");
    cli.run(&["resume", "last"]).ends(0);
    cli.run(&["resume", "last", "--with", "mended.yaml"]).ends(4).says("has ended");
    cli.run(&["audit", "verify", "last"]).ends(0);
    let plan = cli.only_run().join("plan-2.json");
    let text = fs::read_to_string(&plan).unwrap().replace("\"new\"", "\"now\"");
    fs::write(&plan, text).unwrap();
    cli.run(&["audit", "verify", "last"]).ends(15).prints("plan-2.json");
    cli.run(&["show", "last"]).ends(15);
}

#[test]
fn what_has_begun_cannot_be_amended() {
    let (cli, head) = interrupted("  - { id: b, run: \"true\" }\n");
    let before = listing(&cli.only_run().join("journal.jsonl"));
    cli.file("other.yaml", &format!("{}  - {{ id: b, run: \"true\" }}\n", head.replace("seq 2400", "seq 2401")));
    cli.run(&["resume", "last", "--with", "other.yaml"]).ends(4).says("step `a` has begun").says("something else");
    let gone = "version: 1\nname: amended\nsteps:\n  - { id: b, run: \"true\" }\n";
    cli.file("gone.yaml", gone);
    cli.run(&["resume", "last", "--with", "gone.yaml"]).ends(4).says("does not have it any more");
    cli.run(&["resume", "last", "--with", "absent.yaml"]).ends(2);
    assert_eq!(listing(&cli.only_run().join("journal.jsonl")), before);
    assert!(!cli.only_run().join("plan-2.json").exists());
    cli.run(&["resume", "last"]).ends(0);
}

/// A runbook whose only step replaces a database, which an undo reverses.
fn replacing(database: &str, more: &str) -> String {
    format!(
        "version: 1\nname: {database}\ndatabases: {{ {database}: {{ pgdata: /nowhere/{database} }} }}\nsteps:\n  - id: a\n    \
         effect: destroy\n    targets: [ {{ database: {database} }} ]\n{more}    run: echo {database} >>log\n    \
         undo: {{ run: \"echo undo-{database} >>log\" }}\n"
    )
}

#[test]
fn a_later_run_with_a_lost_plan_is_in_the_way_only_where_it_may_have_replaced_the_same() {
    let cli = Cli::with(&replacing("orders", ""));
    cli.file("users.yaml", &replacing("users", ""));
    cli.file("nothing.yaml", &replacing("orders", "    when: \"false\"\n"));
    let mut all: Vec<String> = Vec::new();
    let mut newest = |file: &str| {
        cli.run(&["run", file]).ends(0);
        all.extend(ids(&cli).into_iter().filter(|id| !all.contains(id)).collect::<Vec<_>>());
        all[all.len() - 1].clone()
    };
    let (old, others, untouched) = (newest("runbook.yaml"), newest("users.yaml"), newest("nothing.yaml"));
    let same = newest("runbook.yaml");
    let plan = |run: &str| cli.state().join(format!("runs/{run}/plan.json"));
    let kept = fs::read(plan(&same)).unwrap();
    cli.run(&["undo", &old]).ends(4).says("has replaced data of the same database");
    cli.run(&["undo", &old, "--despite", &same, "--reason", "no"])
        .ends(4)
        .says("has replaced data of the same database");
    for run in [&others, &untouched, &same] {
        fs::write(plan(run), "{").unwrap();
    }
    let refused = cli.run(&["undo", &old]).ends(4);
    refused
        .says(&format!("run `{same}` began after run `{old}`, and its plan cannot be read"))
        .says(&format!("{same}/plan.json"))
        .says(&format!("runbook undo {old} --despite {same} --reason WHY"))
        .says(&format!("warning: the plan of the later run `{others}` cannot be read"))
        .says("it held no lock of this database")
        .says("no step of it began");
    cli.run(&["undo", &old, "--despite", &same]).ends(2);
    cli.run(&["undo", &old, "--despite", &others, "--reason", "no"]).ends(4);
    // A journal that does not hold tells nothing: that run may have replaced anything in this environment.
    let journal = cli.state().join(format!("runs/{others}/journal.jsonl"));
    let told = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, told.replace("database:", "database-")).unwrap();
    fs::write(plan(&same), &kept).unwrap();
    fs::rename(cli.state().join(format!("runs/{same}")), cli.path("away")).unwrap();
    cli.run(&["undo", &old])
        .ends(4)
        .says(&format!("run `{others}` began after run `{old}`, and its plan cannot be read"));
    fs::rename(cli.path("away"), cli.state().join(format!("runs/{same}"))).unwrap();
    fs::write(&journal, told).unwrap();
    fs::write(plan(&same), "{").unwrap();
    cli.run(&["undo", &old, "--despite", &same, "--reason", "it worked on a copy"]).ends(0);
    assert_eq!(log(&cli).last().unwrap(), "undo-orders");
    let shown: Value = cli.run(&["show", "last", "--json"]).ends(0).json();
    let reason = format!("it worked on a copy (despite run `{same}`, whose plan could not be read)");
    assert_eq!(shown["origin"]["reason"], reason.as_str());
}
