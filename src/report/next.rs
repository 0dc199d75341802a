//! What to type next.

use serde_json::Value;

use super::phrase::{self, one_line};
use super::summary::{Drive, Places};
use super::waiting::wanted;
use crate::base::StepId;
use crate::engine::may_have_run;
use crate::event::{Outcome, SuspendReason};
use crate::language::named_inventories;
use crate::plan::{BoundPlan, Section};
use crate::state::{RunState, StepState, StepStatus};

/// Gives commands, each with a word that says what for.
pub(super) fn commands(plan: &BoundPlan, state: &RunState, places: &Places) -> Vec<(&'static str, String)> {
    let run = &plan.run;
    let is_answered = |step: &Option<StepId>| step.as_ref().is_some_and(|step| places.kept.contains(step));
    let is_open = matches!(places.drive, Drive::Engine | Drive::Nobody | Drive::Kept);
    let mut wanted = wanted(plan, state);
    let is_wanted = !wanted.is_empty();
    // One that takes several answers is still to be given the others.
    wanted.retain(|wanted| is_open && !(wanted.lacks <= 1 && is_answered(&wanted.step)));
    let mut next: Vec<(&'static str, String)> = wanted.into_iter().flat_map(|wanted| wanted.commands).collect();
    if !state.suspended.is_empty() && is_wanted && is_open {
        let what = if next.is_empty() { "go on" } else { "then" };
        next.push((what, format!("runbook resume {run}")));
    }
    for waiting in state.suspended.iter().filter(|waiting| is_unjudged(state, waiting)) {
        next.push(("decide", format!("runbook resume {run} --rerun {0}   or   --done {0}", waiting.step)));
    }
    next.extend(onward(plan, state, places));
    next.push(("details", format!("runbook show {run}")));
    next.push(match &places.report {
        Some(report) => ("report", report.display().to_string()),
        None => ("report", format!("runbook report {run} --html")),
    });
    next.push(("audit", format!("runbook audit verify {run}")));
    next.extend(places.run_dir.iter().map(|dir| ("files", dir.display().to_string())));
    next
}

fn onward(plan: &BoundPlan, state: &RunState, places: &Places) -> Vec<(&'static str, String)> {
    let (run, drive) = (&plan.run, places.drive);
    match state.finished.as_ref().map(|(outcome, _, _)| *outcome) {
        None if drive == Drive::Overtaken => vec![("end", plan.with_reason(format!("runbook cancel {run}")))],
        None if drive == Drive::Ending => vec![("end", format!("runbook resume {run}   carries the `cancel` out"))],
        None if state.suspended.is_empty() && drive != Drive::Engine => {
            vec![("go on", format!("runbook resume {run}"))]
        }
        None if state.suspended.is_empty() => vec![
            ("follow", format!("runbook show {run} --follow")),
            ("go on", format!("runbook resume {run}   once its engine is gone")),
        ],
        None | Some(Outcome::Succeeded | Outcome::SucceededWithExceptions) => Vec::new(),
        Some(
            Outcome::Failed
            | Outcome::FailedUnknown
            | Outcome::Cancelled
            | Outcome::ObjectiveMissed
            | Outcome::Inconclusive,
        ) => {
            let undo = can_be_undone(plan, state).then(|| ("undo", confirmed(plan, format!("runbook undo {run}"))));
            let bearing = otherwise(plan, state).map(|given| ("or", again(plan, Some(given), places)));
            std::iter::once(("again", again(plan, None, places))).chain(bearing).chain(undo).collect()
        }
    }
}

/// Whether the step was interrupted and nobody said what became of it.
pub(super) fn is_unjudged(state: &RunState, waiting: &SuspendReason) -> bool {
    let known = state.steps.get(&waiting.step);
    known.is_none_or(|known| !matches!(known.status, StepStatus::Asking | StepStatus::Held))
}

/// Whether something that a real run did has an undo that was not made.
fn can_be_undone(plan: &BoundPlan, state: &RunState) -> bool {
    let left = |known: &StepState| may_have_run(known) && known.undo.is_none();
    let mut undos = plan.section(Section::Undo).filter_map(|undo| state.steps.get(&undo.id.undone()?));
    plan.mode == crate::base::mode::Mode::Real && undos.any(left)
}

/// The other value of a parameter that a failure was told to be borne with: its help begins with it, as ``-p NAME=VALUE``.
/// Without it the same run fails by the same thing again.
fn otherwise<'a>(plan: &BoundPlan, state: &'a RunState) -> Option<(&'a str, &'a str)> {
    let helps = state.steps.values().filter_map(|step| step.error.as_ref()?.help.as_deref());
    let mut given = helps.filter_map(|help| help.strip_prefix("`-p ")?.split_once('`')?.0.split_once('='));
    given.find(|(name, value)| plan.params.get(*name).is_some_and(|own| own.as_str() != Some(*value)))
}

/// Gives the command that starts the same run anew, with another value of one of its parameters.
fn again(plan: &BoundPlan, other: Option<(&str, &str)>, places: &Places) -> String {
    use crate::base::mode::Mode;
    if let Some(run) = phrase::undoes(plan) {
        return confirmed(plan, format!("runbook undo {run}"));
    }
    let file = runbook_of(plan);
    let mut words = match plan.mode {
        Mode::Real => vec!["runbook run".to_owned(), quoted(file), "-e".to_owned(), quoted(&plan.environment)],
        Mode::Drill => vec!["runbook drill".to_owned(), quoted(file)],
        Mode::DryRun => vec!["runbook dry-run".to_owned(), quoted(file), "-e".to_owned(), quoted(&plan.environment)],
    };
    // A drill's incident is its own start unless another one was given; the next one has its own.
    let is_own_start = plan.mode != Mode::Real && plan.incident_at == Some(plan.started_at);
    for (name, value) in plan.params.iter().filter(|(name, _)| !(is_own_start && *name == crate::plan::INCIDENT_AT)) {
        let text = match value {
            _ if other.is_some_and(|(own, _)| own == name) => continue,
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
        };
        words.push(format!("-p {}", quoted(&format!("{name}={}", one_line(&text)))));
    }
    words.extend(other.map(|(name, value)| format!("-p {}", quoted(&format!("{name}={value}")))));
    words.extend(inventories(plan, places).iter().map(|file| format!("--inventory {}", quoted(file))));
    match plan.mode {
        Mode::Real => confirmed(plan, words.join(" ")),
        Mode::Drill | Mode::DryRun => words.join(" "),
    }
}

/// The inventories that the command must be told to mean those of the run.
fn inventories(plan: &BoundPlan, places: &Places) -> Vec<String> {
    match &places.inventories {
        Some(known) => known.iter().map(|file| file.display().to_string()).collect(),
        None => named_inventories(&plan.texts(), &[]).into_iter().map(str::to_owned).collect(),
    }
}

/// Adds the word that a protected environment wants before it is changed.
fn confirmed(plan: &BoundPlan, command: String) -> String {
    if plan.protected { format!("{command} --confirm {}", quoted(&plan.environment)) } else { command }
}

/// What the runbook is called by: a shipped one by its name, any other by its path.
fn runbook_of(plan: &BoundPlan) -> &str {
    let Some(source) = plan.sources.first() else { return &plan.name };
    match source.name.strip_prefix("<shipped>/") {
        Some(path) => path.rsplit('/').next().unwrap_or(path).trim_end_matches(".yaml"),
        None => &source.name,
    }
}

/// Quotes a word for a POSIX shell where it needs it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
