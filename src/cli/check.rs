//! `runbook check`.

use super::args::InventoryArgs;
use super::{Exit, Failure, prepare};
use crate::base::diagnostic;
use crate::language::inventory::InventoryFile;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook check full-db-loss\n  runbook check runbooks/*.yaml --strict\n  runbook check inventory.yaml\n  runbook check restore.yaml --json | jq '.[].code'\n\nOnly the file, its includes and the inventory are read. Exit code 0 with warnings, 3 with errors."
)]
pub struct Args {
    /// Runbooks (paths, or names: looked up in ./runbooks, then among the shipped ones) and inventories (paths)
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
        let (prepared, what) = if prepare::is_inventory(name) {
            let prepared = prepare::load_inventory(name);
            let what = format!("inventory: {}", entries(&prepared.inventory));
            (prepared, what)
        } else {
            let prepared = prepare::load_runbook(name, &args.inventory)?;
            let runbook = &prepared.plan.runbook;
            let own = runbook.steps.len() + runbook.finally.len();
            let what = match prepared.plan.total {
                total if total > own => format!("{}, {total} with sub-runbooks", counted(own, "step")),
                _ => counted(own, "step"),
            };
            (prepared, what)
        };
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
        out!("{name}: {verdict} ({what})");
        if errors > 0 {
            tell!("`runbook explain CODE` says more about a code");
        }
    }
    if args.json {
        out!("{:#}", serde_json::Value::Array(all));
    }
    Ok(exit)
}

fn entries(inventory: &InventoryFile) -> String {
    let counts = [
        (inventory.databases.len(), "database"),
        (inventory.services.len(), "service"),
        (inventory.stores.len(), "store"),
        (inventory.environments.len(), "environment"),
    ];
    counts.map(|(number, what)| counted(number, what)).join(", ")
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
