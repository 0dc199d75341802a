//! `runbook audit ship`.

use crate::base::clock;
use crate::base::diagnostic::Diagnostics;
use crate::cli::args::{self, InventoryArgs};
use crate::cli::{Exit, Failure, attest, prepare, runs, wiring};
use crate::journal::{Index, RunFilter};
use crate::language::inventory::{AuditSettings, StoreEntry, choose_environment};
use crate::store;

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
    let (name, entry) = target(&args)?;
    let history = wiring::runs()?;
    let filter = RunFilter { since, ..RunFilter::default() };
    let list = Index::open(&history).and_then(|index| index.list(&filter)).map_err(runs::index_failure)?;
    let mut ids: Vec<_> = list.into_iter().map(|run| run.id).collect();
    ids.reverse();
    // Only a person makes a new place a store: at the end of a run it is more likely a folder that is not mounted.
    store::initialize(&entry, &name)
        .map_err(|error| Failure::new(Exit::Journal, format!("`{name}` cannot be made a store")).because(&error))?;
    let shipped = attest::ship(&history, (&name, &entry), ids).map_err(|what| {
        Failure::new(Exit::Journal, what).help("what was copied stays; the same command goes on from there")
    })?;
    if args.json {
        let text =
            serde_json::to_string_pretty(&shipped).map_err(|error| Failure::new(Exit::Bug, error.to_string()))?;
        out!("{text}");
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

fn target(args: &Args) -> Result<(String, StoreEntry), Failure> {
    if let Some(url) = args.to.as_ref().filter(|to| to.contains("://")) {
        return Ok((url.clone(), StoreEntry { url: url.clone(), ..StoreEntry::default() }));
    }
    let loaded = prepare::shared(&args.inventory);
    let invalid = |faults: &Diagnostics| {
        let first = faults.iter().map(|fault| fault.message.clone()).next().unwrap_or_default();
        Failure::new(Exit::Invalid, format!("the inventory is not sound: {first}")).help("`runbook check` shows it all")
    };
    if loaded.diagnostics.has_errors() {
        return Err(invalid(&loaded.diagnostics));
    }
    let environment = choose_environment(&loaded.inventory, args.environment.as_deref())
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()).help("name one with `--environment`"))?;
    let inventory = loaded.inventory.for_environment(&environment).map_err(|faults| invalid(&faults))?;
    let AuditSettings { ship, .. } = &inventory.audit;
    let Some(name) = args.to.as_ref().or(ship.as_ref()) else {
        return Err(Failure::new(Exit::Usage, "no store is named")
            .help("give one with `--to`, or write `audit: { ship: STORE }` in the inventory"));
    };
    let entry = inventory.stores.get(name).cloned().ok_or_else(|| {
        let known = inventory.stores.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        Failure::new(Exit::Usage, format!("the inventory has no store `{name}`")).help(format!("known: {known}"))
    })?;
    Ok((name.clone(), entry))
}
