//! What a step found out one by one, as cases.

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus};
use serde_json::Value;

use crate::event::{HumanVerdict, Verdict};
use crate::report::phrase::one_line;
use crate::report::roster::Entry;
use crate::state::StepState;
use crate::state::objectives::{damaged, lacking};

/// Gives the cases of an entry, of the class that bears its id.
pub(super) fn cases(entry: &Entry<'_>) -> Vec<TestCase> {
    let Some(known) = entry.known else { return Vec::new() };
    let found = findings(known)
        .into_iter()
        .chain(checks(known))
        .chain(conditions(entry, known))
        .chain(answers(known))
        .chain(copies(known));
    let named = found.map(|(name, status)| {
        let mut case = TestCase::new(one_line(&name), status);
        case.set_classname(entry.id.as_str());
        case
    });
    named.collect()
}

fn failure(class: &str, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_type(class).set_message(one_line(message));
    status
}

/// What the check before the step found. A warning is no failure: the step was made.
fn findings(known: &StepState) -> Vec<(String, TestCaseStatus)> {
    let told = known.findings.iter().map(|finding| {
        let status = match finding.verdict {
            Verdict::Pass | Verdict::Warn => TestCaseStatus::success(),
            Verdict::Pending => super::skipped("it could not be judged yet"),
            Verdict::Refuse => failure("refused", &finding.message),
        };
        let mark = if finding.verdict == Verdict::Warn { "warning: " } else { "" };
        (format!("{mark}{}", finding.message), status)
    });
    told.collect()
}

/// The list `checks` in the outputs: of each its name, and whether it passed.
fn checks(known: &StepState) -> Vec<(String, TestCaseStatus)> {
    let rows = known.output.as_ref().and_then(|output| output.get("checks")).and_then(Value::as_array);
    let told = rows.into_iter().flatten().filter_map(|row| {
        let name = row.get("name").and_then(Value::as_str)?;
        let passed = row.get("passed").or_else(|| row.get("ok")).and_then(Value::as_bool)?;
        let word = |key: &str| row.get(key).map(words).unwrap_or_default();
        let status = match passed {
            true => TestCaseStatus::success(),
            false if row.get("unproven").is_some() => {
                let mut status = TestCaseStatus::skipped();
                status.set_message(one_line(&word("unproven")));
                status
            }
            false => failure("check failed", &format!("{}, expected {}", word("value"), word("expected"))),
        };
        Some((name.to_owned(), status))
    });
    told.collect()
}

/// The conditions of `assert`, as they were rendered.
fn conditions(entry: &Entry<'_>, known: &StepState) -> Vec<(String, TestCaseStatus)> {
    let Some(with) = known.with.as_ref().filter(|_| entry.planned.uses == "assert") else { return Vec::new() };
    let all = with.get("all").and_then(Value::as_array);
    let told = std::iter::once(with).chain(all.into_iter().flatten()).filter_map(|condition| {
        let holds = condition.get("that")?.as_bool()?;
        let message = condition.get("message").map(words).unwrap_or_else(|| "the condition holds".to_owned());
        let status = if holds { TestCaseStatus::success() } else { failure("does not hold", &message) };
        Some((message, status))
    });
    told.collect()
}

/// The copies of backups that were found damaged or are lacking, whatever became of the step: nobody may read that off the others.
fn copies(known: &StepState) -> Vec<(String, TestCaseStatus)> {
    let told = damaged(known).into_iter().map(|copy| {
        let name = format!("the copy of backup `{}` in store `{}` holds", copy.backup, copy.store);
        (name, failure("damaged copy", &copy.faults.join("; ")))
    });
    let lacking = lacking(known).into_iter().map(|lack| {
        let name = format!("store `{}` has its copy of the backup", lack.store);
        (name, failure("lacking copy", &lack.words()))
    });
    told.chain(lacking).collect()
}

/// What people answered.
fn answers(known: &StepState) -> Vec<(String, TestCaseStatus)> {
    let told = known.answers.iter().map(|(_, answer)| match answer.verdict {
        HumanVerdict::Yes => (format!("answered yes by {}", answer.by.name), TestCaseStatus::success()),
        HumanVerdict::No => (format!("answered no by {}", answer.by.name), failure("answered no", &answer.comment)),
    });
    told.collect()
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
