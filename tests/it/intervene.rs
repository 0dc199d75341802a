//! What operators may do at awkward moments: each of these once broke a run.

use std::time::Duration;

use runbook::event::{CancelLevel, EventKind, OperatorVerb};
use runbook::plan::UndoPolicy;
use runbook::port::ControlRequest;
use runbook::state::{StepStatus, UndoState};
use serde_json::{Map, json};

use crate::people::Asked;
use crate::prop_engine::replays;
use crate::support::fake::Act;
use crate::support::scenario::{Played, Scenario, actor};

const SECOND: Duration = Duration::from_secs(1);

fn done() -> OperatorVerb {
    OperatorVerb::MarkDone { output: Map::new() }
}

fn refusals(played: &Played) -> Vec<String> {
    let why = |kind| if let EventKind::OperatorRefused { why, .. } = kind { Some(why) } else { None };
    played.kinds().into_iter().filter_map(why).collect()
}

#[test]
fn a_cancel_ends_the_second_attempt_of_a_step_whose_first_may_have_happened() {
    let scenario = Scenario::new()
        .step("x", |s| s.pauses().does(&[Act::Unknown, Act::Hang]))
        .finally("z", |s| s)
        .attended()
        .act(1, OperatorVerb::Retry, Some("x"))
        .cancel(5 * SECOND, CancelLevel::Graceful);
    let played = scenario.run().ends(12);
    assert_eq!((played.status("x"), played.status("z")), (StepStatus::Cancelled, StepStatus::Succeeded));
    replays(&scenario, &played);
}

#[test]
fn a_cancel_of_a_released_step_does_not_forget_that_it_may_have_happened() {
    let scenario = Scenario::new()
        .step("x", |s| s.pauses().does(&[Act::Unknown]))
        .step("y", |s| s.does(&[Act::Take(20 * SECOND)]))
        .parallel(1)
        .attended()
        .act(1, OperatorVerb::Retry, Some("x"))
        .cancel(5 * SECOND, CancelLevel::Graceful);
    let played = scenario.run().ends(11);
    assert_eq!(played.status("x"), StepStatus::Unknown);
    replays(&scenario, &played);
}

#[test]
fn a_cancel_ends_a_pause_so_that_finally_runs() {
    let scenario = Scenario::new()
        .step("x", |s| s.does(&[Act::Hang]))
        .then("y", |s| s)
        .finally("z", |s| s)
        .attended()
        .act(1, OperatorVerb::Pause, None)
        .cancel(11 * SECOND, CancelLevel::Graceful);
    let played = scenario.run().ends(12);
    assert_eq!((played.status("y"), played.status("z")), (StepStatus::Skipped, StepStatus::Succeeded));
    let (.., figures) = played.state().finished.as_ref().expect("over");
    assert!(figures.human_ms <= 10_000, "{figures:?}");
    replays(&scenario, &played);
}

#[test]
fn a_pause_that_names_a_step_holds_that_step_no_longer_than_the_run() {
    let scenario = Scenario::new()
        .step("x", |s| s.does(&[Act::Take(3 * SECOND)]))
        .then("y", |s| s)
        .act(1, OperatorVerb::Pause, Some("y"))
        .act(10, OperatorVerb::Continue, Some("x"));
    let played = scenario.run().ends(0);
    assert!(played.state().orders.is_empty());
}

#[test]
fn a_step_that_is_being_looked_into_takes_no_second_order() {
    let cut = Scenario::new().step("x", |s| s.does(&[Act::Take(20 * SECOND), Act::Succeed]));
    let abandoned = cut.ask(SECOND, ControlRequest::Abandon);
    let left = abandoned.run().ends(12);
    let again = |request: &str, verb| ControlRequest::Act {
        request: request.to_owned(),
        actor: actor(),
        verb,
        step: Some("x".parse().expect("an id")),
        reason: String::new(),
    };
    let at = Duration::from_secs(30);
    let resumed = abandoned
        .unasked()
        .attended()
        .ask(at, again("first", OperatorVerb::Retry))
        .ask(at, again("second", OperatorVerb::Skip));
    let played = resumed.resume(&left, &[]).ends(0);
    assert!(refusals(&played).iter().any(|why| why.contains("being looked into")), "{:?}", refusals(&played));
    assert_eq!(played.status("x"), StepStatus::Succeeded);
}

#[test]
fn groups_that_are_marked_done_give_nulls_to_whoever_reads_them() {
    let scenario = Scenario::new()
        .step("wait", |s| s.does(&[Act::Take(9 * SECOND)]))
        .group("g", json!({"made": "{{ steps.a.value }}"}), |s| s.needs(&["wait"]))
        .step("g/a", |s| s.inside("g"))
        .step("x", |s| s.needs(&["wait"]).for_each(json!(["a"])))
        .step("last", |s| {
            s.needs(&["g", "x"]).with(json!({"value": "{{ steps.g.made is none and steps.x.keys is none }}"}))
        })
        .attended()
        .rto(60 * SECOND)
        .act(1, OperatorVerb::MarkDone { output: Map::from_iter([("maed".to_owned(), json!(7))]) }, Some("g"))
        .act(2, done(), Some("g"))
        .act(3, done(), Some("x"));
    let played = scenario.run().ends(5);
    assert!(refusals(&played)[0].contains("no output `maed`; known outputs: `made`"), "{:?}", refusals(&played));
    assert_eq!(played.state().steps["last"].output.as_ref().expect("done")["value"], json!(true));
    let (.., figures) = played.state().finished.as_ref().expect("over");
    assert!(figures.rto_ms.is_some(), "a person said that everything is back: {figures:?}");
    replays(&scenario, &played);
}

#[test]
fn an_undo_cannot_be_taken_for_done_before_it_is_due() {
    let scenario = Scenario::new()
        .step("x", |s| s.does(&[Act::Take(5 * SECOND)]))
        .undo(|s| s.does(&[Act::Fatal]).pauses())
        .step("y", |s| s.needs(&["x"]).does(&[Act::Fatal]))
        .undoes(UndoPolicy::OnFailure)
        .attended()
        .act(1, done(), Some("x.undo"))
        .act(9, done(), Some("x.undo"));
    let played = scenario.run().ends(10);
    assert!(refusals(&played)[0].contains("not known yet"), "{:?}", refusals(&played));
    assert_eq!(played.state().steps["x"].undo, Some(UndoState::Undone));
    replays(&scenario, &played);
}

#[test]
fn a_thousand_undos_cost_little_more_each_than_a_hundred() {
    let ran = |count: usize| {
        let scenario = (0..count).fold(Scenario::new(), |all, at| all.step(&format!("s{at}"), |s| s).undo(|s| s));
        let scenario = scenario.then("bad", |s| s.does(&[Act::Fatal])).undoes(UndoPolicy::OnFailure);
        // Of the processor, which no other program and no disk shares with it.
        let spent = || rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let began = spent();
        let played = scenario.run_quietly().ends(10);
        assert_eq!(played.state().steps["s0"].undo, Some(UndoState::Undone));
        let ended = spent();
        Duration::new((ended.tv_sec - began.tv_sec) as u64, 0) + Duration::from_nanos(ended.tv_nsec as u64)
            - Duration::from_nanos(began.tv_nsec as u64)
    };
    let (small, large) = (ran(100), ran(1_000));
    println!("100 undos: {small:?}, 1000: {large:?}");
    assert!(large < 60 * small, "{small:?} for 100, {large:?} for 1000");
}
