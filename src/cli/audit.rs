//! `runbook audit verify RUN|all`.

use super::{Exit, Failure, wiring};
use crate::journal::audit::{self, Problem, RunAudit};

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook audit verify all\n  runbook audit verify last --json\n\nWhat is verified: every line of a journal against its own hash and the one before, the first line against plan.json, and each run's start and end against the ledger beside the runs, so that a removed run shows too. `sha256sum` and `jq` can do the same; docs/audit.md shows how."
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Verify that a run's journal is whole and unaltered
    Verify(VerifyArgs),
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// The run: its id, a unique beginning of it, `last`, or `all`
    run: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Verifies one run or all; any problem is exit code 15.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let Command::Verify(args) = args.command;
    let runs = wiring::runs()?;
    if args.run != "all" {
        let dir = wiring::find_run(&runs, &args.run)?;
        let audit = audit::verify_anchored(&runs, &dir);
        if args.json {
            print_json(&audit)?;
        } else {
            show(&audit);
        }
        return Ok(if audit.is_ok() { Exit::Success } else { Exit::Journal });
    }
    let report = audit::verify_all(&runs).map_err(wiring::runs_failure)?;
    if args.json {
        print_json(&report)?;
    } else {
        report.runs.iter().for_each(show);
        problems(&report.ledger_problems);
        let verdict = if report.is_ok() { "everything holds together" } else { "NOT everything holds together" };
        out!(
            "{} runs, {} ledger lines, ledger head {}: {verdict}",
            report.runs.len(),
            report.ledger_lines,
            report.ledger_head
        );
    }
    Ok(if report.is_ok() { Exit::Success } else { Exit::Journal })
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Bug, error.to_string()))?;
    out!("{text}");
    Ok(())
}

fn show(audit: &RunAudit) {
    let head = audit.head.map_or_else(|| "-".to_owned(), |head| head.to_string());
    let verdict = if audit.is_ok() { "ok" } else { "BROKEN" };
    out!("{}  {verdict}  {} events  head {head}", audit.run, audit.events);
    problems(&audit.problems);
}

fn problems(problems: &[Problem]) {
    for problem in problems {
        out!("  {}", problem.message);
        if let Some(help) = &problem.help {
            out!("    help: {help}");
        }
    }
}
