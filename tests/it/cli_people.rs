//! People and operators, from two terminals, with the real program.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::cli::{Cli, Live, Ran, until};
use crate::support::terminal::Terminal;

/// An approval between two steps; `with` is more of what it asks.
fn asking(with: &str) -> Cli {
    Cli::with(&format!(
        "version: 1\nname: ask\nsteps:\n  - {{ id: before, run: echo before >>log }}\n  - id: declare\n    uses: approval\n    \
         with: {{ prompt: Go on?, {with} }}\n  - id: after\n    run: echo \"after $BY\" >>log\n    \
         env: {{ BY: \"{{{{ steps.declare.by | join(' ') }}}}\" }}\n"
    ))
}

/// The run at a terminal whose question stands there.
fn asked(with: &str) -> (Cli, Terminal) {
    let cli = asking(with);
    let terminal = cli.at_terminal(&["run", "runbook.yaml"]);
    terminal.shows("Go on?");
    until("the question is in the journal", || cli.count("step_asked") == 1);
    (cli, terminal)
}

fn log(cli: &Cli) -> Vec<String> {
    cli.read("log").lines().map(str::to_owned).collect()
}

/// Every line is one JSON object; gives their kinds, or their keys where they are no events.
#[track_caller]
fn objects(printed: &str) -> Vec<Value> {
    let object = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in `{line}`"));
        assert!(value.is_object(), "{line}");
        value
    };
    printed.lines().map(object).collect()
}

#[test]
fn a_question_at_the_terminal_takes_yes_and_no_and_asks_again_for_anything_else() {
    let (cli, mut terminal) = asked("timeout: 1h");
    terminal.shows("Approve? [yes/no]");
    terminal.types("perhaps");
    terminal.shows("neither `yes` nor `no`");
    terminal.types("yes");
    terminal.wait().ends(0).prints("tester answered yes");
    assert_eq!(log(&cli), ["before", "after tester"]);

    let (cli, mut terminal) = asked("timeout: 1h");
    terminal.shows("Approve? [yes/no]");
    terminal.types("no");
    terminal.shows("Why not?");
    terminal.types("the dashboards are green");
    terminal.wait().ends(10).prints("denied by tester: the dashboards are green");
    assert_eq!(log(&cli), ["before"]);
}

#[test]
fn a_question_answered_from_another_terminal_is_withdrawn_from_the_first_one() {
    let (cli, terminal) = asked("timeout: 1h");
    terminal.shows("Approve? [yes/no]");
    cli.run(&["approve", "last", "declare", "--as", "ada", "--comment", "seen"]).ends(0).says("accepted");
    terminal.wait().ends(0).prints("asks no more: it was settled elsewhere");
    assert_eq!(log(&cli), ["before", "after ada"]);
    cli.run(&["approve", "last", "declare", "--as", "ada"]).ends(2).says("has ended");
}

#[test]
fn a_quorum_counts_different_people_at_different_terminals() {
    let (cli, mut terminal) = asked("quorum: 2");
    terminal.shows("Approve? [yes/no]");
    terminal.types("yes");
    terminal.shows("1 more to approve");
    cli.run(&["approve", "last"]).ends(4).says("`tester` has answered already");
    cli.run(&["approve", "last", "--as", "ada"]).ends(0).says("approved by tester");
    terminal.wait().ends(0);
    assert_eq!(log(&cli), ["before", "after tester ada"]);
}

#[test]
fn a_prompt_that_other_lines_pushed_away_is_written_again() {
    let (cli, mut terminal) = asked("quorum: 2");
    terminal.shows("Approve? [yes/no]");
    cli.run(&["approve", "last", "--as", "ada"]).ends(0);
    terminal.shows("ada answered yes\nApprove? [yes/no] ");
    terminal.types("yes");
    terminal.wait().ends(0);
    assert_eq!(log(&cli), ["before", "after ada tester"]);
}

#[test]
fn who_may_not_answer_is_told_so_at_once_and_refused_everywhere() {
    let (cli, terminal) = asked("not_initiator: true, approvers: [ada, tester]");
    terminal.shows("tester started the run, so somebody else has to");
    cli.run(&["approve", "last"]).ends(4).says("`tester` started the run");
    cli.run(&["approve", "last", "--as", "bob"]).ends(4).says("who may: `ada`, `tester`");
    cli.run(&["deny", "last", "--as", "bob", "--comment", "no"]).ends(4).says("`bob` may not answer");
    cli.run(&["approve", "last", "nothing", "--as", "ada"]).ends(2).says("no step `nothing`");
    cli.run(&["approve", "last", "before", "--as", "ada"]).ends(2).says("asks nothing now");
    cli.run(&["approve", "20200101-000000-000000", "--as", "ada"]).ends(2).says("there is no run");
    cli.run(&["deny", "last", "--as", "ada", "--comment", "not today"]).ends(0);
    terminal.wait().ends(10).prints("denied by ada: not today").prints("`answer` by bob was refused");
    assert_eq!(cli.count("operator_refused"), 3);
}

#[test]
fn of_two_who_answer_at_once_one_counts_and_the_other_one_is_told() {
    let (cli, terminal) = asked("quorum: 1");
    let answers = ["ada", "bob"].map(|name| cli.spawn(&["approve", "last", "--as", name, "--json"]));
    let ended = answers.map(Live::wait);
    terminal.wait().ends(0);
    let mut codes = ended.each_ref().map(|ran| ran.code.expect("a code"));
    codes.sort_unstable();
    // Whoever comes when the run is over finds it ended.
    assert!(codes == [0, 4] || codes == [0, 2], "{ended:?}");
    assert_eq!(cli.count("step_answered"), 1);
    for ran in ended.iter().filter(|ran| ran.code != Some(2)) {
        assert_eq!(objects(&ran.out).len(), 1, "{ran:?}");
    }
}

#[test]
fn one_person_who_breaks_the_glass_needs_a_reason_and_is_an_exception() {
    let (cli, terminal) = asked("quorum: 3, not_initiator: true, approvers: [ada, bob, eve]");
    cli.run(&["approve", "last", "--break-glass"]).ends(2);
    cli.run(&["approve", "last", "--break-glass", "--reason", " "]).ends(2).says("wants a reason");
    cli.run(&["approve", "last", "--break-glass", "--reason", "nobody is awake"]).ends(0);
    terminal.wait().ends(5).prints("BROKE THE GLASS: nobody is awake").prints("by one person alone");
}

#[test]
fn nobody_answers_in_time_at_a_terminal_and_on_timeout_says_what_follows() {
    let (cli, terminal) = asked("timeout: 1s, on_timeout: abort");
    terminal.wait().ends(10).prints("nobody answered within `1s`").prints("asks no more");
    assert_eq!(log(&cli), ["before"]);
    let (cli, terminal) = asked("timeout: 1s, on_timeout: continue");
    terminal.wait().ends(5).prints("not approved in time");
    assert_eq!(log(&cli), ["before", "after "]);
    let (cli, mut terminal) = asked("timeout: 1s, on_timeout: pause");
    until("the time is over", || cli.count("step_expired") == 1);
    terminal.types("yes");
    terminal.wait().ends(0);
    assert_eq!(log(&cli), ["before", "after tester"]);
}

/// A step that is done by a person, and one that reads what was filled in.
const FILLED: &str = r#"
version: 1
name: fill
steps:
  - id: power
    uses: manual
    with:
      instruction: Power the standby on.
      checklist: [the LED is green, the cable is in]
      inputs: { serial: { type: string }, slot: { type: int }, size: { type: size, default: 5GB }, at: { type: timestamp, required: false } }
  - id: use
    run: echo "$SERIAL $SLOT $SIZE" >>log
    env: { SERIAL: "{{ steps.power.inputs.serial }}", SLOT: "{{ steps.power.inputs.slot + 1 }}", SIZE: "{{ steps.power.inputs.size }}" }
"#;

#[test]
fn a_checklist_and_typed_inputs_are_asked_line_by_line_at_the_terminal() {
    let cli = Cli::with(FILLED);
    let mut terminal = cli.at_terminal(&["run", "runbook.yaml"]);
    for (shown, typed) in [
        ("1. the LED is green: done?", "y"),
        ("2. the cable is in: done?", "yes"),
        ("at, a point in time", ""),
        ("serial, a text", "S-1"),
        ("size, a size", ""),
        ("slot, a whole number", "many"),
        ("a whole number is wanted, not `many`", "41"),
        ("Is it done?", "yes"),
    ] {
        terminal.shows(shown);
        terminal.types(typed);
    }
    terminal.wait().ends(0);
    assert_eq!(cli.read("log"), "S-1 42 5GB\n");
}

#[test]
fn a_run_that_nobody_attends_is_suspended_and_goes_on_with_the_answer_that_was_left_for_it() {
    let cli = Cli::with(FILLED);
    let ran = cli.run(&["run", "runbook.yaml", "--json"]).ends(13);
    let kinds: Vec<Value> = objects(&ran.out).iter().map(|event| event["kind"]["type"].clone()).collect();
    assert_eq!(kinds, [json!("run_started"), json!("step_resolved"), json!("step_asked"), json!("run_suspended")]);
    cli.run(&["approve", "last"]).ends(2).says("--input serial=VALUE --input slot=VALUE");
    cli.run(&["approve", "last", "--input", "slot=x", "--input", "serial=q"]).ends(2).says("a whole number is wanted");
    cli.run(&["approve", "last", "--input", "solt=1"]).ends(2).says("no input `solt`");
    let good = ["approve", "last", "--input", "slot=6", "--input", "serial=q", "--json"];
    assert_eq!(cli.run(&good).ends(0).json()["fate"], "kept");
    assert_eq!(cli.run(&good).ends(0).json()["fate"], "kept", "whoever resumes it decides");
    let ran = cli.run(&["resume", "last", "--json"]).ends(0);
    let kinds: Vec<Value> = objects(&ran.out).iter().map(|event| event["kind"]["type"].clone()).collect();
    let expected = ["run_resumed", "step_answered", "operator_refused", "step_succeeded"].map(Value::from);
    assert_eq!(kinds[..4], expected);
    assert_eq!(cli.read("log"), "q 7 5GB\n");
    cli.run(&["audit", "verify", "all"]).ends(0);
}

#[test]
fn the_events_of_a_run_at_a_terminal_are_json_lines_and_nothing_else() {
    let cli = asking("timeout: 1h");
    let terminal = cli.at_terminal(&["run", "runbook.yaml", "--json"]);
    until("it asks", || cli.count("step_asked") == 1);
    cli.run(&["approve", "last", "--as", "ada"]).ends(0);
    let ran = terminal.wait().ends(0);
    assert!(objects(&ran.out).iter().any(|event| event["kind"]["type"] == "run_finished"));
}

/// A step that a person has to bring on, one that reads what it gave, and one that waits for the file `gate`.
fn held(head: &str) -> Cli {
    Cli::with(&format!(
        "version: 1\nname: held\n{head}steps:\n  - {{ id: a, run: echo a >>log }}\n  - id: bad\n    on_failure: pause\n    \
         run: \"echo bad >>log; test -e good; echo 5\"\n    outputs: {{ x: json }}\n  - id: use\n    \
         env: {{ X: \"{{{{ steps.bad.x + 1 }}}}\" }}\n    run: echo \"use $X\" >>log\n  - id: slow\n    run: |\n      \
         touch began; for _ in $(seq 2400); do if test -e gate; then exit 0; fi; sleep 0.05; done; exit 99\n  \
         - {{ id: z, run: echo z >>log }}\nfinally:\n  - {{ id: fin, run: echo fin >>log }}\n"
    ))
}

/// A run at a terminal whose step `bad` is held.
fn at_held(cli: &Cli, more: &[&str]) -> Terminal {
    let terminal = cli.at_terminal(&[&["run", "runbook.yaml"], more].concat());
    until("the step is held", || cli.count("step_held") == 1);
    terminal
}

fn told(ran: &Ran) -> Value {
    match &objects(&ran.out)[..] {
        [one] => one.clone(),
        other => panic!("one object is expected: {other:?}"),
    }
}

#[test]
fn a_step_marked_done_gives_its_declared_outputs_to_later_steps_and_is_an_exception() {
    let cli = held("");
    let terminal = at_held(&cli, &[]);
    cli.run(&["mark-done", "last", "bad", "--output", "y=1"]).ends(4).says("no output `y`").says("`x`");
    cli.run(&["mark-done", "last", "bad", "--output", "x=41", "--reason", "by hand", "--as", "ada"]).ends(0);
    cli.file("gate", "");
    terminal.wait().ends(5).prints("marked done by a person");
    assert_eq!(log(&cli), ["a", "bad", "use 42", "z", "fin"]);
    cli.run(&["audit", "verify", "all"]).ends(0);
}

#[test]
fn a_step_that_is_held_is_tried_again_and_a_running_one_is_left_alone() {
    let cli = held("");
    let terminal = at_held(&cli, &[]);
    assert_eq!(told(&cli.run(&["retry", "last", "bad", "--json"]).ends(0))["fate"], "accepted");
    until("it is held again", || cli.count("step_held") == 2);
    cli.file("good", "");
    cli.run(&["retry", "last", "bad"]).ends(0);
    until("the slow step runs", || cli.path("began").exists());
    for verb in ["retry", "skip", "mark-done"] {
        let refused = cli.run(&[verb, "last", "slow", "--json"]).ends(4);
        assert_eq!(told(&refused)["fate"], "refused");
        assert!(told(&refused)["why"].as_str().is_some_and(|why| why.contains("it is running")), "{refused:?}");
    }
    cli.run(&["skip", "last", "a"]).ends(4).says("it has ended");
    cli.run(&["retry", "last", "z"]).ends(4).says("it has not begun");
    cli.file("gate", "");
    terminal.wait().ends(0);
    assert_eq!(log(&cli), ["a", "bad", "bad", "bad", "use 6", "z", "fin"]);
}

#[test]
fn a_paused_run_starts_nothing_until_it_may_go_on() {
    let cli = held("");
    cli.file("good", "");
    let terminal = cli.at_terminal(&["run", "runbook.yaml"]);
    until("the slow step runs", || cli.path("began").exists());
    assert_eq!(told(&cli.run(&["pause", "last", "--json"]).ends(0))["verb"], "pause");
    cli.run(&["pause", "last"]).ends(4).says("paused already, by tester");
    cli.file("gate", "");
    until("the slow step ends", || {
        cli.events(0).iter().any(|event| event["type"] == "step_succeeded" && event["step"] == "slow")
    });
    cli.run(&["show", "last"]).ends(0).prints("paused by tester");
    // What is asked next is taken after the pause: had anything begun, it would stand before that.
    cli.run(&["retry", "last", "z"]).ends(4);
    assert!(!log(&cli).contains(&"z".to_owned()));
    cli.run(&["continue", "last"]).ends(0);
    terminal.wait().ends(0);
    assert_eq!(log(&cli), ["a", "bad", "use 6", "z", "fin"]);
}

#[test]
fn a_denied_approval_is_offered_only_what_works_and_each_line_works_as_it_is_printed() {
    let cli = Cli::with(
        "version: 1\nname: copy\nenvironments: { production: { protected: true, default: true } }\nsteps:\n  \
         - { id: looked, on_failure: pause, uses: approval, with: { prompt: 'May it be removed?' } }\n  \
         - { id: z, run: echo z >>log }\n",
    );
    cli.run(&["run", "runbook.yaml", "--confirm", "production"]).ends(13);
    cli.run(&["deny", "last", "looked", "--comment", "not yet"]).ends(0).says("is kept");
    let resumed = cli.run(&["resume", "last"]).ends(13);
    let run = cli.id();
    let retry = format!("runbook retry {run} looked --reason WHY");
    resumed.says(&retry).says(&format!("runbook cancel {run} --reason WHY"));
    let shown = cli.run(&["show", "last"]).ends(0).prints(&retry);
    assert!(!shown.out.contains("runbook skip") && !shown.out.contains("mark-done"), "{}", shown.out);
    for verb in ["skip", "mark-done"] {
        let refused = cli.run(&[verb, "last", "looked", "--reason", "get on"]).ends(4);
        refused.says("it is an approval").says(&retry);
    }
    cli.run(&["approve", "last", "looked"]).ends(2).says(&retry);
    let words: Vec<&str> = retry.split(' ').skip(1).collect();
    cli.run(&words).ends(0).says("is kept");
    cli.run(&["resume", "last"]).ends(13);
    cli.run(&["approve", "last", "looked"]).ends(0);
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!(log(&cli), ["z"]);
}

#[test]
fn a_protected_environment_wants_a_reason_for_every_verb_and_keeps_it() {
    let cli = held("environments: { production: { protected: true, default: true } }\n");
    cli.run(&["run", "runbook.yaml"]).ends(4).says("--confirm production");
    let terminal = at_held(&cli, &["--confirm", "production"]);
    for verb in [
        &["skip", "last", "bad"][..],
        &["retry", "last", "bad"],
        &["mark-done", "last", "bad"],
        &["pause", "last"],
        &["cancel", "last"],
    ] {
        cli.run(verb).ends(4).says("is protected: say why");
    }
    assert_eq!(cli.count("operator_acted") + cli.count("cancel_requested"), 0);
    cli.run(&["skip", "last", "bad", "--reason", "not needed today"]).ends(0);
    cli.file("gate", "");
    terminal.wait().ends(5).prints("left out by a person");
    let acted = cli.events(0).into_iter().find(|event| event["type"] == "operator_acted").expect("an order");
    assert_eq!((&acted["reason"], &acted["actor"]["name"]), (&json!("not needed today"), &json!("tester")));
    assert_eq!(log(&cli), ["a", "bad", "z", "fin"]);
}

#[test]
fn a_run_that_waits_for_a_person_can_be_cancelled_live_and_left_alone() {
    let live = held("");
    let terminal = at_held(&live, &[]);
    live.run(&["cancel", "last", "--reason", "enough"]).ends(0);
    terminal.wait().ends(12);
    let left = held("");
    left.run(&["run", "runbook.yaml"]).ends(13);
    left.run(&["cancel", "last", "--reason", "enough"]).ends(0).says("runbook resume");
    left.run(&["resume", "last"]).ends(12);
    for cli in [live, left] {
        assert_eq!(log(&cli), ["a", "bad", "fin"]);
        assert_eq!(cli.status("bad"), "cancelled");
    }
}

#[test]
fn a_request_that_is_delivered_twice_acts_once() {
    let cli = held("");
    cli.run(&["run", "runbook.yaml"]).ends(13);
    cli.run(&["retry", "last", "bad"]).ends(0);
    let control = cli.only_run().join("control");
    let file = std::fs::read_dir(&control).unwrap().flatten().find(|entry| entry.path().is_file()).expect("a request");
    let (name, request) = (file.file_name(), std::fs::read(file.path()).unwrap());
    for attempts in [2, 2] {
        cli.run(&["resume", "last"]).ends(13);
        assert_eq!((cli.count("operator_acted"), log(&cli).len()), (1, 1 + attempts));
        std::fs::write(control.join(&name), &request).unwrap();
    }
    std::fs::write(control.join("0.json"), "{").unwrap();
    cli.run(&["resume", "last"]).ends(13);
    assert_eq!((cli.count("operator_acted"), cli.count("operator_refused")), (1, 0));
}

#[test]
fn a_lost_terminal_leaves_its_question_to_other_terminals() {
    let cli = asking("quorum: 1");
    cli.run(&["run", "runbook.yaml"]).ends(13);
    let terminal = cli.at_terminal(&["resume", "last"]);
    terminal.shows("Approve? [yes/no]");
    until("it was taken over", || cli.count("run_resumed") == 1);
    let program = cli.events(0).iter().rev().find_map(|event| event["pid"].as_i64()).expect("a pid");
    let program = rustix::process::Pid::from_raw(i32::try_from(program).unwrap()).unwrap();
    rustix::process::kill_process(program, Signal::HUP).unwrap();
    terminal.wait().ends(13);
    cli.run(&["approve", "last", "--as", "ada"]).ends(0).says("is kept");
    cli.run(&["resume", "last"]).ends(0);
    assert_eq!(log(&cli), ["before", "after ada"]);
}

#[test]
fn a_no_counts_above_every_yes_on_which_nothing_was_done_whichever_came_first() {
    let yes = ["approve", "last", "declare", "--as", "ada"];
    let no = ["deny", "last", "--comment", "wrong database"];
    let cli = asking("quorum: 1");
    cli.run(&["run", "runbook.yaml"]).ends(13);
    cli.run(&yes).ends(0).says("is kept");
    let shown = cli.run(&["show", "last"]).ends(0).prints("not taken yet").prints("`approve declare` by ada");
    let shown = shown.prints("  go on     runbook resume ");
    assert!(!shown.out.contains("runbook approve"), "it was answered: {}", shown.out);
    cli.run(&no).ends(0).says("`approve declare` by ada is kept").says("this `deny` counts above it");
    cli.run(&["show", "last"]).ends(0).prints("`deny declare` by tester: wrong database");
    cli.run(&["approve", "last", "--as", "bob"]).ends(4).says("a no counts above every yes");
    cli.run(&["resume", "last"]).ends(10).says("denied by tester: wrong database");
    assert_eq!(log(&cli), ["before"]);
    assert!(!cli.run(&["show", "last"]).ends(0).out.contains("not taken yet"));

    // Who has said yes may say no, also where the yes was taken and others are waited for.
    let cli = asking("quorum: 2");
    cli.run(&["run", "runbook.yaml"]).ends(13);
    cli.run(&["approve", "last"]).ends(0);
    cli.run(&["resume", "last"]).ends(13);
    assert!(!cli.run(&["show", "last"]).ends(0).out.contains("not taken yet"), "it was taken");
    cli.run(&yes).ends(0);
    cli.run(&no).ends(0);
    cli.run(&["resume", "last"]).ends(10).says("denied by tester: wrong database");
    assert_eq!(log(&cli), ["before"]);

    // Of somebody who may not answer neither counts.
    let cli = asking("approvers: [ada]");
    cli.run(&["run", "runbook.yaml"]).ends(13);
    cli.run(&no).ends(0);
    cli.run(&yes).ends(0);
    cli.run(&["resume", "last"]).ends(0).says("`tester` may not answer");
    assert_eq!(log(&cli), ["before", "after ada"]);
}

#[test]
fn a_cancel_that_is_kept_is_told_by_show_and_by_who_would_undo_the_run() {
    let cli = asking("quorum: 1");
    cli.run(&["run", "runbook.yaml"]).ends(13);
    cli.run(&["undo", "last"]).ends(4).says("`runbook cancel").says("first ends it");
    cli.run(&["cancel", "last", "--reason", "wrong database"]).ends(0);
    cli.run(&["show", "last"]).ends(0).prints("`cancel` by tester: wrong database");
    cli.run(&["undo", "last"]).ends(4).says("a `cancel` of it is kept").says("carries it out");
    cli.run(&["resume", "last"]).ends(12);
    assert_eq!(log(&cli), ["before"]);
}
