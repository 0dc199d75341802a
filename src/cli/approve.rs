//! `runbook approve RUN STEP`.

use super::operate::{self, Answering, Telling};
use super::{Exit, Failure};
use crate::event::HumanVerdict;

/// Arguments of `approve`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook approve last\n  runbook approve last declare --as ada --comment 'seen the dashboards'\n  runbook approve last switch --input ticket=4711\n  runbook approve last declare --break-glass --reason 'nobody else is awake'\n\nShows the question first. For a `manual` step it says that it is done."
)]
pub struct Args {
    /// The run: its id, a unique beginning of it, or `last`
    run: String,
    /// The step; the one that asks when it is the only one
    step: Option<String>,
    /// Who answers; default is the account
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// What is said with it; kept in the journal
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    /// What the question wants to be filled in; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    input: Vec<String>,
    /// Answer alone for everybody; an exception, and told as one
    #[arg(long, requires = "reason")]
    break_glass: bool,
    /// Why one person answers for all
    #[arg(long, value_name = "TEXT", requires = "break_glass")]
    reason: Option<String>,
    #[command(flatten)]
    telling: Telling,
}

/// Approves what a step asks.
pub fn run(args: Args) -> Result<Exit, Failure> {
    if args.reason.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        return Err(Failure::new(Exit::Usage, "`--break-glass` wants a reason").help("add `--reason TEXT`"));
    }
    operate::answer(Answering {
        run: args.run,
        step: args.step,
        name: args.name,
        verdict: HumanVerdict::Yes,
        comment: args.comment,
        inputs: args.input,
        break_glass: args.reason,
        telling: args.telling,
    })
}
