//! Verbs, answers and locks between terminals: the real program on hand-written runs, and two real runs side by side.

use std::path::PathBuf;

use runbook::base::{Attempt, clock};
use runbook::event::{ErrorClass, ErrorInfo, EventKind, Figures, OperatorVerb, Outcome, Question};
use runbook::journal::{ControlDir, CreatedRun, Runs, Verb};
use runbook::plan::BoundPlan;
use runbook::port::{Control as _, ControlRequest, Journal as _};
use serde_json::{Value, json};

use crate::support::cli::{Cli, Live, gated, until};
use crate::support::recorded;

const FIRST: &str = "20260128-143002-3fa9c1";
const SECOND: &str = "20260128-143005-77d0aa";
const LOCK: &str = "database:local:/nowhere/orders";

/// A run whose engine is this test.
struct Desk {
    cli: Cli,
    run: CreatedRun,
}

impl Desk {
    /// A protected run in which `declare` asks for approval and `copy` failed and is held.
    fn new() -> Self {
        Self::asking(&json!({ "ticket": { "type": "int" }, "note": { "required": false } }))
    }

    fn asking(inputs: &Value) -> Self {
        let cli = Cli::new();
        let mut plan = recorded::plan(FIRST);
        for id in ["declare", "copy"] {
            let mut step = plan.steps[0].clone();
            step.id = id.parse().expect("an id");
            plan.steps.push(step);
        }
        let run = Runs::open(cli.state()).expect("opens").create(&plan).expect("creates");
        let mut desk = Self { cli, run };
        let started = recorded::rounds(desk.run.plan).remove(0);
        desk.write(started);
        desk.write(vec![
            EventKind::StepResolved {
                step: "declare".parse().expect("an id"),
                with: json!({}),
                secrets: Vec::new(),
                preconditions: Vec::new(),
            },
            EventKind::StepAsked { step: "declare".parse().expect("an id"), question: Box::new(question(inputs)) },
            EventKind::StepHeld {
                step: "copy".parse().expect("an id"),
                attempt: Attempt(0),
                error: ErrorInfo::new(ErrorClass::Fatal, "no room"),
                elapsed_ms: 1,
            },
        ]);
        desk
    }

    fn write(&mut self, kinds: Vec<EventKind>) {
        self.run.journal.append(clock::now(), kinds).expect("appends");
        self.run.journal.sync().expect("syncs");
    }

    fn finish(&mut self) {
        self.write(vec![EventKind::RunFinished {
            outcome: Outcome::Cancelled,
            exit_code: 12,
            figures: Box::new(Figures::default()),
        }]);
    }

    /// The engine is gone.
    fn left(self) -> Cli {
        drop(self.run);
        self.cli
    }

    /// Takes the next request, as an engine does.
    fn next(&self) -> ControlRequest {
        let mut control = ControlDir::new(self.run.dir.control());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(control.next())
    }
}

fn question(inputs: &Value) -> Question {
    serde_json::from_value(json!({
        "kind": "approval", "prompt": "Declare the incident?", "inputs": inputs, "approvers": ["ada", "grace"],
        "quorum": 2, "initiator": "may_approve", "on_timeout": "pause",
    }))
    .expect("a question")
}

/// What was sent to the only run.
fn sent(cli: &Cli) -> Vec<Verb> {
    let entries = std::fs::read_dir(cli.only_run().join("control")).expect("a folder").flatten();
    let files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.iter().map(|path| serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("a verb")).collect()
}

#[test]
fn an_answer_to_a_run_that_nobody_drives_is_kept_with_who_gave_it_and_what_was_seen() {
    let cli = Desk::new().left();
    let args = ["approve", "last", "--as", "grace", "--comment", "seen it", "--input", "ticket=4711"];
    cli.run(&args).ends(0).says("Declare the incident?").says("2 different people").says("runbook resume");
    let [Verb::Answer { step, answer }] = &sent(&cli)[..] else { panic!("an answer") };
    assert_eq!((step.as_str(), answer.by.name.as_str(), answer.comment.as_str()), ("declare", "grace", "seen it"));
    assert!(answer.by.from.starts_with("tester@"), "{}", answer.by.from);
    assert_eq!(Value::Object(answer.inputs.clone()), json!({ "ticket": 4711 }));
    let asked = question(&json!({ "ticket": { "type": "int" }, "note": { "required": false } }));
    assert_eq!(answer.seen, asked.digest());
}

#[test]
fn an_answer_that_cannot_be_complete_is_not_sent() {
    let cli = Desk::new().left();
    cli.run(&["approve", "last"]).ends(2).says("`ticket` is missing").says("--input ticket=VALUE");
    cli.run(&["approve", "last", "--input", "ticket=soon"]).ends(2).says("a whole number");
    cli.run(&["approve", "last", "--input", "tickets=1"]).ends(2).says("no input `tickets`").says("`ticket`");
    cli.run(&["approve", "last", "--input", "ticket=1", "--break-glass"]).ends(2).says("--reason");
    cli.run(&["deny", "last", "declare"]).ends(2).says("--comment");
    cli.run(&["approve", "last", "copy"]).ends(2).says("`copy` asks nothing now").says("`declare`");
    cli.run(&["approve", "last", "declear"]).ends(2).says("did you mean `declare`?");
    assert_eq!(sent(&cli), []);
}

#[test]
fn a_verb_without_a_reason_is_refused_in_a_protected_environment_before_it_is_sent() {
    let cli = Desk::new().left();
    for verb in [vec!["pause", "last"], vec!["continue", "last"], vec!["cancel", "last"], vec!["retry", "last", "copy"]]
    {
        cli.run(&verb).ends(4).says("protected").says("--reason");
    }
    cli.run(&["skip", "last", "copy", "--reason", " "]).ends(4);
    cli.run(&["mark-done", "last", "copy"]).ends(4);
    assert_eq!(sent(&cli), []);
}

#[test]
fn outputs_of_a_step_marked_done_are_json_where_they_read_as_such() {
    let cli = Desk::new().left();
    let outputs = ["--output", "rows=42", "--output", "file=/tmp/dump", "--output", "tags=[\"a\"]"];
    let mut args = vec!["mark-done", "last", "copy", "--reason", "by hand", "--json"];
    args.extend(outputs);
    let told = cli.run(&args).ends(0).json();
    assert_eq!((&told["fate"], &told["verb"], &told["step"]), (&json!("kept"), &json!("mark-done"), &json!("copy")));
    let [Verb::Act { act: OperatorVerb::MarkDone { output }, reason, .. }] = &sent(&cli)[..] else {
        panic!("a mark-done")
    };
    assert_eq!(Value::Object(output.clone()), json!({ "rows": 42, "file": "/tmp/dump", "tags": ["a"] }));
    assert_eq!(reason, "by hand");
}

#[test]
fn the_command_tells_what_the_live_run_made_of_the_verb() {
    let mut desk = Desk::new();
    let accepted = desk.cli.spawn(&["pause", FIRST, "--reason", "wait", "--within", "60s"]);
    let ControlRequest::Act { request, actor, verb, step, reason } = desk.next() else { panic!("a verb") };
    assert_eq!((&verb, actor.name.as_str(), reason.as_str()), (&OperatorVerb::Pause, "tester", "wait"));
    desk.write(vec![EventKind::OperatorActed { request, actor, verb, step, reason }]);
    accepted.wait().ends(0).says("accepted");
    desk.cli.run(&["runs"]).ends(0).prints("paused by tester");

    // The first is still in the folder: this engine put nothing aside.
    std::fs::remove_dir_all(desk.run.dir.control()).expect("removes");
    std::fs::create_dir(desk.run.dir.control()).expect("creates");
    let refused = desk.cli.spawn(&["retry", "last", "copy", "--reason", "again", "--within", "60s", "--json"]);
    let ControlRequest::Act { request, actor, verb, step, .. } = desk.next() else { panic!("a verb") };
    desk.write(vec![EventKind::OperatorRefused { request, actor, verb, step, why: "it runs".to_owned() }]);
    let told = refused.wait().ends(4).json();
    assert_eq!((&told["fate"], &told["why"]), (&json!("refused"), &json!("it runs")));
}

#[test]
fn two_approvers_at_once_both_learn_what_came_of_their_own_answer() {
    let mut desk = Desk::asking(&json!({}));
    let spawn = |name| desk.cli.spawn(&["approve", FIRST, "declare", "--as", name, "--within", "60s"]);
    let both: Vec<Live> = ["ada", "ada"].into_iter().map(spawn).collect();
    let mut control = ControlDir::new(desk.run.dir.control());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for turn in 0..2 {
        let ControlRequest::Answer { step, answer } = runtime.block_on(control.next()) else { panic!("an answer") };
        desk.write(vec![match turn {
            0 => EventKind::StepAnswered { step, answer },
            _ => EventKind::OperatorRefused {
                request: answer.request.clone(),
                actor: answer.by.clone(),
                verb: OperatorVerb::Answer,
                step: Some(step),
                why: "ada has answered already".to_owned(),
            },
        }]);
    }
    let mut codes: Vec<_> = both.into_iter().map(|live| live.wait().code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(4)]);
}

#[test]
fn a_verb_that_the_run_ended_before_it_took_was_refused() {
    let mut desk = Desk::new();
    let late = desk.cli.spawn(&["pause", "last", "--reason", "wait", "--within", "60s"]);
    desk.next();
    desk.finish();
    late.wait().ends(4).says("the run ended before it was taken");
    desk.cli.run(&["pause", "last", "--reason", "wait"]).ends(2).says("has ended").says("runbook show");
}

#[test]
fn a_verb_that_a_live_run_does_not_take_in_time_waits_there() {
    let desk = Desk::new();
    desk.cli.run(&["pause", "last", "--reason", "wait", "--within", "300ms"]).ends(13).says("was not taken yet");
    assert_eq!(sent(&desk.cli).len(), 1);
}

#[test]
fn what_a_run_waits_for_is_shown_with_what_to_type() {
    let cli = Desk::new().left();
    let shown = cli.run(&["show", "last"]).ends(0).prints("`declare` asks: Declare the incident?");
    shown.prints(&format!("runbook approve {FIRST} declare")).prints(&format!("runbook retry {FIRST} copy"));
}

/// Freezes a plan of one shell step that holds a lock; `resume` starts it.
fn planned(cli: &Cli, run: &str, script: &str, edit: impl FnOnce(&mut BoundPlan)) {
    let mut plan = recorded::plan(run);
    plan.locks = vec![LOCK.to_owned()];
    plan.started_at = clock::now();
    plan.scratch = cli.path(&format!("scratch-{run}"));
    plan.steps[0].uses = "shell".to_owned();
    plan.steps[0].with = json!({ "script": script });
    plan.steps[0].phase = None;
    edit(&mut plan);
    drop(Runs::open(cli.state()).expect("opens").create(&plan).expect("creates"));
}

fn events(cli: &Cli, run: &str) -> Vec<Value> {
    let path = cli.state().join("runs").join(run).join("journal.jsonl");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|event| event["kind"].clone())
        .collect()
}

fn has(cli: &Cli, run: &str, kind: &str) -> bool {
    events(cli, run).iter().any(|event| event["type"] == kind)
}

/// One run that holds the lock until the gate opens, and a second one that queues for it.
fn queued() -> (Cli, Live, Live) {
    let cli = Cli::new();
    planned(&cli, FIRST, &gated(&cli.path("began"), &cli.path("gate")), |_| {});
    planned(&cli, SECOND, &format!("touch '{}'", cli.path("second").display()), |plan| {
        plan.queued_locks.extend(plan.locks.iter().cloned());
    });
    let first = cli.spawn(&["resume", FIRST]);
    until("the first run holds the lock", || cli.path("began").exists());
    let second = cli.spawn(&["resume", SECOND]);
    until("the second run waits", || has(&cli, SECOND, "lock_awaited"));
    (cli, first, second)
}

#[test]
fn a_run_that_queues_for_a_lock_is_shown_waiting_and_begins_when_it_is_free() {
    let (cli, first, second) = queued();
    assert_eq!(events(&cli, SECOND)[1], json!({ "type": "lock_awaited", "lock": LOCK, "holder": FIRST }));
    assert!(!cli.path("second").exists());
    until("it is told", || second.said().contains("waits for"));
    cli.file("gate", "");
    first.wait().ends(0);
    second.wait().ends(0);
    assert!(cli.path("second").exists());
    let taken = events(&cli, SECOND).into_iter().find(|event| event["type"] == "lock_taken").expect("it was taken");
    assert!(taken["waited_ms"].as_u64().is_some_and(|waited| waited > 0) && taken["over"].is_null(), "{taken}");
    assert!(!has(&cli, FIRST, "lock_taken"), "a lock that was free needs no words");
}

#[test]
fn a_run_that_is_cancelled_while_it_queues_does_nothing_at_all() {
    let (cli, first, second) = queued();
    cli.run(&["cancel", SECOND, "--reason", "not today"]).ends(0);
    second.wait().ends(12);
    assert!(!cli.path("second").exists() && has(&cli, SECOND, "run_finished"));
    cli.file("gate", "");
    first.wait().ends(0);
}

#[test]
fn a_run_whose_engine_is_killed_while_it_queues_waits_again_when_it_is_resumed() {
    let (cli, first, second) = queued();
    assert!(second.kill());
    let again = cli.spawn(&["resume", SECOND]);
    let awaited = || events(&cli, SECOND).iter().filter(|event| event["type"] == "lock_awaited").count();
    until("it waits again", || awaited() == 2);
    cli.file("gate", "");
    first.wait().ends(0);
    again.wait().ends(0);
}

#[test]
fn whoever_is_refused_a_lock_learns_who_holds_it() {
    let (cli, first, second) = queued();
    let third = "20260128-143009-000003";
    planned(&cli, third, "true", |_| {});
    let refused = cli.run(&["resume", third]).ends(14).says("started by ada since");
    refused.says("process");
    cli.file("gate", "");
    first.wait().ends(0);
    second.wait().ends(0);
}

#[test]
fn the_lock_of_a_run_whose_engine_died_is_taken_over_and_that_is_told() {
    let cli = Cli::new();
    planned(&cli, FIRST, &gated(&cli.path("began"), &cli.path("gate")), |_| {});
    planned(&cli, SECOND, "true", |_| {});
    let first = cli.spawn(&["resume", FIRST]);
    until("the first run holds the lock", || cli.path("began").exists());
    assert!(first.kill());
    cli.run(&["resume", SECOND]).ends(14).says("is still used");
    cli.file("gate", "");
    until("its step has ended", || !cli.run(&["resume", SECOND]).err.contains("is still used"));
    let taken = events(&cli, SECOND).into_iter().find(|event| event["type"] == "lock_taken").expect("it was taken");
    assert_eq!((&taken["over"], &taken["waited_ms"]), (&json!(FIRST), &json!(0)));
}

/// A runbook that replaces the database whose lock the hand-made runs hold.
const REPLACES: &str = "version: 1\nname: replaces\ndatabases: { orders: { pgdata: /nowhere/orders } }\nsteps:\n  - id: a\n    \
                        effect: destroy\n    targets: [ { database: orders } ]\n    run: touch replaced\n";

#[test]
fn a_restore_that_preempts_a_backup_is_told_of_in_both_journals() {
    let cli = Cli::with(REPLACES);
    planned(&cli, FIRST, &gated(&cli.path("began"), &cli.path("gate")), |_| {});
    let backup = cli.spawn(&["resume", FIRST]);
    until("the backup holds the lock", || cli.path("began").exists());
    cli.run(&["run", "runbook.yaml"]).ends(14).says(FIRST);
    cli.run(&["run", "runbook.yaml", "--preempt"]).ends(0).says("was told to make room");
    backup.wait().ends(12);
    let restore = cli.runs().pop().expect("a run").file_name().expect("a name").to_string_lossy().into_owned();
    let taken = events(&cli, &restore).into_iter().nth(1).expect("the second event");
    assert_eq!((&taken["type"], &taken["preempted"]), (&json!("lock_taken"), &json!(FIRST)));
    let asked = events(&cli, FIRST).into_iter().find(|event| event["type"] == "cancel_requested").expect("a cancel");
    assert_eq!(asked["reason"], format!("preempted by run {restore} of replaces"));
    assert_eq!(asked["actor"]["name"], "tester");
    assert!(cli.path("replaced").exists());
}

#[test]
fn a_restore_is_never_preempted() {
    let cli = Cli::with(REPLACES);
    planned(&cli, FIRST, &gated(&cli.path("began"), &cli.path("gate")), |plan| {
        plan.steps[0].effects.class = runbook::action::EffectClass::Destroy;
    });
    let other = cli.spawn(&["resume", FIRST]);
    until("the other holds the lock", || cli.path("began").exists());
    cli.run(&["run", "runbook.yaml", "--preempt"]).ends(14).says("cannot be preempted").says("replaces data");
    assert!(!has(&cli, FIRST, "cancel_requested") && !cli.path("replaced").exists());
    cli.file("gate", "");
    other.wait().ends(0);
}
