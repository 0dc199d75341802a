//! `runbook skip RUN STEP`.

use super::operate::{self, By, Subject};
use super::{Exit, Failure};
use crate::event::OperatorVerb;

/// Arguments of `skip`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook skip last warm_cache --reason 'not needed today'\n\nA run in which a step was left out ends `succeeded_with_exceptions`, code 5."
)]
pub struct Args {
    /// The run: its id, a unique beginning of it, or `last`
    run: String,
    /// The step
    step: String,
    #[command(flatten)]
    by: By,
}

/// Leaves a step out.
pub fn run(args: Args) -> Result<Exit, Failure> {
    operate::act(&Subject::find(&args.run)?, OperatorVerb::Skip, Some(&args.step), &args.by)
}
