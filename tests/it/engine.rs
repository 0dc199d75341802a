//! The engine as a specification: what a run does, in what order, and how it ends.

use std::time::Duration;

use runbook::engine::{decide, preflight};
use runbook::event::{CancelLevel, ErrorClass, Event, EventKind, ExceptionKind, ProgressUpdate, SkipReason, Verdict};
use runbook::port::{ControlRequest, Sink, SinkError};
use runbook::state::{RunState, StepStatus};
use serde_json::json;

use crate::support::fake::{Act, registry};
use crate::support::scenario::{Played, SECRET, Scenario, on_manual_time};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn position(played: &Played, wanted: impl Fn(&EventKind) -> bool) -> usize {
    played.kinds().iter().position(wanted).expect("the event is there")
}

fn error_of(played: &Played, step: &str) -> runbook::event::ErrorInfo {
    played.state().steps[step].error.clone().expect("the step failed")
}

#[test]
fn steps_run_in_order_and_the_run_succeeds() {
    let scenario = Scenario::new().step("a", |s| s).then("b", |s| s).then("c", |s| s).finally("z", |s| s);
    let played = scenario.run().ends(0);
    assert_eq!(scenario.world.order(), ["a", "b", "c", "z"]);
    assert!(matches!(played.kinds().last(), Some(EventKind::RunFinished { .. })));
}

#[test]
fn a_chain_costs_one_sync_per_step() {
    let mut scenario = Scenario::new().step("s0", |s| s);
    for at in 1..20 {
        scenario = scenario.then(&format!("s{at}"), |s| s);
    }
    let played = scenario.run().ends(0);
    assert_eq!(played.journal.syncs(), 21);
}

#[test]
fn an_attempt_acts_only_after_its_start_is_durable() {
    let scenario = Scenario::new().step("a", |s| s).step("b", |s| s);
    let first = runbook::base::EventSeq(2);
    let played = scenario.run_until(Some(runbook::journal::Fault::CrashBefore(first)));
    assert!(played.result.is_err());
    assert!(scenario.world.order().is_empty(), "nothing was durable, so nothing happened");
}

#[test]
fn a_dependent_starts_only_after_the_success_is_durable() {
    let scenario = Scenario::new().step("a", |s| s).then("b", |s| s);
    let whole = Scenario::new().step("a", |s| s).then("b", |s| s).run();
    let at = position(&whole, |kind| matches!(kind, EventKind::StepSucceeded { .. }));
    let seq = runbook::base::EventSeq(u64::try_from(at).expect("small") + 1);
    let played = scenario.run_until(Some(runbook::journal::Fault::CrashBefore(seq)));
    assert!(played.result.is_err());
    assert_eq!(scenario.world.order(), ["a"]);
}

#[test]
fn reporters_see_durable_events_in_order_once() {
    let scenario = Scenario::new().step("a", |s| s).step("b", |s| s.does(&[Act::Fatal]).tolerated());
    let played = scenario.run().ends(5);
    assert_eq!(played.shown, played.journal.events());
}

struct Broken(u32);

impl Sink for Broken {
    fn event(&mut self, _: &Event) -> Result<(), SinkError> {
        self.0 += 1;
        assert_eq!(self.0, 1, "a failed reporter is asked no more");
        Err(SinkError(std::io::Error::other("the pipe is gone")))
    }
    fn progress(&mut self, _: &ProgressUpdate) {}
}

#[test]
fn a_failing_reporter_is_detached_and_the_run_goes_on() {
    let scenario = Scenario::new().step("a", |s| s).then("b", |s| s);
    let played = scenario.run_before(vec![Box::new(Broken(0))]).ends(0);
    assert_eq!(played.shown, played.journal.events());
}

#[test]
fn a_failing_journal_stops_the_run() {
    let scenario = Scenario::new().step("a", |s| s).then("b", |s| s);
    let played = scenario.run_until(Some(runbook::journal::Fault::FailSync(2)));
    assert_eq!(played.result.expect_err("it stops").exit_code(), 15);
    assert_eq!(scenario.world.order(), ["a"]);
}

#[test]
fn the_fold_of_the_journal_is_the_live_state() {
    let scenario = Scenario::new()
        .step("a", |s| s.does(&[Act::Retryable, Act::Succeed]).tries(3))
        .step("b", |s| s.does(&[Act::Note("kept"), Act::Succeed]))
        .then("c", |s| s.when("false"))
        .finally("z", |s| s.does(&[Act::Fatal]));
    let played = scenario.run().ends(5);
    assert_eq!(RunState::fold(&played.journal.events()).expect("a possible run"), *played.state());
}

#[test]
fn the_fold_of_the_journal_file_is_the_live_state() {
    let scenario = Scenario::new()
        .step("a", |s| s.does(&[Act::Retryable, Act::Succeed]).tries(2))
        .then("b", |s| s.with(json!({"value": "{{ steps.a.attempt }}"})))
        .finally("z", |s| s);
    let folder = tempfile::tempdir().expect("a folder");
    let plan = serde_json::to_vec(&scenario.plan).expect("a plan is JSON");
    std::fs::write(folder.path().join("plan.json"), &plan).expect("the plan is written");
    let digest = runbook::base::Digest::of(&plan);
    let journal = runbook::journal::FileJournal::create(folder.path(), scenario.plan.run.clone(), digest);
    let ending = scenario.run_into(Box::new(journal.expect("a journal")), digest).expect("the engine left in order");
    let history = runbook::journal::read(folder.path()).expect("the journal holds together");
    assert_eq!(RunState::fold(&history.events).expect("a possible run"), ending.state);
    assert_eq!(ending.exit_code, 0);
}

#[test]
fn deciding_twice_gives_the_same_and_changes_nothing() {
    let scenario = Scenario::new().step("a", |s| s).step("b", |s| s.needs(&["a"])).finally("z", |s| s);
    let played = scenario.run().ends(0);
    let mut state = RunState::default();
    for event in played.journal.events() {
        state.apply(&event).expect("a possible run");
        let before = state.clone();
        let decide = || decide(&scenario.plan, &state, &scenario.plan.limits, event.at);
        assert_eq!(decide(), decide());
        assert_eq!(state, before);
    }
}

#[test]
fn independent_steps_run_at_once_up_to_the_limit() {
    let mut scenario = Scenario::new().parallel(3);
    for at in 0..8 {
        scenario = scenario.step(&format!("s{at}"), |s| s.does(&[Act::Take(SECOND)]));
    }
    scenario.run().ends(0);
    assert_eq!(scenario.world.most_running(), 3);
}

#[test]
fn a_failure_lets_running_steps_finish_starts_nothing_new_and_runs_finally() {
    let scenario = Scenario::new()
        .step("long", |s| s.does(&[Act::Take(MINUTE)]))
        .step("bad", |s| s.does(&[Act::Fatal]))
        .step("late", |s| s.needs(&["long"]))
        .step("after", |s| s.needs(&["bad"]))
        .finally("z", |s| s.with(json!({"value": "{{ run.outcome }}"})));
    let played = scenario.run().ends(10);
    assert_eq!(played.status("long"), StepStatus::Succeeded);
    assert_eq!(played.state().steps["late"].skipped, Some(SkipReason::Aborted));
    let need = SkipReason::Need { step: "bad".parse().expect("an id") };
    assert_eq!(played.state().steps["after"].skipped, Some(need));
    let output = played.state().steps["z"].output.clone().expect("it ran");
    assert_eq!(output["value"], json!("failed"));
}

#[test]
fn a_tolerated_failure_satisfies_an_implicit_edge_and_not_a_written_one() {
    let scenario = Scenario::new()
        .step("bad", |s| s.does(&[Act::Fatal]).tolerated())
        .then("next", |s| s)
        .step("strict", |s| s.needs(&["bad"]))
        .step("any", |s| s.after_any(&["bad", "strict"]));
    let played = scenario.run().ends(5);
    assert_eq!(played.status("next"), StepStatus::Succeeded);
    assert_eq!(played.status("strict"), StepStatus::Skipped);
    assert_eq!(played.status("any"), StepStatus::Succeeded);
}

#[test]
fn values_flow_from_step_to_step_and_null_stands_for_what_never_came() {
    let scenario = Scenario::new()
        .step("a", |s| s.with(json!({"value": {"name": "{{ params.who }}"}})))
        .then("b", |s| s.with(json!({"value": "{{ steps.a.value.name }}"})).when("steps.a.attempt == 1"))
        .then("c", |s| s.when("steps.b.value == 'other'"))
        .finally("z", |s| s.with(json!({"value": "{{ steps.c.value }} "})).tolerated())
        .finally("y", |s| s.with(json!({"value": "{{ steps.c.status }}"})));
    let played = scenario.run();
    assert_eq!(played.state().steps["b"].output.as_ref().expect("it ran")["value"], json!("orders"));
    assert_eq!(played.state().steps["c"].skipped, Some(SkipReason::When));
    let error = error_of(&played, "z");
    assert_eq!(error.message, "an argument (`/value`) cannot be evaluated");
    assert_eq!(error.causes, ["a null stands inside a text"]);
    assert_eq!(played.state().steps["y"].output.as_ref().expect("it ran")["value"], json!("skipped"));
}

#[test]
fn an_unmet_precondition_fails_the_step_before_it_acts() {
    let by_action = json!({"uses": "fake.read", "with": {}});
    let scenario = Scenario::new()
        .step("a", |s| s.requires(json!("1 > 2")).tolerated())
        .step("b", |s| s.requires(by_action.clone()))
        .step("c", |s| s.requires(json!({"uses": "fake.once", "with": {}})).tolerated());
    let played = scenario.run().ends(5);
    assert_eq!(error_of(&played, "a").message, "precondition `1 > 2` does not hold");
    assert_eq!(scenario.world.order(), ["b", "b"], "once as the precondition, once as the step");
    assert_eq!(played.status("c"), StepStatus::Failed, "a precondition may not change anything");
}

#[test]
fn a_refusing_check_fails_the_step_before_it_acts() {
    let scenario = Scenario::new()
        .step("a", |s| s.checked().with(json!({"refuse": "there is no space"})).tolerated())
        .step("b", |s| s.checked());
    let played = scenario.run().ends(5);
    assert_eq!(error_of(&played, "a").message, "there is no space");
    assert_eq!(error_of(&played, "a").help.as_deref(), Some("change it"));
    assert_eq!(scenario.world.order(), ["b"]);
    assert_eq!(played.state().steps["b"].findings[0].verdict, Verdict::Pass);
}

#[test]
fn a_failed_attempt_is_made_again_after_its_delay() {
    let scenario = Scenario::new().step("a", |s| s.does(&[Act::Retryable, Act::Retryable, Act::Succeed]).tries(3));
    let played = scenario.run().ends(0);
    let attempts = &played.state().steps["a"].attempts;
    let pause = |at: usize| attempts[at].started_at.duration_since(attempts[at - 1].started_at).as_secs_f64();
    assert!((0.9..1.1).contains(&pause(1)), "{}", pause(1));
    assert!((1.8..2.2).contains(&pause(2)), "{}", pause(2));
    assert!(attempts.iter().all(|attempt| attempt.key == attempts[0].key), "one intent, one key");
}

#[test]
fn only_the_exit_codes_that_are_listed_are_tried_again() {
    let mut scenario = Scenario::new()
        .step("a", |s| s.does(&[Act::Exit(75), Act::Exit(1), Act::Succeed]).tries(9).tolerated())
        .step("b", |s| s.does(&[Act::Exit(1), Act::Succeed]).tries(9));
    let retry = scenario.plan.steps[0].retry.as_mut().expect("it is tried again");
    retry.on = vec![runbook::language::runbook::RetryOn::ExitCode(75)];
    let played = scenario.run().ends(5);
    assert_eq!(scenario.world.effects("a"), 2);
    assert_eq!(error_of(&played, "a").exit_code, Some(1));
    assert_eq!(played.status("b"), StepStatus::Succeeded);
}

#[test]
fn an_unknown_effect_ends_the_step_unknown_and_is_repeated_only_when_idempotent() {
    let scenario = Scenario::new()
        .step("once", |s| s.does(&[Act::Unknown, Act::Succeed]).tries(3).tolerated())
        .step("again", |s| s.uses("fake.again").does(&[Act::Unknown, Act::Succeed]).tries(3));
    let played = scenario.run();
    assert_eq!(played.status("once"), StepStatus::Unknown);
    assert_eq!(scenario.world.effects("once"), 1);
    assert_eq!(played.status("again"), StepStatus::Succeeded);
    Scenario::new().step("once", |s| s.does(&[Act::Unknown])).run().ends(11);
}

#[test]
fn a_panic_of_an_action_is_an_unknown_effect_and_not_the_end_of_the_engine() {
    let scenario = Scenario::new().step("a", |s| s.does(&[Act::Panic])).finally("z", |s| s);
    let played = scenario.run().ends(11);
    assert!(error_of(&played, "a").message.contains("a bug of the action"));
    assert_eq!(played.status("z"), StepStatus::Succeeded);
}

#[test]
fn a_timeout_ends_the_attempt_and_counts_as_one() {
    let scenario = Scenario::new()
        .step("polite", |s| s.does(&[Act::Hang]).timeout(MINUTE).tolerated())
        .step("stubborn", |s| s.does(&[Act::Ignore]).timeout(MINUTE).tolerated());
    let played = scenario.run();
    let polite = error_of(&played, "polite");
    assert_eq!((polite.class, polite.message.as_str()), (ErrorClass::Timeout, "ran longer than `1m` and was ended"));
    assert_eq!(played.state().steps["polite"].attempts[0].elapsed_ms, Some(60_000));
    assert_eq!(played.status("stubborn"), StepStatus::Unknown, "it was given up, so nobody knows");
}

#[test]
fn silence_raises_one_alarm_and_the_step_runs_on() {
    let scenario = Scenario::new().step("a", |s| s.does(&[Act::Silent(Duration::from_secs(1500))]).stall(10 * MINUTE));
    let played = scenario.run().ends(0);
    let alarms = played.kinds().into_iter().filter(|kind| matches!(kind, EventKind::StepStalled { .. }));
    assert_eq!(alarms.count(), 1);
}

#[test]
fn shares_of_the_rto_are_warned_of_once_each() {
    let scenario = Scenario::new().rto(10 * MINUTE).step("a", |s| s.does(&[Act::Take(9 * MINUTE)]));
    let played = scenario.run();
    let percents: Vec<u32> = played
        .kinds()
        .into_iter()
        .filter_map(|kind| match kind {
            EventKind::ObjectiveWarning { percent, .. } => Some(percent),
            _ => None,
        })
        .collect();
    assert_eq!(percents, [50, 80]);
}

#[test]
fn a_cancel_ends_running_steps_skips_the_rest_and_runs_finally() {
    let scenario = Scenario::new()
        .step("hang", |s| s.does(&[Act::Hang]))
        .step("waits", |s| s.does(&[Act::Retryable]).tries(99))
        .then("next", |s| s)
        .finally("z", |s| s.with(json!({"value": "{{ run.outcome }}"})))
        .cancel(10 * SECOND, CancelLevel::Graceful);
    let played = scenario.run().ends(12);
    assert_eq!(played.status("hang"), StepStatus::Cancelled);
    assert_eq!(played.status("waits"), StepStatus::Cancelled);
    assert_eq!(played.state().steps["next"].skipped, Some(SkipReason::Cancelled));
    assert_eq!(played.state().steps["z"].output.as_ref().expect("it ran")["value"], json!("cancelled"));
}

#[test]
fn a_step_that_does_not_end_when_cancelled_is_reported_as_unconfirmed() {
    let scenario = Scenario::new().step("a", |s| s.does(&[Act::Ignore])).cancel(10 * SECOND, CancelLevel::Graceful);
    let played = scenario.run().ends(12);
    let unconfirmed = |kind: &EventKind| matches!(kind, EventKind::StepCancelled { confirmed: false, .. });
    position(&played, unconfirmed);
    let harder = Scenario::new()
        .step("a", |s| s.does(&[Act::Ignore]))
        .cancel(10 * SECOND, CancelLevel::Graceful)
        .cancel(11 * SECOND, CancelLevel::Now);
    let harder = harder.run().ends(12);
    let seconds = |played: &Played| played.state().finished.as_ref().map(|(_, _, figures)| figures.run_ms / 1000);
    assert_eq!((seconds(&played), seconds(&harder)), (Some(22), Some(14)));
}

#[test]
fn the_third_signal_leaves_at_once_and_writes_nothing() {
    let scenario =
        Scenario::new().step("a", |s| s.does(&[Act::Hang])).finally("z", |s| s).ask(SECOND, ControlRequest::Abandon);
    let played = scenario.run().ends(12);
    assert!(played.state().finished.is_none());
    assert!(!played.kinds().iter().any(|kind| matches!(kind, EventKind::RunFinished { .. })));
}

#[test]
fn what_a_run_registers_is_durable_before_it_exists_and_removed_at_the_end() {
    let scenario = Scenario::new().step("a", |s| s.does(&[Act::Register("scratch")])).then("b", |s| s);
    let played = scenario.run().ends(0);
    let registered = position(&played, |kind| matches!(kind, EventKind::ResourceRegistered { .. }));
    let succeeded = position(&played, |kind| matches!(kind, EventKind::StepSucceeded { .. }));
    let removed = position(&played, |kind| matches!(kind, EventKind::ResourceRemoved { .. }));
    assert!(registered < succeeded && succeeded < removed);
    assert_eq!(scenario.world.removed(), ["scratch"]);
    assert!(played.state().resources.is_empty());
}

#[test]
fn leases_are_registered_before_every_attempt_and_removed_last_first_through_their_scripts() {
    let scenario = Scenario::new()
        .step("a", |s| s.creates("one").creates("two").does(&[Act::Refuse, Act::Succeed]).tries(2))
        .then("b", |s| s.creates("three"));
    let played = scenario.run().ends(0);
    let kinds = played.kinds();
    let registered = |kind: &EventKind| matches!(kind, EventKind::ResourceRegistered { .. });
    assert_eq!(kinds.iter().filter(|kind| registered(kind)).count(), 5);
    for (at, kind) in kinds.iter().enumerate() {
        if matches!(kind, EventKind::AttemptStarted { .. }) {
            assert!(registered(&kinds[at - 1]), "{kinds:#?}");
        }
    }
    assert_eq!(scenario.world.removed(), ["three", "two", "one"]);
}

#[test]
fn a_step_that_never_starts_registers_nothing() {
    let scenario = Scenario::new().step("a", |s| s.creates("one").when("false"));
    scenario.run().ends(0);
    assert!(scenario.world.removed().is_empty());
}

#[test]
fn a_removal_that_hangs_is_given_up_after_ten_minutes_and_left_behind() {
    let scenario = Scenario::new().step("a", |s| s.creates("hang").creates("other"));
    let played = scenario.run().ends(5);
    let left: Vec<&String> = played.state().resources.keys().collect();
    assert_eq!(left, ["lease:a:thing0"]);
    assert_eq!(scenario.world.removed(), ["other"]);
    let taken = scenario.world.clock.elapsed();
    assert!(taken >= Duration::from_secs(600) && taken < Duration::from_secs(700), "{taken:?}");
}

#[test]
fn what_cannot_be_removed_makes_a_success_one_with_exceptions() {
    let scenario = Scenario::new().step("a", |s| s.does(&[Act::Register("stuck")])).finally("z", |s| s);
    let played = scenario.run().ends(5);
    assert!(played.state().resources.contains_key("stuck"));
    let (_, _, figures) = played.state().finished.as_ref().expect("the end");
    assert_eq!(figures.exceptions, [("a".parse().expect("an id"), ExceptionKind::LeftBehind)]);
}

#[test]
fn facts_keep_their_place_before_the_end_of_their_step() {
    let played = Scenario::new().step("a", |s| s.does(&[Act::Note("old data kept")])).run().ends(0);
    let noted = position(&played, |kind| matches!(kind, EventKind::StepNoted { .. }));
    assert!(noted < position(&played, |kind| matches!(kind, EventKind::StepSucceeded { .. })));
}

#[test]
fn a_secret_reaches_its_argument_and_no_event() {
    let secret = |argument: &str| json!({ argument: "{{ secrets.key }}" });
    let scenario = Scenario::new()
        .step("a", |s| s.with(secret("secret")).does(&[Act::Leak]))
        .step("b", |s| s.with(secret("public")).tolerated());
    let played = scenario.run().ends(5);
    assert_eq!(played.state().steps["a"].output.as_ref().expect("it ran")["value"], json!("***"));
    assert_eq!(error_of(&played, "b").message, "a secret stands where others can see it");
    assert_eq!(scenario.world.effects("b"), 0);
    assert!(!format!("{:?}", played.journal.events()).contains(SECRET));
}

#[test]
fn a_missing_secret_changes_nothing() {
    let mut scenario = Scenario::new().step("a", |s| s);
    scenario.plan.steps[0].secrets = vec!["absent".to_owned()];
    let played = scenario.run();
    assert_eq!(played.result.expect_err("it is refused").exit_code(), 4);
    assert!(played.journal.events().is_empty());
}

#[test]
fn checks_ahead_judge_what_is_known_and_leave_the_rest_pending() {
    let scenario = Scenario::new()
        .step("a", |s| s.checked().with(json!({"refuse": "{{ params.who }} is not there"})))
        .step("b", |s| s.checked().with(json!({"value": "{{ steps.a.value }}"})).needs(&["a"]))
        .step("c", |s| s.checked().with(json!({"public": "{{ steps.a.value }}"})).needs(&["a"]))
        .step("d", |s| s.checked().with(json!({"refuse": "no"})).when("params.who == 'nobody'"))
        .step("e", |s| s.checked().with(json!({"refuse": "no"})).when("steps.a.attempt == 1").needs(&["a"]));
    let clock = scenario.world.clock.clone();
    let plan = std::sync::Arc::new(scenario.plan.clone());
    let registry = registry(&scenario.world);
    let found =
        on_manual_time(&clock, preflight(plan, &registry, scenario.hands(), std::sync::Arc::new(clock.clone())));
    let verdict = |at: usize| {
        let findings = found[at].1.as_ref().expect("the check was made");
        (findings.0[0].verdict, findings.0[0].message.clone())
    };
    assert_eq!(verdict(0), (Verdict::Refuse, "orders is not there".to_owned()));
    assert_eq!(verdict(1).0, Verdict::Pass);
    assert_eq!(verdict(2).0, Verdict::Pending);
    assert_eq!(verdict(3), (Verdict::Warn, "no".to_owned()), "`d` is known not to run, `e` may run");
    assert!(scenario.world.order().is_empty(), "nothing was done");
}

#[test]
fn ten_thousand_steps_in_sequence_and_side_by_side() {
    let count = 10_000;
    let mut chain = Scenario::new().step("s0", |s| s);
    let mut beside = Scenario::new().step("s0", |s| s);
    for at in 1..count {
        chain = chain.then(&format!("s{at}"), |s| s);
        beside = beside.step(&format!("s{at}"), |s| s);
    }
    let played = chain.run_quietly().ends(0);
    assert_eq!(played.journal.syncs(), count + 1);
    beside.run_quietly().ends(0);
    assert_eq!(beside.world.order().len(), chain.world.order().len());
}
