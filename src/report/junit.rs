//! JUnit XML, for what shows test results.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::outcome_sentence;
use super::phrase::{error_lines, is_idle_undo, skip_reason};
use crate::base::clock::between;
use crate::plan::{BoundPlan, PlannedStep};
use crate::state::{RunState, StepState, StepStatus};

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
    for (name, value) in [
        ("run", plan.run.to_string()),
        ("mode", plan.mode.as_str().to_owned()),
        ("environment", plan.environment.clone()),
        ("outcome", outcome_sentence(plan, state)),
    ] {
        suite.add_property(Property::new(name, value));
    }
    let told = plan.steps.iter().filter(|step| !is_idle_undo(step, state));
    suite.add_test_cases(told.map(|step| case(step, state.steps.get(&step.id))));
    suite.add_test_cases(objectives(state));
    let mut report = Report::new(plan.name.as_str());
    report.add_test_suite(suite);
    report.to_string()
}

fn case(step: &PlannedStep, state: Option<&StepState>) -> TestCase {
    let mut case = TestCase::new(step.id.as_str(), status(state));
    case.set_classname(format!("{}.{}", step.phase.as_deref().unwrap_or("steps"), step.uses));
    if let Some((start, end)) = state.and_then(|state| Some((state.started_at?, state.ended_at?))) {
        case.set_time(between(start, end));
    }
    case
}

fn status(state: Option<&StepState>) -> TestCaseStatus {
    let Some(state) = state else { return skipped("it never started") };
    match state.status {
        StepStatus::Succeeded => TestCaseStatus::success(),
        StepStatus::Failed => broken(NonSuccessKind::Failure, "failed", state),
        StepStatus::Unknown => broken(NonSuccessKind::Error, "outcome unknown", state),
        StepStatus::Cancelled => broken(NonSuccessKind::Error, "cancelled", state),
        StepStatus::Skipped => skipped(&state.skipped.as_ref().map(skip_reason).unwrap_or_default()),
        StepStatus::Pending
        | StepStatus::Resolved
        | StepStatus::Checked
        | StepStatus::Running
        | StepStatus::Waiting
        | StepStatus::Open
        | StepStatus::Asking
        | StepStatus::Held => broken(NonSuccessKind::Error, "not ended", state),
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
