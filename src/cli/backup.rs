//! `runbook backup`: the shipped backups without YAML beyond the inventory.

use super::args::{InventoryArgs, Subject};
use super::invoke::Invocation;
use super::prepare::{self, RunIdentity};
use super::procedure::Keeper;
use super::screen::Face;
use super::site::{self, Site};
use super::{Exit, Failure, given};
use crate::action::Mode;
use crate::engine::Presence;

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook backup\n  runbook backup orders --confirm production\n  runbook backup orders --tier monthly --confirm production\n  runbook backup orders --at-least 1 --confirm production\n\nIt carries a shipped runbook out: `base-backup`; `pgbackrest-backup` where pgBackRest has the backups; `daily-backup` (dumps) where a provider keeps the server. Without a name the inventory's only database is meant.\nWhile a recovery of the database is open, a backup that nobody watches is refused (code 4)."
)]
pub struct Args {
    /// The database of the inventory; its only one when absent
    database: Option<String>,
    /// The tier whose retention applies (`daily`, `monthly`); of pgBackRest the type (`full`, `diff`, `incr`)
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,
    /// How many of its stores must get the backup, for while one is full or gone; default: all
    #[arg(long, value_name = "N")]
    at_least: Option<u32>,
    /// Confirms a run in a protected environment: its name
    #[arg(long, value_name = "ENVIRONMENT")]
    confirm: Option<String>,
    /// The environment; else the one marked `default`
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// Wait for people, also where none sits at a terminal; else the run is suspended
    #[arg(long)]
    wait: bool,
    /// Write events and progress as JSON lines to standard output
    #[arg(long)]
    json: bool,
}

/// Takes a backup.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let site = Site::read(&args.inventory, args.environment.as_deref(), args.json.into())?;
    let database = site::chosen_database(args.database.as_deref(), &site.inventory)?;
    let keeper = site.inventory.databases.get(&database).map_or(Keeper::Store, Keeper::of);
    let runbook = keeper.backup();
    if args.at_least.is_some() && keeper == Keeper::PgBackRest {
        let failure =
            Failure::new(Exit::Usage, "`--at-least` counts stores, and pgBackRest has the backups of this database");
        return Err(failure.help("its repositories are named in its own configuration"));
    }
    let prepared = prepare::load_runbook(runbook, &args.inventory)?;
    prepared.demand_sound()?;
    let subject = Subject {
        runbook: runbook.to_owned(),
        environment: Some(site.environment),
        inventory: args.inventory,
        ..Subject::default()
    };
    let mut invocation = Invocation::new(Face::from(args.json), args.confirm)?;
    if args.wait {
        invocation.presence = Presence::SomebodyThere;
    }
    let tier = args.tier.map(|tier| (keeper.tier().to_owned(), tier));
    let texts = [("database".to_owned(), database)].into_iter().chain(tier);
    let texts = texts.map(|(name, value)| (name, serde_json::Value::String(value)));
    let at_least = args.at_least.map(|count| ("at_least".to_owned(), serde_json::Value::from(count)));
    let params = texts.chain(at_least).collect();
    let identity = RunIdentity::new(Mode::Real, invocation.runs.root(), params);
    let plan = prepared.bind(&subject, &identity)?;
    given::tell(&prepared, &plan);
    let carried = invocation.fresh(plan)?;
    invocation.summary(&carried);
    Ok(carried.exit())
}
