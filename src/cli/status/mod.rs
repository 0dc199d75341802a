//! `runbook status`: how the databases stand, on one screen: at three in the morning this is looked at first.

mod gather;
mod show;

use super::args::InventoryArgs;
use super::site::{self, Site};
use super::{Exit, Failure, document};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook status\n  runbook status orders\n  runbook status --json | jq '.[] | {database, next}'\n\nOf each database: whether its server answers, how far its archive is behind, its newest backup and the last proof that one restores, the last drill, the forecast of a recovery against its RTO, recoveries that are open, runs that wait, and what to do next.\nNothing is changed. A store or a server that does not answer is told and does not hide the rest."
)]
pub struct Args {
    /// Only this database of the inventory
    database: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// The environment; else the one marked `default`
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Tells how the databases stand.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    let names: Vec<String> = match &args.database {
        Some(name) => vec![site::chosen_database(Some(name), &site.inventory)?],
        None => site.inventory.databases.keys().cloned().collect(),
    };
    if names.is_empty() {
        return Err(Failure::new(Exit::Usage, "the inventory has no database")
            .help("name an inventory with `--inventory FILE`, and a database under its `databases`"));
    }
    let mut all = Vec::new();
    for name in &names {
        all.push(gather::of(name, &site, &args.inventory)?);
    }
    if args.json {
        document::write_json(&all)?;
        return Ok(Exit::Success);
    }
    all.iter().for_each(show::print);
    Ok(Exit::Success)
}
