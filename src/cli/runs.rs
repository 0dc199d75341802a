//! `runbook runs`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Exit, Failure, document, wiring};
use crate::base::units::human_duration;
use crate::base::{RunId, clock};
use crate::event::{OriginPurpose, Outcome};
use crate::journal::{Index, IndexError, RunFilter, RunStatus, RunSummary};

/// Arguments of `runs`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook runs\n  runbook runs --name full-db-loss --limit 5\n  runbook runs --outcome failed --since 30d\n  runbook runs --json | jq -r '.[] | select(.status.status == \"suspended\") | .id'"
)]
pub struct Args {
    /// Only runs of this runbook
    #[arg(long)]
    name: Option<String>,
    /// Only runs that ended so: succeeded, succeeded_with_exceptions, failed, failed_unknown, cancelled, objective_missed, inconclusive
    #[arg(long, value_parser = outcome)]
    outcome: Option<Outcome>,
    /// Only runs started since: a point in time, or how long ago (`30d`)
    #[arg(long, value_name = "TIME|DURATION")]
    since: Option<String>,
    /// How many, newest first
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists runs, newest first.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let runs = wiring::runs()?;
    let since = args.since.as_deref().map(|text| super::args::moment(text, clock::now())).transpose()?;
    let filter = RunFilter { name: args.name, outcome: args.outcome, since, limit: Some(args.limit) };
    let index = Index::open(&runs).map_err(index_failure)?;
    let list = index.list(&filter).map_err(index_failure)?;
    let undone = undone(&index.built_on_others().map_err(index_failure)?);
    if args.json {
        document::write_json(&list)?;
        return Ok(Exit::Success);
    }
    if list.is_empty() {
        tell!("no runs in {}", runs.root().display());
        return Ok(Exit::Success);
    }
    let widest = list.iter().map(|run| run.name.chars().count()).max().unwrap_or(4).max(7);
    out!("{:22}  {:widest$}  {:7}  {:12}  {:24}  ELAPSED", "RUN", "RUNBOOK", "MODE", "ENVIRONMENT", "STATUS");
    for run in list {
        out!(
            "{:22}  {:widest$}  {:7}  {:12}  {:24}  {}",
            run.id.to_string(),
            run.name,
            run.mode.map_or("", |mode| mode.as_str()),
            run.environment,
            standing(&run),
            human_duration(Duration::from_millis(run.elapsed_ms)),
        );
        if let Some(by) = undone.get(&run.id) {
            out!("{:22}  {by}", "");
        }
    }
    Ok(Exit::Success)
}

fn outcome(text: &str) -> Result<Outcome, String> {
    let name = serde_json::Value::String(text.replace('-', "_"));
    serde_json::from_value(name).map_err(|error| error.to_string())
}

/// Turns an error of the index into an exit.
pub fn index_failure(error: IndexError) -> Failure {
    match error {
        IndexError::Runs(error) => wiring::runs_failure(error),
        IndexError::Sqlite(error) => Failure::new(Exit::Journal, "the history cannot be asked").because(&error),
    }
}

/// A run's status, with what it waits for while it is live.
fn standing(run: &RunSummary) -> String {
    match (&run.status, &run.paused_by, run.waiting.len()) {
        (RunStatus::Live, Some(by), _) => format!("paused by {by}"),
        (RunStatus::Live, None, 1) => "running, a step asks".to_owned(),
        (RunStatus::Live, None, count) if count > 1 => format!("running, {count} steps ask"),
        (status, ..) => self::status(status),
    }
}

/// Which runs were undone, and by which, in words: the last one that came to its end in success.
fn undone(all: &[RunSummary]) -> BTreeMap<RunId, String> {
    let success = |run: &&RunSummary| match &run.status {
        RunStatus::Finished { outcome, .. } => {
            matches!(outcome, Outcome::Succeeded | Outcome::SucceededWithExceptions)
        }
        RunStatus::NeverStarted
        | RunStatus::Live
        | RunStatus::Suspended
        | RunStatus::Interrupted
        | RunStatus::Unread { .. }
        | RunStatus::Damaged { .. } => false,
    };
    let of = |run: &RunSummary| {
        let origin = run.origin.as_ref().filter(|origin| origin.purpose == OriginPurpose::Undo)?;
        let back_to = origin.step.as_ref().map(|step| format!(" back to `{step}`")).unwrap_or_default();
        Some((origin.run.clone(), format!("undone{back_to} by {}", run.id)))
    };
    all.iter().rev().filter(success).filter_map(of).collect()
}

/// A run's status in a few words.
pub fn status(status: &RunStatus) -> String {
    match status {
        RunStatus::NeverStarted => "never started".to_owned(),
        RunStatus::Live => "running".to_owned(),
        RunStatus::Suspended => "waits for a person".to_owned(),
        RunStatus::Interrupted => "interrupted".to_owned(),
        RunStatus::Finished { outcome, .. } => outcome_words(Some(*outcome)),
        RunStatus::Unread { .. } => "unread".to_owned(),
        RunStatus::Damaged { .. } => "damaged".to_owned(),
    }
}

/// An outcome in a few words.
pub fn outcome_words(outcome: Option<Outcome>) -> String {
    let Some(outcome) = outcome else { return "not ended".to_owned() };
    let value = serde_json::to_value(outcome).ok();
    value.and_then(|value| Some(value.as_str()?.replace('_', " "))).unwrap_or_default()
}
