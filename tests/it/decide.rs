//! What is decided in which state, as a table: a plan, what happened so far, what is to be done now.

use runbook::base::{Attempt, Digest, StepId, Timestamp};
use runbook::engine::{Decision, decide};
use runbook::event::{CancelLevel, ErrorClass, ErrorInfo, EventKind, RecoverDecision, SkipReason};
use runbook::journal::MemoryJournal;
use runbook::port::Journal;
use runbook::state::RunState;
use serde_json::{Value, json};

use crate::support::scenario::{Scenario, actor};

fn id(step: &str) -> StepId {
    step.parse().expect("a step id")
}

fn begun() -> Timestamp {
    "2026-01-28T14:30:02Z".parse().expect("a time")
}

/// Decides after these events, in words.
fn decided(scenario: &Scenario, happened: Vec<EventKind>) -> Vec<String> {
    let mut journal = MemoryJournal::new(scenario.plan.run.clone(), Digest::of(b"plan"));
    let start = EventKind::RunStarted(Box::new(scenario.header()));
    let kinds = std::iter::once(start).chain(happened).collect();
    let events = journal.append(begun(), kinds).expect("it is in memory");
    let state = RunState::fold(&events).expect("a possible run");
    decide(&scenario.plan, &state, &scenario.plan.limits, begun()).iter().map(words).collect()
}

fn words(decision: &Decision) -> String {
    match decision {
        Decision::Resolve { step } => format!("resolve {step}"),
        Decision::Check { step } => format!("check {step}"),
        Decision::Start { step, attempt } => format!("start {step} {attempt}"),
        Decision::Skip { step, why } => match why {
            SkipReason::When => format!("skip {step}: when"),
            SkipReason::Need { step: need } => format!("skip {step}: need {need}"),
            SkipReason::Aborted => format!("skip {step}: aborted"),
            SkipReason::Cancelled => format!("skip {step}: cancelled"),
            SkipReason::ByHand => format!("skip {step} by hand"),
            SkipReason::NothingToUndo => format!("skip {step}, nothing to undo"),
            SkipReason::UndoStopped => format!("skip {step}, undo stopped"),
            SkipReason::Group => format!("skip {step} with its group"),
        },
        Decision::Open { step } => format!("open {step}"),
        Decision::Close { step } => format!("close {step}"),
        Decision::Ask { step } => format!("ask {step}"),
        Decision::Expire { step } => format!("expire {step}"),
        Decision::Conclude { step } => format!("conclude {step}"),
        Decision::Obey { step, verb } => format!("obey {verb:?} {step}"),
        Decision::Wait { step, until } => format!("wait {step} {}", until.duration_since(begun()).as_millis()),
        Decision::Cancel { step, level } => format!("cancel {step} {level:?}"),
        Decision::Recover { step, attempt } => format!("recover {step} {attempt}"),
        Decision::Suspend { waiting } => format!("suspend for {}", waiting[0].step),
        Decision::Finish { outcome, exit_code } => format!("finish {outcome:?} {exit_code}"),
    }
}

fn resolved(step: &str) -> EventKind {
    EventKind::StepResolved { step: id(step), with: json!({}), secrets: Vec::new(), preconditions: Vec::new() }
}

fn checked(step: &str) -> EventKind {
    EventKind::StepChecked { step: id(step), findings: Vec::new() }
}

fn started(step: &str, attempt: u32) -> EventKind {
    EventKind::AttemptStarted { step: id(step), attempt: Attempt(attempt), key: step.to_owned() }
}

fn succeeded(step: &str) -> EventKind {
    EventKind::StepSucceeded { step: id(step), attempt: Attempt(1), output: Value::Null, elapsed_ms: 1 }
}

fn failed(step: &str) -> EventKind {
    let error = ErrorInfo::new(ErrorClass::Fatal, "no");
    EventKind::StepFailed { step: id(step), attempt: Attempt(1), error, elapsed_ms: 1 }
}

fn retrying(step: &str, retry_in_ms: u64) -> EventKind {
    let error = ErrorInfo::new(ErrorClass::Retryable, "no");
    EventKind::AttemptFailed { step: id(step), attempt: Attempt(1), error, elapsed_ms: 1, retry_in_ms }
}

fn resumed() -> EventKind {
    EventKind::RunResumed { actor: actor(), pid: 2, version: "0".to_owned() }
}

fn cancelled() -> EventKind {
    EventKind::CancelRequested { actor: actor(), level: CancelLevel::Graceful, reason: String::new() }
}

fn recovered(step: &str, decision: RecoverDecision) -> EventKind {
    EventKind::AttemptRecovered { step: id(step), attempt: Attempt(1), decision, why: "who knows".to_owned() }
}

/// Two independent steps, one that needs both, and one at the end.
fn diamond() -> Scenario {
    Scenario::new().step("a", |s| s).step("b", |s| s.checked()).step("c", |s| s.needs(&["a", "b"])).finally("z", |s| s)
}

#[test]
fn a_step_goes_from_its_values_over_its_check_to_its_attempt() {
    assert_eq!(decided(&diamond(), vec![]), ["resolve a", "resolve b"]);
    assert_eq!(decided(&diamond(), vec![resolved("a"), resolved("b")]), ["start a 1", "check b"]);
    let on = vec![resolved("a"), started("a", 1), resolved("b"), checked("b")];
    assert_eq!(decided(&diamond(), on.clone()), ["start b 1"]);
    let done = [on, vec![started("b", 1), succeeded("a"), succeeded("b")]].concat();
    assert_eq!(decided(&diamond(), done), ["resolve c"]);
}

#[test]
fn no_more_steps_run_at_once_than_the_limit_says() {
    let one = || diamond().parallel(1);
    assert_eq!(decided(&one(), vec![]), ["resolve a"]);
    assert_eq!(decided(&one(), vec![resolved("a"), started("a", 1)]), Vec::<String>::new());
    let waits = vec![resolved("a"), started("a", 1), retrying("a", 500)];
    assert_eq!(decided(&one(), waits), ["wait a 500", "resolve b"], "a step that waits holds no place");
    let busy = vec![resolved("a"), started("a", 1), retrying("a", 0), resolved("b"), checked("b"), started("b", 1)];
    assert_eq!(decided(&one(), busy), Vec::<String>::new());
}

#[test]
fn a_failure_skips_what_has_not_started_and_lets_the_rest_finish() {
    let on = vec![resolved("a"), started("a", 1), resolved("b"), failed("a")];
    assert_eq!(decided(&diamond(), on.clone()), ["skip b: aborted", "skip c: aborted"]);
    let skipped = |step: &str, why| EventKind::StepSkipped { step: id(step), why };
    let settled = [on, vec![skipped("b", SkipReason::Aborted), skipped("c", SkipReason::Aborted)]].concat();
    assert_eq!(decided(&diamond(), settled.clone()), ["resolve z"]);
    let ended = [settled, vec![resolved("z"), started("z", 1), succeeded("z")]].concat();
    assert_eq!(decided(&diamond(), ended), ["finish Failed 10"]);
}

#[test]
fn a_cancel_ends_the_body_and_spares_finally() {
    let on = vec![resolved("a"), started("a", 1), resolved("b"), cancelled()];
    assert_eq!(decided(&diamond(), on), ["cancel a Graceful", "cancel b Graceful", "skip c: cancelled"]);
    let only = Scenario::new().finally("z", |s| s);
    assert_eq!(decided(&only, vec![resolved("z"), started("z", 1), cancelled()]), Vec::<String>::new());
}

#[test]
fn what_an_engine_left_is_judged_before_anything_new_starts() {
    let left = vec![resolved("a"), started("a", 1), resumed()];
    assert_eq!(decided(&diamond(), left.clone()), ["recover a 1"]);
    let again = [left.clone(), vec![recovered("a", RecoverDecision::Rerun)]].concat();
    assert_eq!(decided(&diamond(), again), ["start a 2", "resolve b"]);
    let asks = [left.clone(), vec![recovered("a", RecoverDecision::Ask)]].concat();
    assert_eq!(decided(&diamond(), asks.clone()), ["suspend for a"]);
    assert_eq!(decided(&diamond(), [asks.clone(), vec![resumed()]].concat()), ["recover a 1"], "judged anew");
    let given_up = [asks, vec![cancelled()]].concat();
    assert_eq!(decided(&diamond(), given_up)[0], "cancel a Graceful");
    let adopted = EventKind::AttemptAdopted { step: id("a"), attempt: Attempt(1) };
    assert_eq!(decided(&diamond(), [left, vec![adopted]].concat()), ["resolve b"]);
}

#[test]
fn a_check_of_an_earlier_engine_is_made_again() {
    let left = vec![resolved("b"), checked("b"), resumed()];
    assert_eq!(decided(&diamond(), left), ["check b", "resolve a"]);
}

#[test]
fn an_event_that_cannot_follow_is_refused_and_changes_nothing() {
    let scenario = diamond();
    let mut journal = MemoryJournal::new(scenario.plan.run.clone(), Digest::of(b"plan"));
    let start = EventKind::RunStarted(Box::new(scenario.header()));
    let kinds =
        vec![start.clone(), started("a", 1), resolved("a"), started("a", 1), succeeded("a"), failed("a"), start];
    let events = journal.append(begun(), kinds).expect("it is in memory");
    let mut state = RunState::default();
    assert!(state.apply(&events[2]).is_err(), "not the first");
    state.apply(&events[0]).expect("the first");
    assert!(state.apply(&events[2]).is_err(), "a gap");
    let before = state.clone();
    assert!(state.apply(&events[1]).is_err(), "no attempt before its values");
    assert_eq!(state, before);
}
