//! `runbook runs`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Exit, Failure, wiring};
use crate::base::RunId;
use crate::base::units::human_duration;
use crate::event::{OriginPurpose, Outcome};
use crate::journal::{RunStatus, RunSummary};

/// Arguments of `runs`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook runs\n  runbook runs --name full-db-loss --limit 5\n  runbook runs --json | jq -r '.[] | select(.status.status == \"suspended\") | .id'"
)]
pub struct Args {
    /// Only runs of this runbook
    #[arg(long)]
    name: Option<String>,
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
    let all = runs.list().map_err(wiring::runs_failure)?;
    let undone = undone(&all);
    let list: Vec<RunSummary> = all
        .into_iter()
        .filter(|run| args.name.as_ref().is_none_or(|name| run.name == *name))
        .take(args.limit)
        .collect();
    if args.json {
        let text = serde_json::to_string_pretty(&list).map_err(|error| Failure::new(Exit::Bug, error.to_string()))?;
        out!("{text}");
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
            status(&run.status),
            human_duration(Duration::from_millis(run.elapsed_ms)),
        );
        if let Some(by) = undone.get(&run.id) {
            out!("{:22}  {by}", "");
        }
    }
    Ok(Exit::Success)
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
        RunStatus::Finished { outcome, .. } => serde_json::to_value(outcome)
            .ok()
            .and_then(|value| Some(value.as_str()?.replace('_', " ")))
            .unwrap_or_default(),
        RunStatus::Damaged { .. } => "damaged".to_owned(),
    }
}
