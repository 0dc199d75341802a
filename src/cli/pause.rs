//! `runbook pause RUN`.

use super::operate::{self, By, Subject};
use super::{Exit, Failure};
use crate::event::OperatorVerb;

/// Arguments of `pause`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook pause last --reason 'waiting for the network team'\n\nNothing new starts; what runs ends. `runbook continue RUN` goes on."
)]
pub struct Args {
    /// The run: its id, a unique beginning of it, or `last`
    run: String,
    #[command(flatten)]
    by: By,
}

/// Has a run start nothing new until it is told to go on.
pub fn run(args: Args) -> Result<Exit, Failure> {
    operate::act(&Subject::find(&args.run)?, OperatorVerb::Pause, None, &args.by)
}
