//! `runbook audit`: show, verify, export and ship the history.

mod export;
mod ship;
mod show;
mod verify;

pub use verify::signed;

use super::{Exit, Failure};

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook audit show last\n  runbook audit verify all --allowed-signers signers\n  runbook audit export --since 30d --format csv -o events.csv\n  runbook audit ship --to offsite\n\nHow to verify a history without this program: docs/audit.md"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show every event of a run, one a line
    Show(show::Args),
    /// Verify that runs are whole and unaltered
    Verify(verify::Args),
    /// Write the events of all runs as JSON lines or CSV, verified while they are written
    Export(export::Args),
    /// Copy ended runs and the ledger into a store
    Ship(ship::Args),
}

/// Does what the subcommand says.
pub fn run(args: Args) -> Result<Exit, Failure> {
    match args.command {
        Command::Show(args) => show::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Export(args) => export::run(args),
        Command::Ship(args) => ship::run(args),
    }
}
