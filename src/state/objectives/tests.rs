#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{LackingStore, critical_path, damaged, end, figures, lacking, left_behind, outcome, warnings_due};
use crate::base::clock::after;
use crate::base::mode::Mode;
use crate::base::units::Span;
use crate::base::{Attempt, Timestamp};
use crate::event::{
    Actor, CancelLevel, Coverage, ErrorClass, ErrorInfo, EventKind, ExceptionKind, Outcome, SkipReason,
};
use crate::plan::fixture::{full_db_loss, id, plan, start, step};
use crate::plan::{BoundPlan, UndoPolicy};
use crate::state::fixture::{Story, recovered};

fn at(seconds: u64) -> Timestamp {
    after(start(), Duration::from_secs(seconds))
}

fn names(path: &[crate::base::StepId]) -> Vec<&str> {
    path.iter().map(crate::base::StepId::as_str).collect()
}

fn chain() -> BoundPlan {
    plan(vec![step("a", "exec"), step("b", "exec").follows("a"), step("end", "exec").finally()])
}

fn drill(loss: Option<Value>, rto: u64) -> (Outcome, u8) {
    let mut plan = chain();
    plan.mode = Mode::Drill;
    plan.incident_at = Some(start());
    plan.objectives.rto = Some(Span(Duration::from_secs(rto)));
    plan.objectives.rpo = Some(Span(Duration::from_secs(60)));
    let output = loss.map_or_else(|| json!({}), |loss| json!({ "loss": loss }));
    outcome(&plan, &Story::of(&plan).does("a", (0.0, 5.0), output).does("b", (5.0, 9.0), json!({})).state())
}

#[test]
fn a_recovery_is_measured_from_the_incident_to_the_last_required_step() {
    let plan = full_db_loss();
    let figures = figures(&plan, &recovered(&plan).state(), at(1581));
    assert_eq!(figures.rto_ms, Some((1802 + 1580) * 1000));
    assert_eq!(figures.run_ms, 1_581_000);
    assert_eq!(figures.machine_ms + figures.retry_ms + figures.waiting_ms, figures.rto_ms.unwrap());
    assert_eq!(figures.retry_ms, 47_000, "from the end of `stop_server` at 20 s to the second attempt at 67 s");
    assert_eq!(names(&figures.critical_path), ["choose", "stage", "recover", "prove", "start_apps", "back"]);
    let phases: Vec<_> = figures.phases.iter().map(|p| (p.phase.as_str(), p.elapsed_ms, p.budget_ms)).collect();
    assert_eq!(phases[1], ("restore", 1_489_700, Some(2_400_000)));
    assert_eq!(phases.len(), 4);
    assert!(figures.exceptions.is_empty());
}

#[test]
fn a_copy_beside_the_live_database_gives_nothing_up_and_counts_only_where_all_was_brought_back() {
    let mut plan = chain();
    plan.incident_at = Some(start());
    plan.objectives.rpo = Some(Span(Duration::from_secs(60)));
    let loss = json!({ "coverage": "to_last_flushed", "chosen_target_at": start() });
    let copy = json!({ "instance": { "side": "main" }, "loss": loss });
    let story = || Story::of(&plan).does("a", (0.0, 5.0), copy.clone());
    let done = figures(&plan, &story().does("b", (5.0, 9.0), json!({})).state(), at(9)).rpo.unwrap();
    assert_eq!((done.unwanted_ms, done.beside), (0, true));
    let error = ErrorInfo::new(ErrorClass::Fatal, "rows have lost their parent");
    let failed = story().resolved("b", 5.0, json!({})).attempt("b", 1, 5.0).failed("b", (5.0, 9.0), error).state();
    assert_eq!(figures(&plan, &failed, at(9)).rpo, None, "nothing was brought back");
    // What is recovered in the place of the live database is there, whatever follows.
    let swapped = Story::of(&plan).does("a", (0.0, 5.0), json!({ "loss": loss }));
    let error = ErrorInfo::new(ErrorClass::Fatal, "the port is taken");
    let failed = swapped.resolved("b", 5.0, json!({})).attempt("b", 1, 5.0).failed("b", (5.0, 9.0), error).state();
    assert!(figures(&plan, &failed, at(9)).rpo.is_some_and(|loss| !loss.beside));
}

#[test]
fn a_run_that_failed_has_no_recovery_time() {
    let mut plan = chain();
    plan.incident_at = Some(start());
    let story = Story::of(&plan).does("a", (0.0, 5.0), json!({})).fails("b", (5.0, 9.0));
    let figures = figures(&plan, &story.state(), at(10));
    assert_eq!(figures.rto_ms, None);
    assert_eq!(
        (figures.machine_ms, figures.retry_ms, figures.waiting_ms),
        (9_000, 0, 1_000),
        "nothing was tried again"
    );
    assert_eq!(outcome(&plan, &story.state()), (Outcome::Failed, 10));
}

#[test]
fn nothing_is_lost_when_the_last_flushed_position_was_reached() {
    let plan = full_db_loss();
    let loss = figures(&plan, &recovered(&plan).state(), at(1581)).rpo.unwrap();
    assert_eq!((loss.unwanted_ms, loss.chosen_ms, loss.coverage), (0, None, Coverage::ToLastFlushed));
    assert_eq!(loss.step, id("recover"));
}

#[test]
fn a_run_that_undoes_an_earlier_one_measures_no_loss() {
    let mut plan = full_db_loss();
    plan.undo = UndoPolicy::Now { to: None };
    let figures = figures(&plan, &recovered(&plan).state(), at(1581));
    assert_eq!((figures.rpo, figures.rpo_target_ms), (None, None));
}

#[test]
fn the_newest_commit_bounds_the_loss_and_a_chosen_target_stands_apart() {
    let mut plan = plan(vec![step("a", "exec")]);
    plan.incident_at = Some("2026-01-28T14:00:00Z".parse().unwrap());
    let loss = |loss: Value| {
        let story = Story::of(&plan).does("a", (0.0, 1.0), json!({ "loss": loss }));
        figures(&plan, &story.state(), at(2)).rpo.map(|loss| (loss.unwanted_ms, loss.chosen_ms))
    };
    let newest = |at: &str| json!({ "coverage": "newest_commit", "newest_commit_at": at });
    assert_eq!(loss(newest("2026-01-28T13:59:56.8Z")), Some((3_200, None)));
    assert_eq!(loss(newest("2026-01-28T14:00:01Z")), Some((0, None)));
    let mut chosen = newest("2026-01-28T13:39:58Z");
    chosen["chosen_target_at"] = json!("2026-01-28T13:40:00Z");
    assert_eq!(loss(chosen), Some((2_000, Some(1_200_000))));
    assert_eq!(loss(json!({ "coverage": "newest_commit" })), None, "nothing was measured");
    assert_eq!(loss(json!({ "coverage": "a guess" })), None);
}

#[test]
fn a_target_that_the_step_was_asked_for_is_a_chosen_loss() {
    let mut plan = plan(vec![step("a", "postgres.recover")]);
    plan.incident_at = Some("2026-01-28T14:00:00Z".parse().unwrap());
    let lost = |target: &str, reached: Option<&str>| {
        let mut output =
            json!({ "loss": { "coverage": "to_last_flushed", "newest_commit_at": "2026-01-28T13:29:50Z" } });
        output["loss"]["chosen_target_at"] = json!(reached);
        let story = Story::of(&plan)
            .resolved("a", 0.0, json!({ "target_time": target }))
            .attempt("a", 1, 0.0)
            .succeeded("a", 1, (0.0, 1.0), output);
        let loss = figures(&plan, &story.state(), at(2)).rpo.unwrap();
        (loss.unwanted_ms, loss.chosen_ms)
    };
    assert_eq!(lost("2026-01-28T13:30:00Z", None), (0, Some(1_800_000)));
    // Nothing before the incident is given up, and what came since is: it is not "recovered to the last position".
    let behind = "2026-01-28T14:00:10Z";
    assert_eq!(lost(behind, Some(behind)), (0, Some(0)));
    // Where the last commit lay before the target, all came back.
    assert_eq!(lost(behind, None), (0, None));
}

#[test]
fn the_worst_of_several_losses_counts() {
    let mut plan = plan(vec![step("a", "exec"), step("b", "exec")]);
    plan.incident_at = Some(start());
    let loss = |at: &str| json!({ "loss": { "coverage": "newest_commit", "newest_commit_at": at } });
    let story = Story::of(&plan).does("a", (0.0, 1.0), loss("2026-01-28T14:29:02Z")).does(
        "b",
        (0.0, 1.0),
        loss("2026-01-28T14:30:01Z"),
    );
    let worst = figures(&plan, &story.state(), at(2)).rpo.unwrap();
    assert_eq!((worst.unwanted_ms, worst.step), (60_000, id("a")));
}

#[test]
fn a_drill_is_judged_by_its_objectives() {
    let good = json!({ "coverage": "to_last_flushed" });
    let bad = json!({ "coverage": "newest_commit", "newest_commit_at": "2026-01-28T14:20:00Z" });
    assert_eq!(drill(Some(good.clone()), 9), (Outcome::Succeeded, 0));
    assert_eq!(drill(Some(good), 8), (Outcome::ObjectiveMissed, 16));
    assert_eq!(drill(Some(bad), 9), (Outcome::ObjectiveMissed, 16));
    assert_eq!(drill(None, 9), (Outcome::Inconclusive, 16));
}

#[test]
fn a_real_run_that_missed_its_objective_keeps_its_outcome() {
    let mut plan = full_db_loss();
    plan.objectives.rto = Some(Span(Duration::from_secs(60)));
    assert_eq!(outcome(&plan, &recovered(&plan).state()), (Outcome::Succeeded, 0));
}

#[test]
fn an_unknown_outweighs_a_failure_and_a_failure_a_cancel() {
    let plan = plan(vec![step("a", "exec"), step("b", "exec"), step("c", "exec")]);
    let run = |story: Story, name: &str| story.resolved(name, 0.0, json!({})).attempt(name, 1, 0.0);
    let cancelled = EventKind::StepCancelled { step: id("c"), attempt: Attempt(1), confirmed: true };
    let actor = Actor { name: "signal".to_owned(), from: String::new() };
    let request = EventKind::CancelRequested { actor, level: CancelLevel::Graceful, reason: "SIGINT".to_owned() };
    let base = || run(Story::of(&plan).at(0.5, request.clone()), "c").at(2.0, cancelled.clone());
    let calm = base().does("a", (0.0, 1.0), json!({})).does("b", (0.0, 1.0), json!({}));
    assert_eq!(outcome(&plan, &calm.state()), (Outcome::Cancelled, 12));
    let broken = base().fails("a", (0.0, 1.0)).does("b", (0.0, 1.0), json!({}));
    assert_eq!(outcome(&plan, &broken.state()), (Outcome::Failed, 10));
    let error = ErrorInfo::new(ErrorClass::Unknown, "the end was not seen");
    let lost = EventKind::StepUnknown { step: id("b"), attempt: Attempt(1), error };
    let unknown = run(base().fails("a", (0.0, 1.0)), "b").at(1.0, lost);
    assert_eq!(outcome(&plan, &unknown.state()), (Outcome::FailedUnknown, 11));
}

#[test]
fn work_that_a_cancel_cut_short_was_work_and_no_repetition() {
    let plan = plan(vec![step("a", "exec")]);
    let cancelled = EventKind::StepCancelled { step: id("a"), attempt: Attempt(1), confirmed: true };
    let story = Story::of(&plan).resolved("a", 0.0, json!({})).attempt("a", 1, 1.0).at(4.0, cancelled);
    let figures = figures(&plan, &story.state(), at(5));
    assert_eq!((figures.machine_ms, figures.retry_ms, figures.waiting_ms), (3_000, 0, 2_000));
}

#[test]
fn a_success_that_left_something_behind_is_one_with_exceptions() {
    let plan = plan(vec![step("a", "exec")]);
    let registered = EventKind::ResourceRegistered {
        step: id("a"),
        resource: "scratch".to_owned(),
        data: Value::Null,
        expires_at: None,
    };
    let story = Story::of(&plan).does("a", (0.0, 1.0), json!({})).at(1.0, registered);
    assert_eq!(outcome(&plan, &story.state()), (Outcome::Succeeded, 0), "the body did well");
    assert_eq!(end(&plan, &story.state()), (Outcome::SucceededWithExceptions, 5));
    assert_eq!(left_behind(&story.state()), [(id("a"), ExceptionKind::LeftBehind)]);
    let gone = story.at(1.5, EventKind::ResourceRemoved { resource: "scratch".to_owned() });
    assert_eq!(end(&plan, &gone.state()), (Outcome::Succeeded, 0));
}

#[test]
fn a_success_by_another_copy_than_the_damaged_one_is_one_with_exceptions() {
    let plan = plan(vec![step("a", "exec")]);
    let seen_at = |level: &str, verdict: &str| EventKind::StepNoted {
        step: id("a"),
        message: "looked at".to_owned(),
        data: json!({ "sighting": {
            "backup": { "id": "b1", "store": "primary" },
            "verification": { "level": level, "verdict": verdict, "faults": ["a digest differs"] },
        } }),
    };
    let seen = |verdict: &str| seen_at("digests", verdict);
    let ran = || Story::of(&plan).does("a", (0.0, 1.0), json!({}));
    assert_eq!(outcome(&plan, &ran().at(0.5, seen("passed")).state()), (Outcome::Succeeded, 0));
    let state = ran().at(0.5, seen("failed")).at(0.6, seen("failed")).state();
    assert_eq!(outcome(&plan, &state), (Outcome::SucceededWithExceptions, 5));
    assert_eq!(figures(&plan, &state, at(3)).exceptions, [(id("a"), ExceptionKind::DamagedCopy)]);
    let copies = damaged(&state.steps[&id("a")]);
    assert_eq!(copies.len(), 1, "each once: {copies:?}");
    assert_eq!(copies[0].words(), "the copy of backup `b1` in store `primary` is damaged");
    // The next attempt read it whole: the last word at each level counts.
    let mended = || ran().at(0.5, seen("failed")).at(0.6, seen("passed"));
    assert_eq!(outcome(&plan, &mended().state()), (Outcome::Succeeded, 0));
    assert_eq!(damaged(&mended().at(0.7, seen("failed")).state().steps[&id("a")]).len(), 1);
    let less = ran().at(0.5, seen("failed")).at(0.6, seen_at("sizes", "passed"));
    assert_eq!(damaged(&less.state().steps[&id("a")]).len(), 1, "who looked at less takes nothing back");
}

#[test]
fn a_success_whose_backup_a_store_lacks_is_one_with_exceptions_until_an_attempt_brings_it_there() {
    let plan = plan(vec![step("a", "exec")]);
    let lacks = |store: &str| EventKind::StepNoted {
        step: id("a"),
        message: "did not get the backup".to_owned(),
        data: json!({ "lacking": { "store": store, "why": "no room" } }),
    };
    let ran = || Story::of(&plan).does("a", (1.0, 2.0), json!({}));
    assert_eq!(outcome(&plan, &ran().at(0.5, lacks("tiny")).state()), (Outcome::Succeeded, 0), "an earlier attempt");
    let state = ran().at(1.5, lacks("tiny")).at(1.6, lacks("tiny")).state();
    assert_eq!(outcome(&plan, &state), (Outcome::SucceededWithExceptions, 5));
    assert_eq!(figures(&plan, &state, at(3)).exceptions, [(id("a"), ExceptionKind::LackingCopy)]);
    let told: Vec<String> = lacking(&state.steps[&id("a")]).iter().map(LackingStore::words).collect();
    assert_eq!(told, ["store `tiny` lacks 2 backups: no room"]);
}

#[test]
fn a_cancel_that_came_too_late_changes_nothing() {
    let plan = plan(vec![step("a", "exec")]);
    let actor = Actor { name: "signal".to_owned(), from: String::new() };
    let request = EventKind::CancelRequested { actor, level: CancelLevel::Graceful, reason: "SIGINT".to_owned() };
    let story = Story::of(&plan).does("a", (0.0, 1.0), json!({})).at(0.5, request);
    assert_eq!(outcome(&plan, &story.state()), (Outcome::Succeeded, 0));
}

#[test]
fn exceptions_name_the_step_and_the_kind() {
    let plan = plan(vec![
        step("a", "exec").tolerated(),
        step("b", "exec").needs(&["a"]),
        step("c", "exec"),
        step("end", "exec").finally(),
    ]);
    let story = Story::of(&plan)
        .fails("a", (0.0, 1.0))
        .skipped("b", 1.0, SkipReason::Need { step: id("a") })
        .skipped("c", 1.0, SkipReason::When)
        .fails("end", (2.0, 3.0));
    let state = story.state();
    assert_eq!(outcome(&plan, &state), (Outcome::SucceededWithExceptions, 5));
    let kinds: Vec<_> = figures(&plan, &state, at(3)).exceptions.into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, [ExceptionKind::Tolerated, ExceptionKind::Skipped, ExceptionKind::Finally]);
}

#[test]
fn a_step_that_waited_for_a_slot_follows_the_one_that_freed_it() {
    let mut plan = plan(vec![step("a", "exec"), step("long", "exec"), step("b", "exec").needs(&["a"])]);
    plan.limits.max_parallel = 1;
    let story = Story::of(&plan).does("a", (0.0, 1.0), json!({})).does("long", (1.0, 60.0), json!({})).does(
        "b",
        (60.0, 61.0),
        json!({}),
    );
    assert_eq!(names(&critical_path(&plan, &story.state())), ["a", "long", "b"]);
}

#[test]
fn each_share_of_the_objective_is_warned_of_once_and_never_after_the_end() {
    let mut plan = chain();
    plan.incident_at = Some(start());
    plan.objectives.rto = Some(Span(Duration::from_secs(100)));
    let warning = |percent| EventKind::ObjectiveWarning { percent, elapsed_ms: 0 };
    let running = Story::of(&plan).does("a", (0.0, 1.0), json!({}));
    assert_eq!(warnings_due(&plan, &running.state(), at(49)), [] as [u32; 0]);
    assert_eq!(warnings_due(&plan, &running.state(), at(85)), [50, 80]);
    let warned = running.at(50.0, warning(50));
    assert_eq!(warnings_due(&plan, &warned.state(), at(100)), [80, 100]);
    let done = warned.does("b", (60.0, 70.0), json!({}));
    assert_eq!(warnings_due(&plan, &done.state(), at(1000)), [] as [u32; 0]);
}

proptest! {
    #[test]
    fn the_split_always_adds_up_and_the_path_is_a_chain(
        lengths in proptest::collection::vec((1u32..50, 0u32..20, proptest::bool::ANY), 1..12),
        incident in 0u64..500,
        slots in 1usize..4,
    ) {
        let ids: Vec<String> = (0..lengths.len()).map(|index| format!("s{index}")).collect();
        let steps = lengths.iter().enumerate().map(|(index, (_, _, follows))| match (index, follows) {
            (0, _) | (_, false) => step(&ids[index], "exec"),
            (_, true) => step(&ids[index], "exec").follows(&ids[index - 1]),
        });
        let mut plan = plan(steps.collect());
        plan.limits.max_parallel = slots;
        plan.incident_at = start().checked_sub(Duration::from_secs(incident)).ok();
        let mut story = Story::of(&plan);
        let mut now = 0.0;
        let mut ends: Vec<f64> = Vec::new();
        for (index, (length, delay, follows)) in lengths.iter().enumerate() {
            let begin = if *follows || slots == 1 { now } else { 0.0 };
            let end = begin + f64::from(*length) + f64::from(*delay);
            story = story
                .resolved(&ids[index], begin, json!({}))
                .attempt(&ids[index], 1, begin)
                .attempt_failed(&ids[index], 1, (begin, begin + f64::from(*delay) / 2.0), f64::from(*delay) / 2.0)
                .attempt(&ids[index], 2, begin + f64::from(*delay))
                .succeeded(&ids[index], 2, (begin + f64::from(*delay), end), json!({}));
            ends.push(end);
            now = end;
        }
        let state = story.state();
        let figures = figures(&plan, &state, at(5_000));
        prop_assert_eq!(figures.machine_ms + figures.retry_ms + figures.waiting_ms, figures.rto_ms.unwrap());
        prop_assert!(figures.rto_ms.unwrap() >= incident * 1000);
        for pair in figures.critical_path.windows(2) {
            prop_assert!(state.steps[&pair[0]].ended_at <= state.steps[&pair[1]].started_at);
        }
        let last = figures.critical_path.last().unwrap();
        let latest = plan.steps.iter().filter_map(|step| state.steps[&step.id].ended_at).max();
        prop_assert_eq!(state.steps[last].ended_at, latest);
    }
}
