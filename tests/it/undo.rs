//! What was done is undone: which steps, in which order, and what that makes of the run.

use std::time::Duration;

use runbook::event::{CancelLevel, EventKind, SeededEnd, SkipReason};
use runbook::plan::UndoPolicy;
use runbook::state::{StepStatus, UndoState};
use serde_json::json;

use crate::support::fake::Act;
use crate::support::scenario::{Played, Scenario};

const SECOND: Duration = Duration::from_secs(1);

/// Three steps, each with an undo; the last one fails.
fn failing() -> Scenario {
    Scenario::new()
        .step("a", |s| s)
        .undo(|s| s)
        .then("b", |s| s)
        .undo(|s| s)
        .then("c", |s| s.does(&[Act::Fatal]))
        .undo(|s| s)
        .finally("z", |s| s)
}

fn skipped(played: &Played, step: &str) -> Option<SkipReason> {
    played.state().steps.get(step).and_then(|step| step.skipped.clone())
}

fn undo_of(played: &Played, step: &str) -> Option<UndoState> {
    played.state().steps.get(step).and_then(|step| step.undo)
}

#[test]
fn a_failed_run_undoes_what_ran_or_may_have_run_last_first_and_before_finally() {
    let scenario = failing().undoes(UndoPolicy::OnFailure);
    let played = scenario.run().ends(10);
    assert_eq!(scenario.world.order(), ["a", "b", "c", "c.undo", "b.undo", "a.undo", "z"]);
    assert_eq!(undo_of(&played, "a"), Some(UndoState::Undone));
}

#[test]
fn a_run_that_was_not_asked_to_undoes_nothing() {
    let scenario = failing();
    let played = scenario.run().ends(10);
    assert_eq!(scenario.world.order(), ["a", "b", "c", "z"]);
    assert_eq!(skipped(&played, "a.undo"), Some(SkipReason::NothingToUndo));
    assert_eq!(undo_of(&played, "a"), None);
}

#[test]
fn a_success_and_a_plain_cancel_undo_nothing() {
    let make = || Scenario::new().undoes(UndoPolicy::OnFailure).step("a", |s| s).undo(|s| s);
    let scenario = make();
    scenario.run().ends(0);
    assert_eq!(scenario.world.order(), ["a"]);
    let scenario = make().then("b", |s| s.does(&[Act::Hang])).undo(|s| s).cancel(SECOND, CancelLevel::Graceful);
    scenario.run().ends(12);
    assert_eq!(scenario.world.order(), ["a", "b"]);
}

#[test]
fn what_did_nothing_is_not_undone() {
    let scenario = Scenario::new()
        .undoes(UndoPolicy::OnFailure)
        .step("a", |s| s.when("false"))
        .undo(|s| s)
        .then("b", |s| s.requires(json!("1 == 2")))
        .undo(|s| s)
        .then("c", |s| s)
        .undo(|s| s);
    let played = scenario.run().ends(10);
    assert!(scenario.world.order().is_empty(), "{:?}", scenario.world.order());
    for step in ["a.undo", "b.undo", "c.undo"] {
        assert_eq!(skipped(&played, step), Some(SkipReason::NothingToUndo), "{step}");
    }
}

#[test]
fn a_failing_undo_stops_the_ones_before_it() {
    let scenario = Scenario::new()
        .undoes(UndoPolicy::OnFailure)
        .step("a", |s| s)
        .undo(|s| s)
        .then("b", |s| s)
        .undo(|s| s.does(&[Act::Fatal]))
        .then("c", |s| s.does(&[Act::Fatal]))
        .finally("z", |s| s);
    let played = scenario.run().ends(10);
    assert_eq!(scenario.world.order(), ["a", "b", "c", "b.undo", "z"]);
    assert_eq!(skipped(&played, "a.undo"), Some(SkipReason::UndoStopped));
    assert_eq!(undo_of(&played, "b"), Some(UndoState::UndoFailed));
}

#[test]
fn a_failing_undo_that_is_tolerated_stops_nothing() {
    let scenario = Scenario::new()
        .undoes(UndoPolicy::OnFailure)
        .step("a", |s| s)
        .undo(|s| s)
        .then("b", |s| s)
        .undo(|s| s.does(&[Act::Fatal]).tolerated())
        .then("c", |s| s.does(&[Act::Fatal]));
    scenario.run().ends(10);
    assert_eq!(scenario.world.order(), ["a", "b", "c", "b.undo", "a.undo"]);
}

#[test]
fn an_undo_is_retried_and_reads_what_its_step_gave() {
    let scenario = Scenario::new()
        .undoes(UndoPolicy::OnFailure)
        .step("a", |s| s.uses("fake.again").with(json!({ "value": 7 })))
        .undo(|s| s.uses("fake.again").with(json!({ "value": "{{ steps.a.value }}" })).does(&[Act::Retryable]).tries(2))
        .then("b", |s| s.does(&[Act::Fatal]))
        .undo(|s| s.with(json!({ "value": "{{ steps.b.value }}" })));
    let played = scenario.run().ends(10);
    assert_eq!(played.state().steps["a.undo"].last_attempt().0, 2);
    assert_eq!(played.state().steps["a.undo"].with, Some(json!({ "value": 7 })));
    assert_eq!(played.state().steps["b.undo"].with, Some(json!({})), "what failed gave nothing");
}

#[test]
fn a_cancel_while_undoing_lets_it_go_on_and_the_second_one_kills_it() {
    let make = |undo: Act| {
        Scenario::new()
            .undoes(UndoPolicy::OnFailure)
            .step("a", |s| s)
            .undo(|s| s)
            .then("b", |s| s.does(&[Act::Fatal]))
            .undo(|s| s.does(&[undo]))
            .finally("z", |s| s)
    };
    let scenario = make(Act::Take(4 * SECOND)).cancel(SECOND, CancelLevel::Graceful);
    scenario.run().ends(10);
    assert_eq!(scenario.world.order(), ["a", "b", "b.undo", "a.undo", "z"]);
    let scenario = make(Act::Hang).cancel(SECOND, CancelLevel::Graceful).cancel(2 * SECOND, CancelLevel::Now);
    let played = scenario.run().ends(10);
    assert_eq!(played.status("b.undo"), StepStatus::Cancelled);
    assert_eq!(played.status("a.undo"), StepStatus::Skipped);
    assert_eq!(played.status("z"), StepStatus::Succeeded);
}

/// A run that undoes an earlier one, in which `c` failed and `d` did nothing.
pub fn undoing() -> Scenario {
    Scenario::new()
        .undoes(UndoPolicy::Now { to: None })
        .step("a", |s| s)
        .undo(|s| s.uses("fake.kept"))
        .then("b", |s| s)
        .undo(|s| s.uses("fake.kept").with(json!({ "value": "{{ steps.b.value }}" })))
        .then("c", |s| s)
        .undo(|s| s.uses("fake.kept"))
        .then("d", |s| s)
        .undo(|s| s.uses("fake.kept"))
        .seed("b", SeededEnd::Succeeded)
        .seed("a", SeededEnd::Succeeded)
        .seed("c", SeededEnd::Failed)
        .seed("d", SeededEnd::Skipped)
}

#[test]
fn an_undo_run_makes_only_the_undos_in_reverse_order_of_completion_and_succeeds() {
    let scenario = undoing();
    let played = scenario.run().ends(0);
    assert_eq!(scenario.world.order(), ["c.undo", "a.undo", "b.undo"]);
    assert_eq!(played.state().steps["b.undo"].with, Some(json!({ "value": "seeded" })));
    let seeds = played.kinds().iter().filter(|kind| matches!(kind, EventKind::StepSeeded { .. })).count();
    assert_eq!(seeds, 4);
}

#[test]
fn an_undo_run_can_go_back_to_one_step_only() {
    let scenario = undoing().undoes(UndoPolicy::Now { to: Some("a".parse().unwrap()) });
    scenario.run().ends(0);
    assert_eq!(scenario.world.order(), ["c.undo", "a.undo"]);
}

#[test]
fn an_undo_run_fails_when_an_undo_does() {
    let mut scenario = undoing();
    scenario.world.script("a.undo", vec![Act::Fatal]);
    let played = scenario.run().ends(10);
    assert_eq!(scenario.world.order(), ["c.undo", "a.undo"]);
    assert_eq!(skipped(&played, "b.undo"), Some(SkipReason::UndoStopped));
    scenario = undoing();
    scenario.plan.objectives.rto = Some(runbook::base::units::Span(SECOND));
    let figures = scenario.run().ends(0).state().finished.clone().unwrap().2;
    assert_eq!((figures.rto_ms, figures.rto_target_ms), (None, None), "what undoes a run recovers nothing");
}

#[test]
fn what_was_undone_before_is_not_undone_again() {
    let scenario = undoing().seed("c.undo", SeededEnd::Succeeded);
    let played = scenario.run().ends(0);
    assert_eq!(scenario.world.order(), ["a.undo", "b.undo"]);
    assert_eq!(undo_of(&played, "c"), Some(UndoState::Undone));
}

#[test]
fn seeded_steps_are_not_made_again_and_the_rest_reads_their_outputs() {
    let scenario = Scenario::new()
        .step("a", |s| s)
        .then("b", |s| s.uses("fake.again").with(json!({ "value": "{{ steps.a.value }}" })))
        .seed("a", SeededEnd::Succeeded);
    let played = scenario.run().ends(0);
    assert_eq!(scenario.world.order(), ["b"]);
    assert_eq!(played.state().steps["b"].with, Some(json!({ "value": "seeded" })));
}

#[test]
fn going_back_to_a_group_undoes_its_members_and_nothing_before_it() {
    let to = |step: &str| UndoPolicy::Now { to: Some(step.parse().expect("an id")) };
    let scenario = |to| {
        let scenario = Scenario::new()
            .step("first", |s| s)
            .undo(|s| s)
            .step("x", |s| s.needs(&["first"]).for_each(json!(["a", "b"])).at_once(1))
            .undo(|s| s)
            .group("g", json!({}), |s| s.needs(&["x"]))
            .step("g/a", |s| s.inside("g"))
            .undo(|s| s);
        scenario.undoes(to)
    };
    let undone = |scenario: &Scenario| {
        scenario.run().ends(0);
        scenario.world.order().into_iter().filter(|step| step.ends_with(".undo")).collect::<Vec<_>>()
    };
    assert_eq!(undone(&scenario(to("g"))), ["g/a.undo"]);
    assert_eq!(undone(&scenario(to("x"))), ["g/a.undo", "x[b].undo", "x[a].undo"]);
    assert_eq!(undone(&scenario(to("first"))).last().expect("undone"), "first.undo");
}
