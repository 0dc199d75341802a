//! `runbook graph`: a picture of the steps, before anything is bound.

use std::path::PathBuf;

use super::args::InventoryArgs;
use super::{Exit, Failure, document, prepare};
use crate::action::Mode;
use crate::plan::render::{GraphView, dot, mermaid, svg, tree};

/// Arguments of `graph`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook graph full-db-loss\n  runbook graph full-db-loss --svg >plan.svg\n  runbook graph full-db-loss --dot | dot -Tpdf >plan.pdf\n  runbook graph full-db-loss --mode drill --mermaid"
)]
pub struct Args {
    /// A path, or a name: looked up in ./runbooks, then among the shipped ones
    runbook: String,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// Graphviz
    #[arg(long, group = "form")]
    dot: bool,
    /// Mermaid, for Markdown
    #[arg(long, group = "form")]
    mermaid: bool,
    /// A picture
    #[arg(long, group = "form")]
    svg: bool,
    /// Only the steps of this mode
    #[arg(long, value_enum, default_value_t = ModeArg::Real)]
    mode: ModeArg,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ModeArg {
    Real,
    Drill,
}

/// Draws a runbook's steps.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let prepared = prepare::load_runbook(&args.runbook, &args.inventory)?;
    prepared.demand_sound()?;
    let mode = match args.mode {
        ModeArg::Real => Mode::Real,
        ModeArg::Drill => Mode::Drill,
    };
    let view = GraphView::of_outline(&prepared.plan, &prepared.registry, mode);
    let text = if args.dot {
        dot(&view)
    } else if args.mermaid {
        mermaid(&view)
    } else if args.svg {
        svg(&view)
    } else {
        tree(&view)
    };
    document::write(&text, args.output.as_deref())?;
    Ok(Exit::Success)
}
