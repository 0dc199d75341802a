//! `runbook doctor`: proves what a site relies on, before the day it must.

mod keys;

use super::args::InventoryArgs;
use super::site::Site;
use super::{Exit, Failure};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook doctor --keys                      can anybody here read what is written now?\n  runbook doctor --keys --store offsite\n  runbook doctor --keys --json | jq -r '.[] | select(.readable | not) | .store'\n\n--keys packs a few bytes as each store packs backups and decrypts them with every identity and password that\nthe inventory names. Nothing is written to any store. Exit code 4 when no key here reads what a store writes."
)]
pub struct Args {
    /// Pack a canary as each store packs backups, and decrypt it with every key that can be had here
    #[arg(long, required = true)]
    keys: bool,
    /// Only this store
    #[arg(long, value_name = "NAME")]
    store: Option<String>,
    /// The environment whose stores are meant
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Proves what was asked for.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    let reports = keys::examine(&site, args.store.as_deref())?;
    keys::print(&reports, &site, args.json.into())
}
