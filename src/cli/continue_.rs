//! `runbook continue RUN`.

use super::operate::{self, By, Subject};
use super::{Exit, Failure};
use crate::event::OperatorVerb;

/// Arguments of `continue`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  runbook continue last --reason 'the network is back'")]
pub struct Args {
    /// The run: its id, a unique beginning of it, or `last`
    run: String,
    #[command(flatten)]
    by: By,
}

/// Has a paused run go on.
pub fn run(args: Args) -> Result<Exit, Failure> {
    operate::act(&Subject::find(&args.run)?, OperatorVerb::Continue, None, &args.by)
}
