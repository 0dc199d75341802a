//! `runbook wal`: what the archive of WAL has, for people. What PostgreSQL calls is dispatched before the command
//! line is parsed ([`crate::wal`]).

mod digests;
mod drop_names;
mod give_up;
mod ground;
mod lacking;
mod mend;
mod pg_wal;
mod pruned;
mod replace;
mod search;
mod status;
mod verify;

use std::process::ExitCode;

pub use lacking::{differences, other_keys};
pub use status::standing;

use super::{Exit, Failure};

/// Arguments of `wal`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "PostgreSQL calls:\n  archive_command = '/path/to/runbook wal push --config /etc/runbook/wal.yaml %p'\n  restore_command = '/path/to/runbook wal fetch --config /etc/runbook/wal.yaml %f %p'\n\nPeople and monitoring call:\n  runbook wal status                       is everything archived that must be? one line and one code\n  runbook wal verify orders --digests      is every segment there, and whole?\n  runbook wal mend orders                  copy what only one of several stores has\n  runbook wal give-up orders --timeline 2  the recovery that began it was abandoned\n  runbook wal search orders --drops        when was that table dropped?"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Judge the archiving of WAL: lag, gaps, failures that the server hides
    Status(status::Args),
    /// Find out whether the archive leads on from every backup without a gap
    Verify(verify::Args),
    /// Copy into each store of the WAL what it lacks and another one has
    Mend(mend::Args),
    /// Note that a timeline was abandoned, so that the server it was to replace archives on
    GiveUp(give_up::Args),
    /// Find the transaction that dropped or changed a table, and how to recover to just before it
    Search(search::Args),
    /// Archive one file (archive_command)
    #[command(disable_help_flag = true)]
    Push(Rest),
    /// Deliver one file to a server in recovery (restore_command)
    #[command(disable_help_flag = true)]
    Fetch(Rest),
    /// Prepare a prefix of a store for the WAL of one cluster
    #[command(disable_help_flag = true)]
    Init(Rest),
}

/// Listed for help and completion only.
#[derive(Debug, clap::Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<String>,
}

/// Does what the subcommand says.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Status(args) => Ok(status::run(&args)),
        Command::Verify(args) => verify::run(&args).map(ExitCode::from),
        Command::Mend(args) => mend::run(&args).map(ExitCode::from),
        Command::GiveUp(args) => give_up::run(&args).map(ExitCode::from),
        Command::Search(args) => search::run(&args).map(ExitCode::from),
        Command::Push(_) | Command::Fetch(_) | Command::Init(_) => {
            Err(Failure::new(Exit::Usage, "`wal` is called as `runbook wal push|fetch|init --config FILE …`"))
        }
    }
}
