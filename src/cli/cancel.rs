//! `runbook cancel RUN`.

use serde_json::json;

use super::invoke::Invocation;
use super::operate::{Subject, demand_reason, hand_over};
use super::screen::Face;
use super::{Exit, Failure, wiring};
use crate::event::CancelLevel;
use crate::journal::Verb;

/// Arguments of `cancel`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook cancel last --reason 'wrong database'\n  runbook cancel 20260128-143002-3fa9c1 --now\n  runbook cancel last --reason 'wrong database' --json | jq -r .fate\n\nThe fate in JSON is `sent` when an engine drives the run, `kept` when the next `runbook resume` takes it, `ended` when a\nnewer run has replaced the same database's data meanwhile: then it ends at once, and nothing of it is undone."
)]
pub struct Args {
    /// The run: its id, a unique beginning of it, or `last`
    run: String,
    /// Kill what runs at once instead of asking it to end; `finally` still runs
    #[arg(long)]
    now: bool,
    /// Why; kept in the journal, required in a protected environment
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Who acts; default is the account
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks a run to end: a live one at once, one that waits or was interrupted when it is resumed. One that a newer run has
/// overtaken is never gone on with: it ends here.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let Subject { dir, plan, .. } = Subject::find(&args.run)?;
    demand_reason(&plan, &args.reason)?;
    let level = if args.now { CancelLevel::Now } else { CancelLevel::Graceful };
    let actor = wiring::actor_as(args.name.as_deref())?;
    if !dir.is_live().map_err(wiring::runs_failure)? {
        let invocation = Invocation::new(Face::from(args.json), None)?;
        let run = dir.id().clone();
        if let Some(by) = invocation.end_overtaken(dir.clone(), (actor.clone(), level, &args.reason))? {
            match args.json {
                true => out!("{}", json!({ "run": run, "verb": "cancel", "fate": "ended", "overtaken_by": by })),
                false => tell!(
                    "run {run} is ended: run {by} has overtaken it. Nothing of it was gone on with or undone, `finally` included"
                ),
            }
            return Ok(Exit::Success);
        }
    }
    let request = hand_over(&dir, &Verb::Cancel { actor, level, reason: args.reason })?;
    let live = dir.is_live().map_err(wiring::runs_failure)?;
    if args.json {
        let fate = if live { "sent" } else { "kept" };
        out!("{}", json!({ "run": dir.id(), "request": request, "verb": "cancel", "fate": fate }));
        return Ok(Exit::Success);
    }
    match live {
        true => tell!("asked run {} to end; follow it with `runbook show {0} --follow`", dir.id()),
        false => tell!("no engine drives run {}: `runbook resume {0}` ends it and runs its `finally`", dir.id()),
    }
    Ok(Exit::Success)
}
