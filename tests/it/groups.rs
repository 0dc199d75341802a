//! Fan-outs and sub-runbooks at run time: their members are steps, and the rule of a run holds inside each.

use std::time::Duration;

use runbook::event::{CancelLevel, EventKind, ExceptionKind, OperatorVerb, SkipReason};
use runbook::language::runbook::OnFailure;
use runbook::plan::{Section, UndoPolicy};
use runbook::port::ControlRequest;
use runbook::state::{StepStatus, UndoState};
use serde_json::{Value, json};

use crate::prop_engine::replays;
use crate::support::fake::Act;
use crate::support::scenario::{Played, Scenario};

const SECOND: Duration = Duration::from_secs(1);

fn output(played: &Played, step: &str) -> Value {
    played.state().steps[step].output.clone().expect("it succeeded")
}

fn message(played: &Played, step: &str) -> String {
    played.state().steps[step].error.clone().expect("it failed").message
}

fn skipped(played: &Played, step: &str) -> Option<SkipReason> {
    played.state().steps[step].skipped.clone()
}

/// Runs, and holds the kept summary against one made anew after every event.
fn run(scenario: &Scenario) -> Played {
    let played = scenario.run();
    replays(scenario, &played);
    played
}

#[test]
fn a_fan_out_makes_its_step_for_every_item_and_gives_lists() {
    let scenario = Scenario::new()
        .step("x", |s| s.for_each(json!(["a", "b/c"])).with(json!({"value": "{{ item_key }}={{ item }}"})))
        .then("y", |s| s.with(json!({"value": "{{ steps.x.value[1] }} of {{ steps.x.keys | length }}"})));
    let played = run(&scenario);
    assert_eq!(scenario.world.order(), ["x[a]", "x[b%2Fc]", "y"]);
    let lists = json!({"attempt": [1, 1], "value": ["a=a", "b/c=b/c"], "keys": ["a", "b/c"]});
    assert_eq!(output(&played, "x"), lists);
    assert_eq!(output(&played, "y")["value"], json!("b/c=b/c of 2"));
    played.ends(0);
}

#[test]
fn the_items_may_come_from_an_earlier_step_and_be_a_mapping() {
    let scenario = Scenario::new()
        .step("list", |s| s.with(json!({"value": {"one": 1, "two": 2}})))
        .then("x", |s| s.for_each(json!("{{ steps.list.value }}")).with(json!({"value": "{{ item + 1 }}"})));
    let played = run(&scenario).ends(0);
    assert_eq!(output(&played, "x")["value"], json!([2, 3]));
    assert_eq!(output(&played, "x")["keys"], json!(["one", "two"]));
}

#[test]
fn no_items_are_a_success_and_items_of_a_wrong_kind_a_failure() {
    let empty = run(&Scenario::new().step("x", |s| s.for_each(json!([]))).then("y", |s| s)).ends(0);
    assert_eq!(output(&empty, "x"), json!({"attempt": [], "value": [], "keys": []}));
    assert_eq!(empty.status("y"), StepStatus::Succeeded);
    let twice = run(&Scenario::new().step("x", |s| s.for_each(json!(["a", "a"])))).ends(10);
    assert!(message(&twice, "x").contains("two of the key `a`"));
    let secret = run(&Scenario::new().step("x", |s| s.for_each(json!(["{{ secrets.key }}"])))).ends(10);
    assert!(message(&secret, "x").contains("may not hold a secret"));
}

#[test]
fn the_condition_of_a_fan_out_is_evaluated_once_and_before_its_items() {
    let scenario = Scenario::new()
        .step("x", |s| s.when("false").for_each(json!("{{ steps.no.such }}")))
        .step("y", |s| s.requires(json!("1 > 2")).for_each(json!(["a"])).tolerated())
        .step("z", |s| s.requires(json!({"uses": "fake.read", "with": {}})).for_each(json!(["a", "b"])));
    let played = run(&scenario).ends(5);
    assert_eq!(skipped(&played, "x"), Some(SkipReason::When));
    assert!(message(&played, "y").contains("does not hold"));
    let aside = |kind: &&EventKind| matches!(kind, EventKind::StepChecked { .. });
    assert_eq!(played.kinds().iter().filter(aside).count(), 1, "of the group, and of no instance");
}

#[test]
fn a_fan_out_runs_no_more_at_once_than_it_says_and_holds_no_place_itself() {
    let take = [Act::Take(SECOND)];
    let wide = || Scenario::new().step("x", |s| s.for_each(json!([1, 2, 3, 4, 5]))).parallel(8);
    let all = |scenario: Scenario| (1..=5).fold(scenario, |all, at| all.does(&format!("x[{at}]"), &take));
    let bounded = all(Scenario::new().step("x", |s| s.for_each(json!([1, 2, 3, 4, 5])).at_once(2)).parallel(8))
        .step("y", |s| s.does(&take));
    run(&bounded).ends(0);
    assert_eq!(bounded.world.most_running(), 3, "two of the fan-out, and the step beside it");
    let unbounded = all(wide());
    run(&unbounded).ends(0);
    assert_eq!(unbounded.world.most_running(), 5);
    run(&all(wide()).parallel(1)).ends(0);
}

#[test]
fn a_failing_instance_lets_nothing_new_begin_and_fails_its_group() {
    let scenario = Scenario::new()
        .step("x", |s| s.for_each(json!(["a", "b", "c"])).at_once(1))
        .then("y", |s| s)
        .does("x[b]", &[Act::Fatal]);
    let played = run(&scenario).ends(10);
    assert_eq!(scenario.world.order(), ["x[a]", "x[b]"]);
    assert_eq!(message(&played, "x"), "1 of 3 instances failed: `b`");
    assert_eq!(skipped(&played, "x[c]"), Some(SkipReason::Aborted));
    assert_eq!(skipped(&played, "y"), Some(SkipReason::Need { step: "x".parse().expect("an id") }));
}

#[test]
fn a_tolerated_fan_out_makes_every_instance_and_is_an_exception() {
    let scenario = Scenario::new()
        .step("x", |s| s.for_each(json!(["a", "b", "c"])).at_once(1).tolerated())
        .then("y", |s| s)
        .does("x[a]", &[Act::Fatal]);
    let played = run(&scenario).ends(5);
    assert_eq!(scenario.world.order(), ["x[a]", "x[b]", "x[c]", "y"]);
    assert_eq!(message(&played, "x"), "1 of 3 instances failed: `a`");
    let (_, _, figures) = played.state().finished.clone().expect("finished");
    let tolerated = |step: &str| (step.parse().expect("an id"), ExceptionKind::Tolerated);
    assert_eq!(figures.exceptions, [tolerated("x"), tolerated("x[a]")]);
}

#[test]
fn an_instance_whose_end_is_unknown_makes_the_end_of_its_group_unknown() {
    let scenario = Scenario::new().step("x", |s| s.for_each(json!(["a", "b"]))).does("x[a]", &[Act::Unknown]);
    let played = run(&scenario).ends(11);
    assert_eq!(played.status("x"), StepStatus::Unknown);
    assert!(message(&played, "x").contains("what became of 1 of 2 instances: `a`"));
}

#[test]
fn instances_are_tried_again_one_by_one() {
    let scenario = Scenario::new()
        .step("x", |s| s.for_each(json!(["a", "b"])).tries(3))
        .does("x[a]", &[Act::Retryable, Act::Retryable, Act::Succeed]);
    let played = run(&scenario).ends(0);
    assert_eq!(output(&played, "x")["attempt"], json!([3, 1]));
    let (_, _, figures) = played.state().finished.clone().expect("finished");
    assert!(figures.retry_ms > 0, "what instances repeat is repetition");
    assert_eq!(figures.critical_path, ["x[a]".parse().expect("an id")]);
}

#[test]
fn a_cancel_ends_the_instances_and_their_group() {
    let scenario = Scenario::new()
        .step("x", |s| s.for_each(json!(["a", "b"])).at_once(1))
        .does("x[a]", &[Act::Hang])
        .finally("z", |s| s)
        .cancel(SECOND, CancelLevel::Graceful);
    let played = run(&scenario).ends(12);
    assert_eq!(played.status("x[a]"), StepStatus::Cancelled);
    assert_eq!(skipped(&played, "x[b]"), Some(SkipReason::Cancelled));
    assert_eq!(played.status("x"), StepStatus::Cancelled);
    assert_eq!(played.status("z"), StepStatus::Succeeded);
}

/// A sub-runbook of two steps and one that runs in any case, and a step that reads what it gives.
fn sub(shape: impl Fn(crate::support::scenario::Draft) -> crate::support::scenario::Draft) -> Scenario {
    Scenario::new()
        .step("first", |s| s.with(json!({"value": "{{ params.who }}"})))
        .group("g", json!({"made": "{{ steps.b.value }}"}), |s| shape(s.needs(&["first"])))
        .step("g/a", |s| s.inside("g").with(json!({"value": "{{ params.who }} {{ run.name }}"})))
        .step("g/b", |s| s.inside("g").needs(&["g/a"]).with(json!({"value": "{{ steps.a.value }}!"})))
        .step("g/z", |s| {
            s.inside("g").after_any(&["g/a", "g/b"]).always().with(json!({"value": "{{ steps.b.status }}"}))
        })
        .step("last", |s| s.after_any(&["g"]).with(json!({"value": "{{ steps.g.made }}"})))
}

#[test]
fn a_sub_runbook_has_names_of_its_own_and_gives_its_outputs() {
    let scenario = sub(|s| s);
    let played = run(&scenario).ends(0);
    assert_eq!(scenario.world.order(), ["first", "g/a", "g/b", "g/z", "last"]);
    assert_eq!(output(&played, "first")["value"], json!("orders"));
    assert_eq!(output(&played, "g"), json!({"made": "the who of g scenario!"}));
    assert_eq!(output(&played, "last")["value"], json!("the who of g scenario!"));
    assert_eq!(output(&played, "g/z")["value"], json!("succeeded"));
}

#[test]
fn a_sub_runbook_that_is_skipped_skips_all_its_steps() {
    let scenario = sub(|s| s.when("false"));
    let played = run(&scenario).ends(0);
    for step in ["g/a", "g/b", "g/z"] {
        assert_eq!(skipped(&played, step), Some(SkipReason::Group), "{step}");
    }
    assert_eq!(scenario.world.order(), ["first", "last"]);
    assert_eq!(output(&played, "last")["value"], Value::Null);
}

#[test]
fn a_failure_in_a_sub_runbook_ends_it_and_what_runs_in_any_case_runs() {
    let scenario = sub(|s| s).does("g/a", &[Act::Fatal]);
    let played = run(&scenario).ends(10);
    assert_eq!(scenario.world.order(), ["first", "g/a", "g/z"]);
    assert_eq!(message(&played, "g"), "1 of 2 steps failed: `a`");
    assert_eq!(skipped(&played, "last"), Some(SkipReason::Aborted));
    let tolerated = sub(|s| s.tolerated()).does("g/a", &[Act::Fatal]);
    run(&tolerated).ends(5);
    assert_eq!(tolerated.world.order(), ["first", "g/a", "g/z", "last"]);
}

#[test]
fn outputs_that_cannot_be_evaluated_fail_the_sub_runbook() {
    let scenario =
        Scenario::new().group("g", json!({"made": "{{ steps.a.value.x.y }}"}), |s| s).step("g/a", |s| s.inside("g"));
    let played = run(&scenario).ends(10);
    assert!(message(&played, "g").contains("an output (`/made`) cannot be evaluated"));
}

#[test]
fn a_cancel_ends_a_sub_runbook_and_runs_what_runs_in_any_case_where_it_began() {
    let make = || sub(|s| s).does("g/a", &[Act::Hang]);
    let cancelled = make().cancel(SECOND, CancelLevel::Graceful);
    let played = run(&cancelled).ends(12);
    assert_eq!(played.status("g"), StepStatus::Cancelled);
    assert_eq!(cancelled.world.order(), ["first", "g/a", "g/z"]);
    let before = make().does("first", &[Act::Hang]).cancel(SECOND, CancelLevel::Graceful);
    let played = run(&before).ends(12);
    assert_eq!(skipped(&played, "g/z"), Some(SkipReason::Group));
}

#[test]
fn groups_stand_in_groups() {
    let scenario = Scenario::new()
        .group("g", json!({"all": "{{ steps.x.value }}", "deep": "{{ steps.h.it }}"}), |s| s)
        .step("g/x", |s| {
            s.inside("g").for_each(json!(["a", "b"])).with(json!({"value": "{{ params.who }} {{ item }}"}))
        })
        .group("g/h", json!({"it": "{{ steps.a.value }}"}), |s| s.inside("g").needs(&["g/x"]))
        .step("g/h/a", |s| s.inside("g/h").with(json!({"value": "{{ params.who }}"})))
        .step("last", |s| s.needs(&["g"]).with(json!({"value": "{{ steps.g.deep }}"})));
    let played = run(&scenario).ends(0);
    assert_eq!(scenario.world.order(), ["g/x[a]", "g/x[b]", "g/h/a", "last"]);
    let all = ["the who of g a", "the who of g b"];
    assert_eq!(output(&played, "g"), json!({"all": all, "deep": "the who of g/h"}));
    assert_eq!(output(&played, "last")["value"], json!("the who of g/h"));
}

#[test]
fn a_failure_around_an_open_group_ends_it_too() {
    let scenario = Scenario::new()
        .group("g", json!({}), |s| s)
        .step("g/a", |s| s.inside("g").does(&[Act::Take(3 * SECOND)]))
        .step("g/b", |s| s.inside("g").needs(&["g/a"]))
        .step("g/z", |s| s.inside("g").after_any(&["g/b"]).always())
        .step("bad", |s| s.does(&[Act::Fatal]));
    let played = run(&scenario).ends(10);
    assert_eq!(skipped(&played, "g/b"), Some(SkipReason::Aborted));
    assert_eq!(played.status("g/z"), StepStatus::Succeeded);
    assert_eq!(message(&played, "g"), "a failure around it ended it before 1 of 2 steps began: `b`");
}

#[test]
fn an_instance_under_pause_is_held_by_itself_and_goes_on_when_it_is_released() {
    let retry = ControlRequest::Act {
        request: "r1".to_owned(),
        actor: crate::support::scenario::actor(),
        verb: OperatorVerb::Retry,
        step: Some("x[a]".parse().expect("an id")),
        reason: String::new(),
    };
    let mut scenario = Scenario::new()
        .step("x", |s| s.for_each(json!(["a", "b"])).at_once(1))
        .does("x[a]", &[Act::Fatal, Act::Succeed])
        .ask(5 * SECOND, retry);
    scenario.plan.steps[0].on_failure = OnFailure::Pause;
    let played = run(&scenario.attended()).ends(0);
    assert_eq!(output(&played, "x")["attempt"], json!([2, 1]));
}

#[test]
fn what_a_fan_out_did_is_undone_instance_by_instance_last_first() {
    let mut scenario = Scenario::new()
        .step("x", |s| s.for_each(json!(["a", "b", "c"])).at_once(1))
        .then("y", |s| s.does(&[Act::Fatal]))
        .step("x.undo", |s| s.with(json!({"value": "{{ item_key }} {{ steps.x.attempt }}"})))
        .finally("z", |s| s);
    scenario.plan.steps[2].section = Section::Undo;
    scenario.plan.undo = UndoPolicy::OnFailure;
    let played = run(&scenario).ends(10);
    assert_eq!(scenario.world.order(), ["x[a]", "x[b]", "x[c]", "y", "x[c].undo", "x[b].undo", "x[a].undo", "z"]);
    assert_eq!(output(&played, "x[c].undo")["value"], json!("c 1"));
    assert_eq!(skipped(&played, "x.undo"), Some(SkipReason::NothingToUndo));
    assert_eq!(played.state().steps["x[a]"].undo, Some(UndoState::Undone));
}

#[test]
fn ten_thousand_instances_cost_little_more_each_than_ten() {
    let ran = |count: usize| {
        let scenario = Scenario::new()
            .step("x", |s| s.uses("fake.read").for_each((0..count).collect()).at_once(3))
            .then("y", |s| s.with(json!({"value": "{{ steps.x.keys | length }}"})))
            .parallel(4);
        let began = std::time::Instant::now();
        let played = scenario.run_quietly().ends(0);
        assert_eq!(output(&played, "y")["value"], json!(count));
        began.elapsed()
    };
    let (small, large) = (ran(1_000), ran(10_000));
    println!("1000 instances: {small:?}, 10000: {large:?}");
    assert!(large < 60 * small, "a fan-out is linear: {small:?} for 1000, {large:?} for 10000");
}
