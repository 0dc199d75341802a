//! Every event of several runs: the machine dies before it and after it, another engine goes on, the end is the same.

use std::collections::BTreeMap;
use std::time::Duration;

use runbook::base::EventSeq;
use runbook::engine::{Answer, Left, ProbeAnswer};
use runbook::event::{CancelLevel, EventKind, OperatorVerb};
use runbook::journal::Fault;
use runbook::language::runbook::OnUnknown;
use runbook::plan::UndoPolicy;
use runbook::state::{RunState, StepStatus};
use serde_json::json;

use crate::people::{Asked as _, Reply};
use crate::support::fake::Act;
use crate::support::scenario::{Played, Scenario};

const SECOND: Duration = Duration::from_secs(1);

/// Kills the engine around every event and compares with the uninterrupted run.
fn survives_everything(make: impl Fn() -> Scenario) {
    let whole = make().run();
    let events = whole.journal.events().len();
    for seq in (1..=events).map(|at| EventSeq(u64::try_from(at).expect("small"))) {
        for fault in [Fault::CrashBefore(seq), Fault::CrashAfter(seq)] {
            let scenario = make();
            let cut = scenario.run_until(Some(fault));
            assert!(cut.result.is_err(), "{fault:?} did not strike");
            let done_before = finished_steps(&cut);
            let effects = effects(&scenario, &done_before);
            let resumed = scenario.resume(&cut, &[]);
            assert_eq!(resumed.statuses(), whole.statuses(), "{fault:?}");
            assert_eq!(resumed.ending().exit_code, whole.ending().exit_code, "{fault:?}");
            assert_eq!(self::effects(&scenario, &done_before), effects, "a finished step ran again: {fault:?}");
            let fold = RunState::fold(&resumed.journal.events()).expect("a possible run");
            assert_eq!(fold, *resumed.state(), "{fault:?}");
        }
    }
}

fn finished_steps(cut: &Played) -> Vec<String> {
    let state = RunState::fold(&cut.journal.events()).expect("a possible run");
    let finished = state.steps.iter().filter(|(_, step)| step.status.is_terminal());
    finished.map(|(id, _)| id.to_string()).collect()
}

fn effects(scenario: &Scenario, steps: &[String]) -> BTreeMap<String, usize> {
    steps.iter().map(|step| (step.clone(), scenario.world.effects(step))).collect()
}

#[test]
fn a_chain_of_idempotent_steps_ends_the_same_wherever_it_is_cut() {
    survives_everything(|| {
        Scenario::new()
            .step("a", |s| s.uses("fake.again"))
            .then("b", |s| s.uses("fake.again").checked().with(json!({"value": "{{ steps.a.attempt }}"})))
            .then("c", |s| s.uses("fake.again").when("true"))
            .finally("z", |s| s.uses("fake.again"))
    });
}

#[test]
fn parallel_branches_with_retries_and_skips_end_the_same_wherever_they_are_cut() {
    survives_everything(|| {
        Scenario::new()
            .step("a", |s| s.uses("fake.kept").does(&[Act::Take(SECOND)]))
            .step("b", |s| s.uses("fake.kept").does(&[Act::Retryable, Act::Take(2 * SECOND)]).tries(3))
            .step("c", |s| s.uses("fake.kept").needs(&["a"]).when("false"))
            .step("d", |s| s.uses("fake.kept").needs(&["c"]))
            .step("e", |s| s.uses("fake.kept").after_any(&["b", "d"]).does(&[Act::Fatal]).tolerated())
            .finally("z", |s| s.uses("fake.kept").does(&[Act::Note("the end")]))
    });
}

#[test]
fn a_failing_run_ends_the_same_wherever_it_is_cut() {
    survives_everything(|| {
        Scenario::new()
            .step("a", |s| s.uses("fake.kept"))
            .then("b", |s| s.uses("fake.kept").does(&[Act::Fatal]))
            .then("c", |s| s.uses("fake.kept"))
            .finally("z", |s| s.uses("fake.kept"))
    });
}

#[test]
fn a_run_that_registers_resources_removes_them_wherever_it_is_cut() {
    survives_everything(|| {
        Scenario::new()
            .step("a", |s| s.uses("fake.again").does(&[Act::Register("scratch")]))
            .then("b", |s| s.uses("fake.again").does(&[Act::Register("second")]))
    });
}

#[test]
fn answers_and_orders_delivered_again_act_once_wherever_the_run_is_cut() {
    survives_everything(|| {
        Scenario::new()
            .step("declare", |s| s.approval(json!({"prompt": "Go?", "quorum": 2})))
            .then("act", |s| s.uses("fake.kept").needs(&["declare"]))
            .step("power", |s| s.manual(json!({"instruction": "Power it on"})))
            .step("x", |s| s.uses("fake.kept").does(&[Act::Fatal, Act::Succeed]).pauses().locks(&["tape"]))
            .step("left", |s| s.uses("fake.kept").does(&[Act::Fatal]).pauses())
            .step("done", |s| s.uses("fake.kept").does(&[Act::Fatal]).pauses())
            .finally("z", |s| s.uses("fake.kept").locks(&["tape"]))
            .attended()
            .reply(1, "declare", Reply::yes("ada"))
            .reply(2, "declare", Reply::yes("bob"))
            .act(3, OperatorVerb::Retry, Some("x"))
            .act(4, OperatorVerb::Skip, Some("left"))
            .act(5, OperatorVerb::MarkDone { output: serde_json::Map::new() }, Some("done"))
            .reply(6, "power", Reply::yes("eve"))
    });
}

#[test]
fn a_failing_run_that_undoes_itself_ends_the_same_wherever_it_is_cut() {
    survives_everything(|| {
        Scenario::new()
            .undoes(UndoPolicy::OnFailure)
            .step("a", |s| s.uses("fake.kept"))
            .undo(|s| s.uses("fake.kept").does(&[Act::Retryable, Act::Take(SECOND)]).tries(2))
            .step("b", |s| s.uses("fake.kept").does(&[Act::Take(SECOND)]))
            .undo(|s| s.uses("fake.kept").does(&[Act::Fatal]).tolerated())
            .step("c", |s| s.uses("fake.kept").needs(&["a", "b"]).does(&[Act::Fatal]))
            .undo(|s| s.uses("fake.kept").checked())
            .then("d", |s| s.uses("fake.kept"))
            .undo(|s| s.uses("fake.kept"))
            .finally("z", |s| s.uses("fake.kept"))
    });
}

#[test]
fn a_run_that_undoes_an_earlier_one_ends_the_same_wherever_it_is_cut() {
    survives_everything(crate::undo::undoing);
    survives_everything(|| {
        let scenario = crate::undo::undoing();
        scenario.world.script("a.undo", vec![Act::Fatal]);
        scenario
    });
}

#[test]
fn an_effect_that_leaves_a_record_is_never_doubled() {
    let make = || {
        let take = |seconds: u32| [Act::Take(seconds * SECOND)];
        Scenario::new()
            .step("a", |s| s.uses("fake.kept").does(&take(3)))
            .step("b", |s| s.uses("fake.kept").does(&take(5)))
            .step("c", |s| s.uses("fake.kept").needs(&["a", "b"]))
    };
    let events = make().run().ends(0).journal.events().len();
    for at in 1..=events {
        let seq = EventSeq(u64::try_from(at).expect("small"));
        for fault in [Fault::CrashBefore(seq), Fault::CrashAfter(seq)] {
            let scenario = make();
            let cut = scenario.run_until(Some(fault));
            scenario.resume(&cut, &[]).ends(0);
            for step in ["a", "b", "c"] {
                assert_eq!(scenario.world.effects(step), 1, "`{step}` after {fault:?}");
            }
        }
    }
}

#[test]
fn a_fan_out_with_retries_and_a_failing_instance_ends_the_same_wherever_it_is_cut() {
    survives_everything(|| {
        Scenario::new()
            .step("list", |s| s.uses("fake.kept").with(json!({"value": ["a", "b", "c"]})))
            .then("x", |s| {
                let look = json!({"uses": "fake.read", "with": {}});
                let fans = s.uses("fake.kept").for_each(json!("{{ steps.list.value }}")).at_once(2).requires(look);
                fans.with(json!({"value": "{{ item }}"})).tries(3).tolerated()
            })
            .then("y", |s| s.uses("fake.kept"))
            .does("x[a]", &[Act::Retryable, Act::Take(2 * SECOND)])
            .does("x[b]", &[Act::Fatal])
            .finally("z", |s| s.uses("fake.kept"))
    });
}

#[test]
fn an_effect_of_an_instance_is_never_doubled() {
    let make = || {
        let take = |seconds: u32| [Act::Take(seconds * SECOND)];
        Scenario::new()
            .step("x", |s| s.uses("fake.kept").for_each(json!(["a", "b", "c"])).at_once(2))
            .then("y", |s| s.uses("fake.kept"))
            .does("x[a]", &take(3))
            .does("x[b]", &take(5))
    };
    let events = make().run().ends(0).journal.events().len();
    for at in 1..=events {
        let seq = EventSeq(u64::try_from(at).expect("small"));
        for fault in [Fault::CrashBefore(seq), Fault::CrashAfter(seq)] {
            let scenario = make();
            let cut = scenario.run_until(Some(fault));
            scenario.resume(&cut, &[]).ends(0);
            for step in ["x[a]", "x[b]", "x[c]", "y"] {
                assert_eq!(scenario.world.effects(step), 1, "`{step}` after {fault:?}");
            }
        }
    }
}

/// A sub-runbook in a sub-runbook, each with a step that runs in any case; `b` may fail.
fn nested(b: &[Act]) -> Scenario {
    Scenario::new()
        .group("g", json!({"it": "{{ steps.h.it }}"}), |s| s.tolerated())
        .step("g/a", |s| s.uses("fake.kept").inside("g").with(json!({"value": "{{ params.who }}"})))
        .group("g/h", json!({"it": "{{ steps.b.attempt }}"}), |s| s.inside("g").needs(&["g/a"]))
        .step("g/h/b", |s| s.uses("fake.kept").inside("g/h").does(b).tries(2))
        .step("g/h/z", |s| s.uses("fake.kept").inside("g/h").after_any(&["g/h/b"]).always())
        .step("g/c", |s| s.uses("fake.kept").inside("g").needs(&["g/h"]))
        .step("g/z", |s| s.uses("fake.kept").inside("g").after_any(&["g/c"]).always())
        .step("last", |s| s.uses("fake.kept").after_any(&["g"]).with(json!({"value": "{{ steps.g.it }}"})))
        .finally("z", |s| s.uses("fake.kept"))
}

#[test]
fn sub_runbooks_end_the_same_wherever_they_are_cut() {
    survives_everything(|| nested(&[Act::Retryable, Act::Succeed]));
    survives_everything(|| nested(&[Act::Fatal]));
}

#[test]
fn a_cancelled_sub_runbook_runs_what_runs_in_any_case_wherever_it_is_cut() {
    survives_everything(|| nested(&[Act::Take(9 * SECOND)]).cancel(SECOND, CancelLevel::Graceful));
}

/// A run cut while its only step, which leaves no record, was at work.
fn cut_at_work(shape: impl Fn(Scenario) -> Scenario) -> (Scenario, Played) {
    let scenario = shape(Scenario::new().step("a", |s| s).then("b", |s| s).finally("z", |s| s));
    let at = scenario.run().kinds().iter().position(|kind| matches!(kind, EventKind::StepSucceeded { .. }));
    let seq = EventSeq(u64::try_from(at.expect("it succeeded")).expect("small") + 1);
    let scenario = shape(Scenario::new().step("a", |s| s).then("b", |s| s).finally("z", |s| s));
    let cut = scenario.run_until(Some(Fault::CrashBefore(seq)));
    assert_eq!(scenario.world.effects("a"), 1);
    (scenario, cut)
}

#[test]
fn an_attempt_that_may_have_happened_suspends_the_run_until_a_person_answers() {
    let (scenario, cut) = cut_at_work(|scenario| scenario);
    let suspended = scenario.resume(&cut, &[]).ends(13);
    assert_eq!(suspended.ending().how, Left::Suspended);
    assert_eq!(scenario.world.order(), ["a"], "nothing was repeated and nothing else began");
    let still = scenario.resume(&suspended, &[]).ends(13);
    let done = Answer::Done { output: BTreeMap::from([("value".to_owned(), json!(7))]) };
    let ended = scenario.resume(&still, &[("a", done)]).ends(5);
    assert_eq!(ended.state().steps["a"].output, Some(json!({"attempt": null, "value": 7})));
    assert!(ended.state().steps["a"].marked_done);
    assert_eq!(scenario.world.order(), ["a", "b", "z"]);
}

#[test]
fn an_answer_may_come_with_the_first_resume() {
    let (scenario, cut) = cut_at_work(|scenario| scenario);
    let ended = scenario.resume(&cut, &[("a", Answer::Rerun)]).ends(0);
    assert_eq!(ended.state().steps["a"].last_attempt().0, 2);
    assert_eq!(scenario.world.effects("a"), 2);
}

#[test]
fn an_answer_for_a_step_that_was_not_interrupted_is_refused_and_changes_nothing() {
    let (scenario, cut) = cut_at_work(|scenario| scenario);
    let before = cut.journal.events().len();
    let refused = scenario.resume(&cut, &[("b", Answer::Rerun)]);
    assert_eq!(refused.result.as_ref().expect_err("refused").exit_code(), 2);
    assert_eq!(refused.journal.events().len(), before);
}

#[test]
fn a_probe_tells_whether_an_attempt_happened() {
    let probed = |answer: ProbeAnswer| {
        let (scenario, cut) = cut_at_work(|mut scenario| {
            scenario.plan.steps[0].on_unknown = OnUnknown::Probe("test -e it".to_owned());
            scenario.probe(answer.clone())
        });
        let resumed = scenario.resume(&cut, &[]);
        (resumed.ending().exit_code, scenario.world.effects("a"))
    };
    assert_eq!(probed(ProbeAnswer::Happened), (0, 1));
    assert_eq!(probed(ProbeAnswer::DidNot), (0, 2));
    assert_eq!(probed(ProbeAnswer::Unclear("exit 2".to_owned())), (13, 1));
}

#[test]
fn on_unknown_rerun_makes_another_attempt() {
    let (scenario, cut) = cut_at_work(|mut scenario| {
        scenario.plan.steps[0].on_unknown = OnUnknown::Rerun;
        scenario
    });
    scenario.resume(&cut, &[]).ends(0);
    assert_eq!(scenario.world.effects("a"), 2);
}

#[test]
fn a_cancelled_suspended_run_ends_unknown_and_runs_finally() {
    let (scenario, cut) = cut_at_work(|scenario| scenario);
    let suspended = scenario.resume(&cut, &[]).ends(13);
    let scenario = scenario.cancel(Duration::ZERO, CancelLevel::Graceful);
    let ended = scenario.resume(&suspended, &[]);
    assert_eq!(ended.status("a"), StepStatus::Unknown);
    assert_eq!(ended.status("b"), StepStatus::Skipped);
    assert_eq!(ended.status("z"), StepStatus::Succeeded);
    assert!(ended.state().finished.is_some());
}

#[test]
fn resuming_a_finished_run_changes_nothing() {
    let scenario = Scenario::new().step("a", |s| s);
    let whole = scenario.run().ends(0);
    let again = scenario.resume(&whole, &[]).ends(0);
    assert_eq!(again.journal.events(), whole.journal.events());
    assert_eq!(scenario.world.effects("a"), 1);
}

#[test]
fn an_abandoned_run_is_finished_by_resume() {
    let make = || Scenario::new().step("a", |s| s.uses("fake.kept").does(&[Act::Hang])).finally("z", |s| s);
    let scenario = make().cancel(SECOND, CancelLevel::Graceful).ask(SECOND, runbook::port::ControlRequest::Abandon);
    let left = scenario.run();
    assert_eq!(left.ending().how, Left::Abandoned);
    let resumed = scenario.unasked().resume(&left, &[]).ends(12);
    assert_eq!(resumed.status("z"), StepStatus::Succeeded);
}
