//! `runbook print`: a checklist for paper, for the day the machine that runs runbooks is the one that burns.

use std::path::PathBuf;

use super::args::Subject;
use super::outline::outline;
use super::{Exit, Failure, frozen, graph, prepare, wiring};
use crate::plan::PlanFile;
use crate::report::checklist::{html, markdown};

/// Arguments of `print`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook print full-db-loss -p database=orders --html -o full-db-loss.html\n  runbook print full-db-loss -p database=orders | less\n\nNumbered steps with what a person types to the same end, boxes to tick, room for times and initials. Secrets stand by name; parameters left open are lines to write on."
)]
pub struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Markdown; the default
    #[arg(long, group = "form")]
    markdown: bool,
    /// One HTML file for paper, A4 or Letter
    #[arg(long, group = "form")]
    html: bool,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes a runbook as a checklist.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let file = plan_of(&args.subject)?;
    let list = outline(file.plan, &crate::actions::registry(), &file.open)?;
    let text = if args.html { html(&list) } else { markdown(&list) };
    graph::write(&text, args.output.as_deref())?;
    Ok(Exit::Success)
}

/// A plan file, or the plan of a runbook as it is now.
pub fn plan_of(subject: &Subject) -> Result<PlanFile, Failure> {
    if let Some(file) = frozen::read(&subject.runbook)? {
        return Ok(file);
    }
    let prepared = prepare::load_runbook(&subject.runbook, &subject.inventory)?;
    prepared.demand_sound()?;
    frozen::freeze(&prepared, subject, &wiring::state_root()?)
}
