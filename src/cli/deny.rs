//! `runbook deny RUN STEP`.

use super::operate::{self, Answering, Telling};
use super::{Exit, Failure};
use crate::event::HumanVerdict;

/// Arguments of `deny`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook deny last --comment 'the primary is still up'\n  runbook deny last declare --as ada --comment 'wrong database'\n\nShows the question first. A denied step fails. For a `manual` step it says that it is not done."
)]
pub struct Args {
    /// The run: its id, a unique beginning of it, or `last`
    run: String,
    /// The step; the one that asks when it is the only one
    step: Option<String>,
    /// Who answers; default is the account
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Why not; kept in the journal
    #[arg(long, value_name = "TEXT", required = true)]
    comment: String,
    #[command(flatten)]
    telling: Telling,
}

/// Denies what a step asks.
pub fn run(args: Args) -> Result<Exit, Failure> {
    operate::answer(Answering {
        run: args.run,
        step: args.step,
        name: args.name,
        verdict: HumanVerdict::No,
        comment: args.comment,
        inputs: Vec::new(),
        break_glass: None,
        telling: args.telling,
    })
}
