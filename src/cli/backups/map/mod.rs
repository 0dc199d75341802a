//! `runbook backups map`: the intervals of time that can be recovered, with the gaps and their reasons.

mod chart;

use std::path::PathBuf;

use crate::cli::args::InventoryArgs;
use crate::cli::recoverable::{Recoverable, databases};
use crate::cli::site::Site;
use crate::cli::wal_location::WalLocationArgs;
use crate::cli::{Exit, Failure, document, screen, wiring};
use crate::report::window::{Chart, svg, text};

/// Arguments of `backups map`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook backups map\n  runbook backups map orders --svg orders.svg\n  runbook backups map orders --json | jq '.[].lanes[].spans[] | select(.state == \"gap\")'\n\nTimes are those of the commits in the WAL, by the primary's clock. Nothing is written but the file of --svg.\n`runbook pitr DATABASE --at TIME` tells how one moment is recovered; `runbook wal verify DATABASE --digests` reads every segment."
)]
pub struct Args {
    /// The database; default: every one that has a store
    database: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    #[command(flatten)]
    location: WalLocationArgs,
    /// The environment whose stores are meant
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Draw it into a file; one database only
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows what can be recovered.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    let (mut charts, mut exit) = (Vec::new(), Exit::Success);
    for name in databases(&site, args.database.as_deref())? {
        let recoverable = args.location.beside(Recoverable::open(&site, &name)?, &site)?;
        match wiring::block_on(async { chart::charts(recoverable.look().await?).await })? {
            Ok(found) => charts.extend(found),
            Err(error) => {
                Failure::new(Exit::Failed, format!("what `{name}` has cannot be read")).because(&error).print();
                exit = Exit::Failed;
            }
        }
    }
    args.say(&charts)?;
    Ok(exit)
}

impl Args {
    fn say(&self, charts: &[Chart]) -> Result<(), Failure> {
        if self.json {
            return document::write_json(&charts);
        }
        if let Some(path) = &self.svg {
            let [chart] = charts else {
                let help = "name the database: `runbook backups map DATABASE --svg FILE`";
                return Err(Failure::new(Exit::Usage, "one picture shows one cluster").help(help));
            };
            return document::write(&svg(chart), Some(path));
        }
        for chart in charts {
            out_part!("{}", text(chart, screen::columns(), screen::out_palette()));
        }
        Ok(())
    }
}
