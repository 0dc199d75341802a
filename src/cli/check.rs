//! `runbook check`.

use super::args::InventoryArgs;
use super::{Exit, Failure, prepare};
use crate::base::diagnostic;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook check full-db-loss\n  runbook check runbooks/*.yaml --strict\n  runbook check restore.yaml --json | jq '.[].code'\n\nOnly the file, its includes and the inventory are read. Exit code 0 with warnings, 3 with errors."
)]
pub struct Args {
    /// Paths, or names: looked up in ./runbooks, then among the shipped ones
    #[arg(required = true)]
    runbooks: Vec<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// Warnings count as errors
    #[arg(long)]
    strict: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// Reads runbooks and says everything that is wrong with them.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let mut exit = Exit::Success;
    let mut all = Vec::new();
    for name in &args.runbooks {
        let prepared = prepare::load_runbook(name, &args.inventory)?;
        let (errors, warnings) = prepared.counts();
        if errors > 0 || args.strict && warnings > 0 {
            exit = Exit::Invalid;
        }
        if args.json {
            if let serde_json::Value::Array(findings) = diagnostic::to_json(&prepared.diagnostics, &prepared.sources) {
                all.extend(findings);
            }
            continue;
        }
        prepared.report();
        let verdict = match (errors, warnings) {
            (0, 0) => "sound".to_owned(),
            (0, warnings) => format!("sound, {}", counted(warnings, "warning")),
            (errors, 0) => counted(errors, "error"),
            (errors, warnings) => format!("{}, {}", counted(errors, "error"), counted(warnings, "warning")),
        };
        let runbook = &prepared.plan.runbook;
        out!("{name}: {verdict} ({})", counted(runbook.steps.len() + runbook.finally.len(), "step"));
        if errors > 0 {
            tell!("`runbook explain CODE` says more about a code");
        }
    }
    if args.json {
        out!("{:#}", serde_json::Value::Array(all));
    }
    Ok(exit)
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
