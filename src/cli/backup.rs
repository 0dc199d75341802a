//! `runbook backup`: the shipped `base-backup` without YAML beyond the inventory.

use super::args::{InventoryArgs, Subject};
use super::invoke::Invocation;
use super::prepare::{self, RunIdentity};
use super::screen::Face;
use super::{Exit, Failure, given, site};
use crate::action::Mode;
use crate::engine::Presence;

/// The shipped runbook that takes a backup.
const RUNBOOK: &str = "base-backup";

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook backup\n  runbook backup orders --confirm production\n\nIt carries the shipped runbook `base-backup` out. Without a name the inventory's only database is meant.\nWhile a recovery of the database is open, a backup that nobody watches is refused (code 4)."
)]
pub struct Args {
    /// The database of the inventory; its only one when absent
    database: Option<String>,
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
    let prepared = prepare::load_runbook(RUNBOOK, &args.inventory)?;
    prepared.demand_sound()?;
    let environment = prepared.environment(Mode::Real, args.environment.as_deref())?;
    let seen = prepared.seen_by(&environment)?;
    let database = site::chosen_database(args.database.as_deref(), &seen)?;
    let subject = Subject {
        runbook: RUNBOOK.to_owned(),
        environment: Some(environment),
        inventory: args.inventory,
        ..Subject::default()
    };
    let mut invocation = Invocation::new(Face::from(args.json), args.confirm)?;
    if args.wait {
        invocation.presence = Presence::SomebodyThere;
    }
    let params = [("database".to_owned(), serde_json::Value::String(database))].into();
    let identity = RunIdentity::new(Mode::Real, invocation.runs.root(), params);
    let plan = prepared.bind(&subject, &identity)?;
    given::tell(&prepared, &plan);
    let carried = invocation.fresh(plan)?;
    invocation.summary(&carried);
    Ok(carried.exit())
}
