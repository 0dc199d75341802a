//! `runbook report RUN`.

use std::path::PathBuf;

use super::{Exit, Failure, document, invoke, wiring};
use crate::report::{json, junit, markdown};

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook report last --html -o report.html\n  runbook report last --junit -o restore-test.xml\n  runbook report last --markdown | gh issue comment 42 --body-file -\n  runbook report last --json | jq .figures.rto_ms"
)]
#[command(group(clap::ArgGroup::new("form").required(true)))]
pub struct Args {
    /// The run: its id, a unique beginning of it, or `last`
    run: String,
    /// One self-contained page
    #[arg(long, group = "form")]
    html: bool,
    /// One JSON document
    #[arg(long, group = "form")]
    json: bool,
    /// JUnit XML, for CI
    #[arg(long, group = "form")]
    junit: bool,
    /// Markdown, for a ticket
    #[arg(long, group = "form")]
    markdown: bool,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the report of a run.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let dir = wiring::find_run(&wiring::runs()?, &args.run)?;
    let (plan, _) = dir.plan().map_err(|error| wiring::journal_failure(&error))?;
    let history = dir.read().map_err(|error| wiring::journal_failure(&error))?;
    let state = invoke::fold(&history.events)?;
    let bug = |text: String| Failure::new(Exit::Bug, text);
    let text = if args.html {
        invoke::html_report(&dir, &plan, &state)
    } else if args.markdown {
        markdown::render(&plan, &state)
    } else if args.junit {
        junit::render(&plan, &state).map_err(|error| bug(error.to_string()))?
    } else {
        json::render(&plan, &state).map_err(|error| bug(error.to_string()))?
    };
    document::write(&text, args.output.as_deref())?;
    Ok(Exit::Success)
}
