//! `runbook status`: how the databases stand, on one screen: at three in the morning this is looked at first.

mod advice;
mod gather;
mod kept;
mod past;
mod readable;
mod show;
mod undumped;

use std::process::ExitCode;

use super::args::InventoryArgs;
use super::site::{self, Site};
use super::{Exit, Failure, document};
use crate::catalog::health::Level;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook status\n  runbook status orders\n  runbook status --json | jq '.[] | {database, level, next}'\n\nOf each database: whether its server answers, how far its archive is behind, its newest backup and the last proof that one restores, the last drill, the forecast of a recovery against its RTO, recoveries that are open, runs that wait, and what to do next.\nNothing is changed. A store or a server that does not answer is told and does not hide the rest: of the backups and the WAL the other stores of the database tell. The inventory is held against the server that answers: an entry that is wrong about it comes first.\nCode 0: all is well, 1: something is to be done (a drill or a backup is overdue, a run waits), 2: critical (the server does not answer or is not the one of the inventory, the RPO is missed, no sound backup, no dump of the entry's own database of a managed server, no recovery can be planned), 3: unknown, for example because the store gave no answer. `level` in JSON says the same of each database."
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

/// Tells how the databases stand, and by its code whether a person is needed. Whatever goes wrong is code 3: monitoring has
/// no other word for it.
pub fn run(args: &Args) -> ExitCode {
    let level = args.tell().unwrap_or_else(|failure| {
        failure.print();
        Level::Unknown
    });
    ExitCode::from(level.code())
}

impl Args {
    fn tell(&self) -> Result<Level, Failure> {
        let site = Site::read(&self.inventory, self.environment.as_deref(), self.json.into())?;
        let names: Vec<String> = match &self.database {
            Some(name) => vec![site::chosen_database(Some(name), &site.inventory)?],
            None => site.inventory.databases.keys().cloned().collect(),
        };
        if names.is_empty() {
            return Err(Failure::new(Exit::Usage, "the inventory has no database").help(site::NO_DATABASE));
        }
        let mut all = Vec::new();
        for name in &names {
            all.push(gather::of(name, &site, &self.inventory)?);
        }
        match self.json {
            true => document::write_json(&all)?,
            false => all.iter().for_each(|status| show::print(status, &site.again)),
        }
        Ok(all.iter().fold(Level::Ok, |worst, status| worst.worse(status.level)))
    }
}
