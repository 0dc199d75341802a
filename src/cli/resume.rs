//! `runbook resume RUN`.

use std::collections::BTreeMap;

use super::amend::Amendment;
use super::args::InventoryArgs;
use super::invoke::Invocation;
use super::screen::Face;
use super::{Exit, Failure, wiring};
use crate::base::StepId;
use crate::engine::{Answer, Presence};

/// Arguments of `resume`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook resume last\n  runbook resume last --rerun copy              it did not happen: do it again\n  runbook resume last --done copy --output rows=42   it happened, and this came of it\n  runbook resume last --with fixed.yaml         the rest goes by the mended file\n\nA finished step never runs again. What still runs is adopted, what ended meanwhile is taken as it ended.\nA finished run is only shown; to go on after a failure, start a new run."
)]
pub struct Args {
    /// The run: its id, a unique beginning of it, or `last`
    run: String,
    /// This interrupted step did not happen: make another attempt; repeatable
    #[arg(long, value_name = "STEP")]
    rerun: Vec<String>,
    /// This interrupted step happened
    #[arg(long, value_name = "STEP")]
    done: Vec<String>,
    /// An output of the one step named with --done; repeatable
    #[arg(long, value_name = "NAME=VALUE", requires = "done")]
    output: Vec<String>,
    /// Wait for people, also where none sits at a terminal; else the run is suspended
    #[arg(long)]
    wait: bool,
    /// Go on by this runbook as it is now: steps that have begun must be as they were
    #[arg(long, value_name = "FILE")]
    with: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// A variable for --with; repeatable
    #[arg(long, value_name = "NAME=VALUE", requires = "with")]
    var: Vec<String>,
    /// Confirms --with in a protected environment: its name
    #[arg(long, value_name = "ENVIRONMENT", requires = "with")]
    confirm: Option<String>,
    /// Write events and progress as JSON lines to standard output
    #[arg(long)]
    json: bool,
}

/// Goes on with a run.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let answers = answers(&args)?;
    let mut invocation = Invocation::new(Face::from(args.json), None)?;
    if args.wait {
        invocation.presence = Presence::SomebodyThere;
    }
    let dir = wiring::find_run(&invocation.runs, &args.run)?;
    let with =
        args.with.map(|runbook| Amendment { runbook, inventory: args.inventory, var: args.var, confirm: args.confirm });
    let carried = invocation.resume(dir, answers, with.as_ref())?;
    invocation.summary(&carried);
    Ok(carried.exit())
}

fn answers(args: &Args) -> Result<BTreeMap<StepId, Answer>, Failure> {
    if !args.output.is_empty() && args.done.len() != 1 {
        return Err(Failure::new(Exit::Usage, "`--output` belongs to exactly one `--done`"));
    }
    let step = |name: &String| name.parse::<StepId>().map_err(|error| Failure::new(Exit::Usage, error.to_string()));
    let mut answers = BTreeMap::new();
    for name in &args.rerun {
        answers.insert(step(name)?, Answer::Rerun);
    }
    for name in &args.done {
        let output = super::args::pairs(&args.output, "output")?
            .into_iter()
            .map(|(name, value)| (name, super::args::typed(value)))
            .collect();
        if answers.insert(step(name)?, Answer::Done { output }).is_some() {
            return Err(Failure::new(Exit::Usage, format!("step `{name}` is given twice")));
        }
    }
    Ok(answers)
}
