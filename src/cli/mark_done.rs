//! `runbook mark-done RUN STEP`.

use serde_json::Value;

use super::operate::{self, By, Subject};
use super::{Exit, Failure, args};
use crate::event::OperatorVerb;

/// Arguments of `mark-done`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook mark-done last copy --reason 'copied by hand'\n  runbook mark-done last copy --output rows=42 --output file=/tmp/dump --reason 'copied by hand'\n\nA run in which a step was marked done ends `succeeded_with_exceptions`, code 5."
)]
pub struct Args {
    /// The run: its id, a unique beginning of it, or `last`
    run: String,
    /// The step
    step: String,
    /// What the step gave: JSON where it reads as such, else text; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    output: Vec<String>,
    #[command(flatten)]
    by: By,
}

/// Takes a step for done.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let output = args::pairs(&args.output, "output")?.into_iter().map(|(name, value)| (name, args::typed(value)));
    let verb = OperatorVerb::MarkDone { output: output.collect::<serde_json::Map<String, Value>>() };
    operate::act(&Subject::find(&args.run)?, verb, Some(&args.step), &args.by)
}
