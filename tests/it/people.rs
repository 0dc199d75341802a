//! People in the loop: approvals, manual steps, held steps, operators, and the locks of steps.

use std::time::Duration;

use runbook::base::{Digest, StepId};
use runbook::engine::Left;
use runbook::event::{
    Actor, CancelLevel, ErrorClass, EventKind, ExceptionKind, HumanAnswer, HumanVerdict, OperatorVerb, SkipReason,
};
use runbook::port::ControlRequest;
use runbook::state::StepStatus;
use serde_json::{Map, Value, json};

use crate::support::fake::Act;
use crate::support::scenario::{Played, Scenario};

const SECOND: Duration = Duration::from_secs(1);

fn id(step: &str) -> StepId {
    step.parse().expect("a step id")
}

fn person(name: &str) -> Actor {
    Actor { name: name.to_owned(), from: "here".to_owned() }
}

/// A person's answer to the question as the scenario asks it.
pub struct Reply(HumanAnswer);

impl Reply {
    pub fn yes(name: &str) -> Self {
        Self(HumanAnswer {
            request: format!("answer-{name}"),
            by: person(name),
            verdict: HumanVerdict::Yes,
            comment: String::new(),
            inputs: Map::new(),
            seen: Digest::default(),
            break_glass: None,
        })
    }
    fn no(name: &str, comment: &str) -> Self {
        let yes = Self::yes(name).0;
        Self(HumanAnswer { verdict: HumanVerdict::No, comment: comment.to_owned(), ..yes })
    }
    fn input(mut self, name: &str, value: Value) -> Self {
        self.0.inputs.insert(name.to_owned(), value);
        self
    }
    fn alone(mut self, reason: &str) -> Self {
        self.0.break_glass = Some(reason.to_owned());
        self
    }
    fn named(mut self, request: &str) -> Self {
        self.0.request = request.to_owned();
        self
    }
}

/// What is asked of a run after so many seconds.
pub trait Asked {
    fn reply(self, seconds: u32, step: &str, reply: Reply) -> Self;
    fn act(self, seconds: u32, verb: OperatorVerb, step: Option<&str>) -> Self;
}

impl Asked for Scenario {
    fn reply(self, seconds: u32, step: &str, mut reply: Reply) -> Self {
        // What is asked does not depend on the answers, so a run that nobody answers shows it.
        let silent = self.twin().run();
        let question = silent.kinds().into_iter().find_map(|kind| match kind {
            EventKind::StepAsked { step: asked, question } if asked == id(step) => Some(question),
            _ => None,
        });
        reply.0.seen = question.map_or_else(Digest::default, |question| question.digest());
        self.ask(seconds * SECOND, ControlRequest::Answer { step: id(step), answer: Box::new(reply.0) })
    }
    fn act(self, seconds: u32, verb: OperatorVerb, step: Option<&str>) -> Self {
        let request = format!("{seconds}-{verb:?}");
        let step = step.map(id);
        let act = ControlRequest::Act { request, actor: person("ada"), verb, step, reason: String::new() };
        self.ask(seconds * SECOND, act)
    }
}

fn refusals(played: &Played) -> Vec<String> {
    let kinds = played.kinds().into_iter();
    kinds
        .filter_map(|kind| match kind {
            EventKind::OperatorRefused { why, .. } => Some(why),
            _ => None,
        })
        .collect()
}

fn exceptions(played: &Played) -> Vec<ExceptionKind> {
    let (.., figures) = played.state().finished.as_ref().expect("it is over");
    figures.exceptions.iter().map(|(_, kind)| *kind).collect()
}

fn guarded(with: Value) -> Scenario {
    Scenario::new().step("declare", |s| s.approval(with.clone())).then("act", |s| s.needs(&["declare"])).attended()
}

#[test]
fn a_step_that_needs_an_approval_waits_for_it_and_reads_what_was_filled_in() {
    let with = json!({"prompt": "Rebuild {{ params.who }}?", "inputs": {"ticket": {"type": "int"}}});
    let played = Scenario::new()
        .step("declare", |s| s.approval(with))
        .then("act", |s| s.needs(&["declare"]).with(json!({"value": "{{ steps.declare.inputs.ticket }}"})))
        .attended()
        .reply(90, "declare", Reply::yes("ada").input("ticket", json!("4711")))
        .run()
        .ends(0);
    let declared = &played.state().steps[&id("declare")];
    let output = json!({"approved": true, "by": ["ada"], "comment": "", "inputs": {"ticket": 4711}});
    assert_eq!(declared.output.as_ref(), Some(&output));
    assert_eq!(declared.question.as_ref().expect("asked").prompt, "Rebuild orders?");
    assert_eq!(played.state().steps[&id("act")].output.as_ref().expect("done")["value"], 4711);
    let (.., figures) = played.state().finished.as_ref().expect("over");
    assert!((90_000..91_000).contains(&figures.human_ms), "{figures:?}");
    assert_eq!(figures.waiting_ms, 0);
}

#[test]
fn a_run_that_only_people_can_bring_on_is_left_when_nobody_is_there_and_says_what_to_type() {
    let scenario = Scenario::new().step("declare", |s| s.approval(json!({"prompt": "Go?"}))).step("other", |s| s);
    let left = scenario.run().ends(13);
    assert_eq!(left.ending().how, Left::Suspended);
    assert_eq!(left.status("other"), StepStatus::Succeeded, "what does not need it goes on");
    let question = &left.state().suspended[0].question;
    assert_eq!(
        question,
        "Go?; `runbook approve 20260128-143002-3fa9c1 declare` or `runbook deny 20260128-143002-3fa9c1 declare --comment WHY`"
    );
    let resumed = scenario.reply(0, "declare", Reply::yes("ada")).resume(&left, &[]).ends(0);
    assert_eq!(resumed.status("declare"), StepStatus::Succeeded);
}

#[test]
fn a_quorum_wants_different_people_and_not_whoever_started_the_run() {
    let with = json!({"prompt": "Go?", "quorum": 2, "approvers": ["tester", "ada", "bob"], "not_initiator": true});
    let played = guarded(with)
        .reply(1, "declare", Reply::yes("tester"))
        .reply(2, "declare", Reply::yes("eve"))
        .reply(3, "declare", Reply::yes("ada"))
        .reply(4, "declare", Reply::yes("ada").named("again"))
        .reply(5, "declare", Reply::yes("ada"))
        .reply(6, "declare", Reply::yes("bob"))
        .run()
        .ends(0);
    let said = refusals(&played);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].contains("started the run") && said[1].contains("`eve` may not answer"), "{said:?}");
    assert!(said[2].contains("answered already"), "the same request a second time is not even refused: {said:?}");
    assert_eq!(played.state().steps[&id("declare")].output.as_ref().expect("output")["by"], json!(["ada", "bob"]));
}

#[test]
fn one_person_who_breaks_the_glass_is_enough_and_an_exception() {
    let with = json!({"prompt": "Go?", "quorum": 2, "not_initiator": true});
    let played = guarded(with).reply(1, "declare", Reply::yes("tester").alone("nobody else is awake")).run().ends(5);
    assert_eq!(exceptions(&played), [ExceptionKind::BrokeGlass]);
}

#[test]
fn a_denial_fails_the_step_with_the_words_of_whoever_denied() {
    let played =
        guarded(json!({"prompt": "Go?", "quorum": 2})).reply(1, "declare", Reply::no("ada", "not now")).run().ends(10);
    let error = played.state().steps[&id("declare")].error.clone().expect("failed");
    assert_eq!((error.class, error.message.as_str()), (ErrorClass::Fatal, "denied by ada: not now"));
    assert_eq!(played.status("act"), StepStatus::Skipped);
}

#[test]
fn an_answer_to_another_question_or_with_values_that_do_not_fit_does_not_count() {
    let with = json!({"prompt": "Go?", "inputs": {"ticket": {"type": "int"}, "note": {"required": false}}});
    let mut other = Reply::yes("eve").input("ticket", json!(1));
    other.0.seen = Digest::of(b"another");
    let blind = ControlRequest::Answer { step: id("declare"), answer: Box::new(other.0) };
    let played = guarded(with)
        .ask(SECOND, blind)
        .reply(2, "declare", Reply::yes("ada").named("1"))
        .reply(3, "declare", Reply::yes("ada").named("2").input("ticket", json!("many")))
        .reply(4, "declare", Reply::yes("ada").named("3").input("tikcet", json!(1)))
        .reply(5, "act", Reply::yes("ada").named("4"))
        .reply(6, "declar", Reply::yes("ada").named("5"))
        .reply(7, "declare", Reply::yes("ada").named("6").input("ticket", json!("7")))
        .run()
        .ends(0);
    let said = refusals(&played);
    let parts = [
        "another question",
        "`ticket` is missing",
        "whole number",
        "no input `tikcet`",
        "asks nothing",
        "did you mean `declare`?",
    ];
    assert_eq!(said.len(), parts.len(), "{said:?}");
    for (why, part) in said.iter().zip(parts) {
        assert!(why.contains(part), "`{part}` in `{why}`");
    }
}

#[test]
fn nobody_answers_in_time_and_on_timeout_says_what_follows() {
    let asked = |on_timeout: &str| {
        let with = json!({"prompt": "Go?", "timeout": "5m", "on_timeout": on_timeout});
        Scenario::new().step("declare", |s| s.approval(with)).then("act", |s| s.needs(&["declare"])).run()
    };
    let aborted = asked("abort").ends(10);
    let error = aborted.state().steps[&id("declare")].error.clone().expect("failed");
    assert_eq!((error.class, error.message.as_str()), (ErrorClass::Timeout, "nobody answered within `5m`"));
    let went_on = asked("continue").ends(5);
    assert_eq!(exceptions(&went_on), [ExceptionKind::Unapproved]);
    assert_eq!(went_on.state().steps[&id("declare")].output.as_ref().expect("output")["approved"], false);
    let paused = asked("pause").ends(13);
    assert_eq!(paused.status("declare"), StepStatus::Asking);
    assert!(paused.state().steps[&id("declare")].expired, "an open question is waited for, also when nobody is there");
}

#[test]
fn a_manual_step_is_done_when_somebody_says_so_and_failed_when_it_cannot_be_done() {
    let shape = || {
        let with =
            json!({"instruction": "Power {{ params.who }} on", "checklist": ["the LED is green"], "timer": "10m"});
        Scenario::new().step("power", |s| s.manual(with)).attended()
    };
    let done = shape().reply(60, "power", Reply::yes("ada")).run().ends(0);
    assert_eq!(
        done.state().steps[&id("power")].output,
        Some(json!({"by": "ada", "comment": "", "inputs": {}, "done": true}))
    );
    let failed = shape().reply(60, "power", Reply::no("ada", "no key")).run().ends(10);
    assert_eq!(failed.state().steps[&id("power")].error.as_ref().expect("why").message, "not done, says ada: no key");
    let alone =
        shape().reply(1, "power", Reply::yes("ada").alone("why not")).reply(2, "power", Reply::yes("bob")).run();
    assert!(refusals(&alone)[0].contains("no glass"));
}

#[test]
fn a_cancel_ends_an_open_question() {
    let played = guarded(json!({"prompt": "Go?"})).cancel(SECOND, CancelLevel::Graceful).run().ends(12);
    assert_eq!(played.status("declare"), StepStatus::Cancelled);
}

#[test]
fn a_held_step_waits_for_an_operator_while_others_go_on_and_gets_a_fresh_budget() {
    let played = Scenario::new()
        .step("x", |s| {
            s.uses("fake.again").does(&[Act::Retryable, Act::Retryable, Act::Retryable, Act::Succeed]).tries(2).pauses()
        })
        .then("y", |s| s.needs(&["x"]))
        .step("other", |s| s)
        .attended()
        .act(60, OperatorVerb::Retry, Some("x"))
        .run()
        .ends(0);
    assert_eq!(played.state().steps[&id("x")].last_attempt().0, 4);
    assert!(exceptions(&played).is_empty(), "a retry by hand alone is no exception");
    let (.., figures) = played.state().finished.as_ref().expect("over");
    assert!(figures.human_ms >= 55_000 && figures.retry_ms < 5_000, "{figures:?}");
}

#[test]
fn every_way_to_fail_is_held_under_pause_and_an_unknown_end_keeps_its_class() {
    let held = |scenario: Scenario| {
        let left = scenario.run().ends(13);
        assert_eq!(left.status("x"), StepStatus::Held);
        left.state().steps[&id("x")].error.clone().expect("why").class
    };
    let one = |act: Act| Scenario::new().step("x", |s| s.does(&[act]).pauses());
    assert_eq!(held(one(Act::Fatal)), ErrorClass::Fatal);
    assert_eq!(held(one(Act::Unknown)), ErrorClass::Unknown);
    let unresolved = || Scenario::new().step("x", |s| s.requires(json!("false")).pauses());
    assert_eq!(held(unresolved()), ErrorClass::Fatal);
    let unchecked = || Scenario::new().step("x", |s| s.checked().with(json!({"refuse": "no"})).pauses());
    assert_eq!(held(unchecked()), ErrorClass::Fatal);
    let cancelled = one(Act::Unknown).attended().cancel(SECOND, CancelLevel::Graceful).run().ends(11);
    assert_eq!(cancelled.status("x"), StepStatus::Unknown);
    let cancelled = one(Act::Fatal).attended().cancel(SECOND, CancelLevel::Graceful).run().ends(12);
    assert_eq!(cancelled.status("x"), StepStatus::Cancelled);
}

#[test]
fn a_released_step_that_never_began_is_looked_at_anew() {
    let scenario = Scenario::new().step("x", |s| s.requires(json!("false")).pauses()).attended();
    let played = scenario.act(1, OperatorVerb::Retry, Some("x")).act(2, OperatorVerb::Skip, Some("x")).run().ends(5);
    let held = played.kinds().iter().filter(|kind| matches!(kind, EventKind::StepHeld { .. })).count();
    assert_eq!(held, 2);
}

#[test]
fn a_step_left_out_by_hand_satisfies_what_follows_and_not_what_needs_it() {
    let played = Scenario::new()
        .step("x", |s| s.does(&[Act::Fatal]).pauses())
        .then("follows", |s| s)
        .step("needs", |s| s.needs(&["x"]))
        .attended()
        .act(1, OperatorVerb::Skip, Some("x"))
        .run()
        .ends(5);
    assert_eq!(played.state().steps[&id("x")].skipped, Some(SkipReason::ByHand));
    assert_eq!((played.status("follows"), played.status("needs")), (StepStatus::Succeeded, StepStatus::Skipped));
    assert!(exceptions(&played).contains(&ExceptionKind::LeftOut));
}

#[test]
fn a_step_marked_done_gives_what_was_said_and_nulls() {
    let output = Map::from_iter([("value".to_owned(), json!(7))]);
    let played = Scenario::new()
        .step("x", |s| s.does(&[Act::Fatal]).pauses())
        .step("y", |s| s.needs(&["x"]).with(json!({"value": "{{ steps.x.value }}"})))
        .attended()
        .act(1, OperatorVerb::MarkDone { output: Map::from_iter([("valeu".to_owned(), json!(7))]) }, Some("x"))
        .act(2, OperatorVerb::MarkDone { output }, Some("x"))
        .run()
        .ends(5);
    assert!(refusals(&played)[0].contains("no output `valeu`"));
    assert_eq!(played.state().steps[&id("x")].output, Some(json!({"attempt": null, "value": 7})));
    assert_eq!(played.state().steps[&id("y")].output.as_ref().expect("done")["value"], 7);
    assert_eq!(exceptions(&played), [ExceptionKind::MarkedDone]);
}

#[test]
fn a_paused_run_starts_nothing_and_what_runs_ends() {
    let played = Scenario::new()
        .step("a", |s| s.does(&[Act::Take(10 * SECOND)]))
        .then("b", |s| s)
        .act(1, OperatorVerb::Pause, None)
        .act(2, OperatorVerb::Pause, None)
        .act(100, OperatorVerb::Continue, None)
        .act(101, OperatorVerb::Continue, None)
        .run()
        .ends(0);
    let started = played.state().steps[&id("b")].attempts[0].started_at;
    assert!(started.duration_since(played.state().started_at.expect("began")).as_secs() >= 100);
    assert!(refusals(&played)[0].contains("paused already, by ada"));
    let (.., figures) = played.state().finished.as_ref().expect("over");
    assert!((89_000..91_000).contains(&figures.human_ms), "{figures:?}");
}

#[test]
fn a_paused_run_that_was_taken_over_is_left_until_it_may_go_on() {
    let scenario =
        || Scenario::new().step("a", |s| s.uses("fake.kept").does(&[Act::Take(5 * SECOND)])).then("b", |s| s);
    let abandoned = scenario().act(1, OperatorVerb::Pause, None).ask(2 * SECOND, ControlRequest::Abandon);
    let cut = abandoned.run().ends(12);
    let unasked = abandoned.unasked();
    let left = unasked.resume(&cut, &[]).ends(13);
    assert!(left.state().suspended[0].question.contains("the run is paused"), "{:?}", left.state().suspended);
    unasked.act(0, OperatorVerb::Continue, None).resume(&left, &[]).ends(0);
}

#[test]
fn what_is_not_possible_is_refused_with_what_is() {
    let played = guarded(json!({"prompt": "Go?"}))
        .step("busy", |s| s.does(&[Act::Take(20 * SECOND)]))
        .step("over", |s| s)
        .act(1, OperatorVerb::Skip, Some("declare"))
        .act(2, OperatorVerb::Skip, Some("busy"))
        .act(3, OperatorVerb::Retry, Some("over"))
        .act(4, OperatorVerb::Skip, Some("bsuy"))
        .act(5, OperatorVerb::Retry, Some("declare"))
        .act(6, OperatorVerb::Retry, Some("act"))
        .reply(7, "declare", Reply::yes("ada"))
        .run()
        .ends(0);
    let parts = [
        "--break-glass",
        "it is running",
        "has ended (succeeded)",
        "did you mean `busy`?",
        "`runbook deny`",
        "not begun",
    ];
    let said = refusals(&played);
    assert_eq!(said.len(), parts.len(), "{said:?}");
    for (why, part) in said.iter().zip(parts) {
        assert!(why.contains(part), "`{part}` in `{why}`");
    }
}

#[test]
fn a_protected_environment_wants_a_reason() {
    let scenario = Scenario::new().step("x", |s| s.does(&[Act::Fatal]).pauses()).protected().attended();
    let played = scenario.act(1, OperatorVerb::Skip, Some("x")).cancel(2 * SECOND, CancelLevel::Graceful).run();
    assert!(refusals(&played)[0].contains("add `--reason`"));
    assert_eq!(played.status("x"), StepStatus::Cancelled);
}

#[test]
fn requests_that_came_while_nobody_was_there_are_all_taken_before_anything_else() {
    let scenario =
        Scenario::new().step("x", |s| s.does(&[Act::Fatal]).pauses()).step("y", |s| s.does(&[Act::Fatal]).pauses());
    let left = scenario.run().ends(13);
    let scenario = scenario.act(0, OperatorVerb::Skip, Some("x")).ask(
        Duration::ZERO,
        ControlRequest::Act {
            request: "second".to_owned(),
            actor: person("ada"),
            verb: OperatorVerb::Skip,
            step: Some(id("y")),
            reason: String::new(),
        },
    );
    let ended = scenario.resume(&left, &[]).ends(5);
    assert_eq!(exceptions(&ended), [ExceptionKind::LeftOut, ExceptionKind::LeftOut]);
}

#[test]
fn steps_with_a_common_lock_never_run_at_the_same_time() {
    let slow = [Act::Take(5 * SECOND)];
    let scenario = Scenario::new()
        .step("a", |s| s.does(&slow).locks(&["tape"]))
        .step("b", |s| s.does(&slow).locks(&["tape", "robot"]))
        .step("c", |s| s.does(&slow).locks(&["robot"]));
    let played = scenario.run().ends(0);
    assert_eq!(scenario.world.most_running(), 2, "a and c may");
    assert!(scenario.locks.holders().is_empty(), "everything is let go of");
    assert_eq!(played.kinds().iter().filter(|kind| matches!(kind, EventKind::LockTaken { .. })).count(), 4);
}

#[test]
fn a_lock_of_another_run_is_waited_for_and_a_dead_holder_is_named() {
    let scenario = Scenario::new().step("a", |s| s.locks(&["tape"]));
    scenario.locks.taken_by("tape", "20260101-000000-aaaaaa", 30 * SECOND);
    let played = scenario.run().ends(0);
    let awaited = played.kinds().iter().filter(|kind| matches!(kind, EventKind::LockAwaited { .. })).count();
    assert_eq!(awaited, 1, "said once");
    let over = played.kinds().into_iter().find_map(|kind| match kind {
        EventKind::LockTaken { over, waited_ms, .. } => Some((over, waited_ms)),
        _ => None,
    });
    let (over, waited_ms) = over.expect("it was had");
    assert_eq!(over.as_deref(), Some("20260101-000000-aaaaaa"));
    assert!((29_000..31_000).contains(&waited_ms), "{waited_ms}");
    let (.., figures) = played.state().finished.as_ref().expect("over");
    assert!((29_000..31_000).contains(&figures.lock_ms), "{figures:?}");
}
