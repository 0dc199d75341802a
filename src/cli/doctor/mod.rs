//! `runbook doctor`: proves what a site relies on, before the day it must.

mod kept;
mod keys;
mod servers;
mod store;

use super::args::InventoryArgs;
use super::site::Site;
use super::{Exit, Failure};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(
    group(clap::ArgGroup::new("what").args(["keys", "store", "servers"]).required(true).multiple(true)),
    after_help = "Examples:\n  runbook doctor --store primary              what can these credentials do? missing? too much?\n  runbook doctor --store primary --role any   the store of a single machine, which also prunes\n  runbook doctor --keys                       can anybody here read what is written now?\n  runbook doctor --keys --store offsite\n  runbook doctor --servers                    is the inventory right about them?\n  runbook doctor --keys --json | jq -r '.[] | select(.readable | not) | .store'\n\n--store writes a few objects below `rb-probe/` under a name of their own, and removes them again as far as the\ncredentials allow; settings are read, never changed. --keys packs a few bytes as each store packs backups and\ndecrypts them with every identity and password that the inventory names, and tries them on the newest backup of\neverything that lies there; nothing is written to any store.\nExit code 4 when something is missing or too much, when no key here reads what a store writes, when a server archives with other keys, or when a server contradicts its entry."
)]
pub struct Args {
    /// Pack a canary as each store packs backups, and decrypt it with every key that can be had here
    #[arg(long)]
    keys: bool,
    /// Hold every database's entry against the server that answers: data directory, cluster, port, socket
    #[arg(long, conflicts_with_all = ["keys", "store"])]
    servers: bool,
    /// Probe this store; with `--keys`, only its keys
    #[arg(long, value_name = "NAME")]
    store: Option<String>,
    /// What the credentials are for: what is missing and what is too much depends on it. Else `any` for a folder of
    /// this machine, whose user can always delete, and `backup` elsewhere
    #[arg(long, value_enum, conflicts_with = "keys")]
    role: Option<store::Role>,
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
    if args.servers {
        return servers::examine(&site, args.json.into());
    }
    if let (Some(name), false) = (&args.store, args.keys) {
        let findings = store::examine(&site, name, args.role)?;
        return store::print(name, &findings, args.json.into());
    }
    let reports = keys::examine(&site, args.store.as_deref())?;
    keys::print(&reports, &site, args.json.into())
}
