//! `runbook retry RUN STEP`.

use super::operate::{self, By, Subject};
use super::{Exit, Failure};
use crate::event::OperatorVerb;

/// Arguments of `retry`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook retry last copy --reason 'the disk has room again'\n\nFor a step that waits for an operator, for its next attempt, or for an answer about an interrupted one."
)]
pub struct Args {
    /// The run: its id, a unique beginning of it, or `last`
    run: String,
    /// The step
    step: String,
    #[command(flatten)]
    by: By,
}

/// Has a step tried again.
pub fn run(args: Args) -> Result<Exit, Failure> {
    operate::act(&Subject::find(&args.run)?, OperatorVerb::Retry, Some(&args.step), &args.by)
}
