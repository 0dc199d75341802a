//! `runbook audit ship`.

use crate::base::clock;
use crate::cli::args::{self, InventoryArgs};
use crate::cli::site::Site;
use crate::cli::{Exit, Failure, attest, document, runs, wiring};
use crate::journal::{Index, RunFilter};
use crate::language::inventory::StoreEntry;

/// Arguments of `audit ship`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook audit ship                       to the store that the inventory names under `audit`\n  runbook audit ship --to offsite\n  runbook audit ship --to file:///mnt/audit --since 90d\n\nEnded runs that the store lacks are copied, then the new lines of the ledger; everything is read back. Nothing is ever replaced: what differs from the copy is named, and the exit code is 15."
)]
pub struct Args {
    /// A store of the inventory, or `file:///absolute/path`
    #[arg(long, value_name = "STORE|URL")]
    to: Option<String>,
    /// Only runs started since: a point in time, or how long ago (`90d`)
    #[arg(long, value_name = "TIME|DURATION")]
    since: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// The environment whose stores are meant
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Copies ended runs and the ledger.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let since = args.since.as_deref().map(|text| args::moment(text, clock::now())).transpose()?;
    let bare = args.to.as_ref().filter(|to| to.contains("://"));
    let bare = bare.map(|url| StoreEntry { url: url.clone(), ..StoreEntry::default() });
    let site = match bare {
        Some(_) => Site::bare()?,
        None => Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?,
    };
    let name = target(&args, &site)?;
    let entry = match &bare {
        Some(entry) => entry,
        None => site.store_entry(name)?,
    };
    let place = site.opening(name, entry);
    let history = wiring::runs()?;
    let filter = RunFilter { since, ..RunFilter::default() };
    let list = Index::open(&history).and_then(|index| index.list(&filter)).map_err(runs::index_failure)?;
    let mut ids: Vec<_> = list.into_iter().map(|run| run.id).collect();
    ids.reverse();
    // Only a person makes a new place a store: at the end of a run it is more likely a folder that is not mounted.
    place
        .initialize()
        .map_err(|error| Failure::new(Exit::Journal, format!("`{name}` cannot be made a store")).because(&error))?;
    let shipped = attest::ship(&history, &place, ids).map_err(|what| {
        Failure::new(Exit::Journal, what).help("what was copied stays; the same command goes on from there")
    })?;
    if args.json {
        document::write_json(&shipped)?;
    } else {
        out!(
            "{} runs and {} ledger lines shipped to `{name}`; {} runs were there, {} have not ended",
            shipped.runs.len(),
            shipped.ledger_lines,
            shipped.had,
            shipped.unfinished
        );
        shipped.differing.iter().for_each(|what| out!("DIFFERS  {what}"));
    }
    Ok(if shipped.differing.is_empty() { Exit::Success } else { Exit::Journal })
}

/// Names the place that is shipped to.
fn target<'a>(args: &'a Args, site: &'a Site) -> Result<&'a str, Failure> {
    args.to.as_deref().or(site.inventory.audit.ship.as_deref()).ok_or_else(|| {
        Failure::new(Exit::Usage, "no store is named")
            .help("give one with `--to`, or write `audit: { ship: STORE }` in the inventory")
    })
}
