//! `runbook backups`: what the stores hold, and what is known of it.

mod erase_ledger;
pub mod expected;
mod health;
mod hold;
mod import;
mod init;
mod ledger_copy;
mod list;
mod map;
pub mod open_store;
mod prove;
mod prune;
mod row;
mod show;
mod stanza;
mod verify;

use std::process::ExitCode;

use super::Failure;

pub use list::table;

/// Arguments of `backups`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook backups list --source orders\n  runbook backups show 20260128T143002Z-base\n  runbook backups verify --all --budget 50GB\n  runbook backups hold 20260128T143002Z-base --reason 'case 4711'\n\nStores and databases are those of the inventory; `--store file:///absolute/path` looks into any other place."
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the backups of the stores, newest first
    List(list::Args),
    /// Show which moments can be recovered, with the gaps between them and their reasons
    Map(map::Args),
    /// Show all that is known of one backup
    Show(show::Args),
    /// Read backups and find out whether they hold
    Verify(verify::Args),
    /// Make the folders of stores stores, once, so that an unmounted disk is never taken for an empty one
    Init(init::Args),
    /// Take dumps that another program made into the catalog, where they lie
    Import(import::Args),
    /// Keep beside a backup that a run restored and checked it
    Prove(prove::Args),
    /// Keep a backup whatever retention says, or stop keeping it
    Hold(hold::Args),
    /// Judge the backups by what is expected of them: one line and one code for monitoring
    Health(health::Args),
    /// Keep what restores must forget again, as keyed hashes
    EraseLedger(erase_ledger::Args),
    /// Remove what no rule of the inventory keeps: the plan first, then that very plan
    Prune(prune::Args),
}

/// Does what the subcommand says.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let exit = match args.command {
        Command::List(args) => list::run(&args),
        Command::Map(args) => map::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Prove(args) => prove::run(&args),
        Command::Hold(args) => hold::run(&args),
        Command::Health(args) => return Ok(health::run(&args)),
        Command::EraseLedger(args) => erase_ledger::run(&args),
        Command::Prune(args) => prune::run(&args),
    };
    exit.map(ExitCode::from)
}
