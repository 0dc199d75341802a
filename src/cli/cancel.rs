//! `runbook cancel RUN`.

use super::{Exit, Failure, wiring};
use crate::event::CancelLevel;
use crate::journal::{Verb, control};

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
    /// Why; kept in the journal
    #[arg(long, default_value = "")]
    reason: String,
}

/// Asks a live run to end.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let dir = wiring::find_run(&wiring::runs()?, &args.run)?;
    if !dir.is_live().map_err(wiring::runs_failure)? {
        return Err(Failure::new(Exit::Usage, format!("no engine drives run `{}`", dir.id()))
            .help(format!("`runbook show {}` says where it stands", dir.id())));
    }
    let level = if args.now { CancelLevel::Now } else { CancelLevel::Graceful };
    let verb = Verb::Cancel { actor: wiring::actor(), level, reason: args.reason };
    control::send(&dir.control(), &verb)
        .map_err(|error| Failure::new(Exit::Journal, "the request cannot be handed over").because(&error))?;
    tell!("asked run {} to end; follow it with `runbook show {0} --follow`", dir.id());
    Ok(Exit::Success)
}
