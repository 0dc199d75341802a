//! `runbook cancel RUN`.

use super::operate::demand_reason;
use super::{Exit, Failure, wiring};
use crate::event::CancelLevel;
use crate::journal::{RunStatus, RunSummary, Verb, control};

/// Arguments of `cancel`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook cancel last --reason 'wrong database'\n  runbook cancel 20260128-143002-3fa9c1 --now"
)]
pub struct Args {
    /// The run: its id, a unique beginning of it, or `last`
    run: String,
    /// Kill what runs at once instead of asking it to end; `finally` still runs
    #[arg(long)]
    now: bool,
    /// Why; kept in the journal, required in a protected environment
    #[arg(long, default_value = "")]
    reason: String,
}

/// Asks a run to end: a live one at once, one that waits or was interrupted when it is resumed.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let dir = wiring::find_run(&wiring::runs()?, &args.run)?;
    let status = RunSummary::of(&dir).status;
    if let RunStatus::Finished { .. } | RunStatus::NeverStarted | RunStatus::Damaged { .. } = status {
        return Err(Failure::new(Exit::Usage, format!("no engine drives run `{}`", dir.id()))
            .help(format!("`runbook show {}` says where it stands", dir.id())));
    }
    let (plan, _) = dir.plan().map_err(|error| wiring::journal_failure(&error))?;
    demand_reason(&plan, &args.reason)?;
    let level = if args.now { CancelLevel::Now } else { CancelLevel::Graceful };
    let verb = Verb::Cancel { actor: wiring::actor(), level, reason: args.reason };
    control::send(&dir.control(), &verb)
        .map_err(|error| Failure::new(Exit::Journal, "the request cannot be handed over").because(&error))?;
    match status {
        RunStatus::Live => tell!("asked run {} to end; follow it with `runbook show {0} --follow`", dir.id()),
        _ => tell!("no engine drives run {}: `runbook resume {0}` ends it and runs its `finally`", dir.id()),
    }
    Ok(Exit::Success)
}
