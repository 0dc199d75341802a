//! JUnit XML, for what shows test results.
//!
//! The run is a suite; a step, an instance of a fan-out, an objective is a case. What a step found out one by one
//! (the checks of `postgres.check`, the conditions of `assert`, the findings before it, the answers of people) are
//! cases of their own, whose class is the step's id.

mod detail;

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::phrase::{error_lines, skip_reason};
use super::remark::remarks;
use super::roster::{Entry, roster};
use super::{mask_text, outcome_sentence};
use crate::base::clock::between;
use crate::plan::BoundPlan;
use crate::plan::render::NodeState;
use crate::state::{RunState, StepEnd, StepState};

/// Writes the run as one test suite: a test case per step, and one for each objective with a verdict.
///
/// # Errors
/// Fails when the XML cannot be written.
pub fn render(plan: &BoundPlan, state: &RunState) -> Result<String, SerializeError> {
    let mut suite = TestSuite::new(plan.name.as_str());
    let started = state.started_at.unwrap_or(plan.started_at);
    if let Some(ended) = state.last_at {
        suite.set_time(between(started, ended));
    }
    for (name, value) in properties(plan, state) {
        suite.add_property(Property::new(name, mask_text(&value)));
    }
    for entry in roster(plan, state).iter().filter(|entry| is_told(entry)) {
        suite.add_test_case(case(entry));
        suite.add_test_cases(detail::cases(entry));
    }
    suite.add_test_cases(objectives(state));
    let mut report = Report::new(plan.name.as_str());
    report.add_test_suite(suite);
    report.to_string()
}

/// A group is told by its members, unless it failed for itself.
fn is_told(entry: &Entry<'_>) -> bool {
    entry.is_leaf() || entry.state == NodeState::Failed && entry.members.failed == 0
}

fn properties(plan: &BoundPlan, state: &RunState) -> Vec<(&'static str, String)> {
    let mut told = vec![
        ("run", plan.run.to_string()),
        ("mode", plan.mode.as_str().to_owned()),
        ("environment", plan.environment.clone()),
        ("actor", plan.actor.name.clone()),
        ("owner", plan.owner.clone()),
        ("controls", plan.controls.join(" ")),
        ("outcome", outcome_sentence(plan, state)),
    ];
    let number = |ms: Option<u64>| ms.map(|ms| ms.to_string()).unwrap_or_default();
    if let Some((_, code, figures)) = &state.finished {
        told.extend([
            ("exit_code", code.to_string()),
            ("run_ms", figures.run_ms.to_string()),
            ("machine_ms", figures.machine_ms.to_string()),
            ("retry_ms", figures.retry_ms.to_string()),
            ("human_ms", figures.human_ms.to_string()),
            ("lock_ms", figures.lock_ms.to_string()),
            ("waiting_ms", figures.waiting_ms.to_string()),
            ("rto_ms", number(figures.rto_ms)),
            ("rto_target_ms", number(figures.rto_target_ms)),
            ("rpo_ms", number(figures.rpo.as_ref().map(|loss| loss.unwanted_ms))),
            ("rpo_target_ms", number(figures.rpo_target_ms)),
        ]);
    }
    told.extend(state.last_hash.map(|hash| ("last_hash", hash.to_string())));
    told.extend(remarks(state).into_iter().map(|remark| ("exception", format!("{} {}", remark.step, remark.words()))));
    told.retain(|(_, value)| !value.is_empty());
    told
}

fn case(entry: &Entry<'_>) -> TestCase {
    let state = entry.known;
    let mut case = TestCase::new(entry.id.as_str(), status(state));
    case.set_classname(format!("{}.{}", entry.planned.phase.as_deref().unwrap_or("steps"), entry.planned.uses));
    if let Some((start, end)) = state.and_then(|state| Some((state.started_at?, state.ended_at?))) {
        case.set_time(between(start, end));
    }
    case
}

fn status(state: Option<&StepState>) -> TestCaseStatus {
    let Some(state) = state else { return skipped("it never started") };
    match state.status.end() {
        Some(StepEnd::Succeeded) => TestCaseStatus::success(),
        Some(StepEnd::Failed) => broken(NonSuccessKind::Failure, "failed", state),
        Some(StepEnd::Unknown) => broken(NonSuccessKind::Error, "outcome unknown", state),
        Some(StepEnd::Cancelled) => broken(NonSuccessKind::Error, "cancelled", state),
        Some(StepEnd::Skipped) => skipped(&state.skipped.as_ref().map(skip_reason).unwrap_or_default()),
        None => broken(NonSuccessKind::Error, "not ended", state),
    }
}

fn skipped(why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(why);
    status
}

fn broken(kind: NonSuccessKind, class: &str, state: &StepState) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(class);
    match &state.error {
        Some(error) => {
            let lines = error_lines(error);
            status.set_message(lines[0].as_str());
            status.set_description(lines.join("\n"));
        }
        None => {
            status.set_message(class);
        }
    }
    status
}

fn objectives(state: &RunState) -> Vec<TestCase> {
    let Some((_, _, figures)) = &state.finished else { return Vec::new() };
    let verdict = |name: &str, measured_ms: u64, target_ms: u64, miss: Option<String>| {
        let status = miss.map_or_else(TestCaseStatus::success, |miss| {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type("objective missed").set_message(miss);
            status
        });
        let mut case = TestCase::new(format!("{name} within {}", super::phrase::chosen(target_ms)), status);
        case.set_classname("objectives").set_time(Duration::from_millis(measured_ms));
        case
    };
    let rto = figures.rto_ms.zip(figures.rto_target_ms);
    let rpo = figures.rpo.as_ref().map(|loss| loss.unwanted_ms).zip(figures.rpo_target_ms);
    let rto = rto.map(|(measured, target)| verdict("rto", measured, target, super::phrase::rto_miss(figures)));
    let rpo = rpo.map(|(measured, target)| verdict("rpo", measured, target, super::phrase::rpo_miss(figures)));
    rto.into_iter().chain(rpo).collect()
}
