//! The command line: the only composition root. One file per subcommand.
//!
//! Data goes to standard output, everything else to standard error. Exit codes are [`exit::Exit`].

/// Writes a line of data to standard output. A reader that is gone is no failure of ours.
macro_rules! out {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}

/// Writes data to standard output without a newline.
macro_rules! out_part {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stdout(), $($arg)*);
    }};
}

/// Writes a line for people to standard error. A run goes on when its terminal is gone.
macro_rules! tell {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($arg)*);
    }};
}

/// Writes for people to standard error without a newline.
macro_rules! tell_part {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stderr(), $($arg)*);
    }};
}

mod actions;
mod aftermath;
mod again;
mod ahead;
mod amend;
mod approve;
mod args;
mod attest;
mod audit;
mod backup;
mod backups;
mod cancel;
mod capabilities;
mod check;
mod completions;
mod confirm;
mod continue_;
mod cost;
mod demo;
mod deny;
mod diff;
mod doctor;
mod document;
mod drill;
mod dry_run;
mod earlier;
mod evidence;
mod exit;
mod explain;
mod forgetting;
mod freeze;
mod freezes;
mod frozen;
mod given;
mod graph;
mod history;
mod iam;
mod identity;
mod invoke;
mod leases;
mod leftover;
mod library;
mod locking;
mod logs;
mod man;
mod mark_done;
mod notifier;
mod onward;
mod operate;
mod outline;
mod overtaken;
mod pack;
mod pause;
mod pitr;
mod plan;
mod prepare;
mod print;
mod procedure;
mod prompt;
mod proof;
mod reap;
mod recoverable;
mod recovery;
mod rehearsal;
mod report;
mod restart;
mod restore;
mod restored;
mod resume;
mod retry;
mod run;
mod runs;
mod schema;
mod scratch;
mod screen;
mod shelf;
mod show;
mod sighted;
mod signals;
mod site;
mod skip;
mod status;
mod stores;
mod superseded;
mod undo;
mod undone;
mod volume;
mod wal;
mod wal_location;
mod way_out;
mod wiring;

use clap::{Parser, Subcommand};

pub use exit::{Exit, Failure};

/// Runs backup, restore and disaster-recovery procedures written as YAML, and measures them.
#[derive(Debug, Parser)]
#[command(name = "runbook", version, max_term_width = 100, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  runbook check full-db-loss                       is the procedure sound?
  runbook dry-run full-db-loss -p database=orders  would it work right now? (writes nothing)
  runbook drill full-db-loss -p database=orders    prove it beside production, measure RTO and RPO
  runbook run full-db-loss -p database=orders -p incident_at='5m ago' --confirm production
  runbook resume 20260128-143002-3fa9c1            go on after a crash
  runbook status                                   how do the databases stand?
  runbook restore orders --to '14:30 Europe/Berlin'  what would it take? (with --confirm: do it)
  runbook demo                                     watch a destroyed database come back

Exit codes: 0 succeeded, 2 usage, 3 invalid, 4 refused and nothing changed, 5 succeeded with exceptions,
10 failed, 11 an outcome is unknown, 12 cancelled, 13 waits for a person, 14 locked, 15 journal, 16 drill objective";

#[derive(Debug, Subcommand)]
enum Command {
    /// Carry a runbook out, for real
    Run(run::Args),
    /// Find out whether a runbook would work right now; writes nothing anywhere
    DryRun(dry_run::Args),
    /// Carry a runbook out in the `drill` environment and measure it
    Drill(drill::Args),
    /// Tell how the databases stand: server, backups, proofs, forecasts, and what to do next
    Status(status::Args),
    /// Take a base backup of a database
    Backup(backup::Args),
    /// Bring a database back: newest, to a point in time, or to a backup; only plans without --confirm
    Restore(restore::Args),
    /// Show what a run would do, or freeze it into a file that `run` carries out
    Plan(plan::Args),
    /// Compare two runs or plans
    Diff(diff::Args),
    /// Write a runbook as a checklist for paper
    Print(print::Args),
    /// Put everything a runbook needs into one folder, for the day the site is gone
    Pack(pack::Args),
    /// Read a runbook and say everything that is wrong with it
    Check(check::Args),
    /// Explain a diagnostic code
    Explain(explain::Args),
    /// Draw a runbook's steps
    Graph(graph::Args),
    /// List runs, newest first
    Runs(runs::Args),
    /// Show a run, or follow it live
    Show(show::Args),
    /// Show what the steps of a run wrote
    Logs(logs::Args),
    /// Go on with a run after a crash, or answer what it waits for
    Resume(resume::Args),
    /// End a live run: running steps are stopped, `finally` runs
    Cancel(cancel::Args),
    /// Have a live run start nothing new
    Pause(pause::Args),
    /// Have a paused run go on
    Continue(continue_::Args),
    /// Have a step tried again
    Retry(retry::Args),
    /// Leave a step out
    Skip(skip::Args),
    /// Take a step for done
    MarkDone(mark_done::Args),
    /// Approve what a step asks, or say that it is done
    Approve(approve::Args),
    /// Deny what a step asks, or say that it is not done
    Deny(deny::Args),
    /// Reverse what a finished run did: a new run, last step first
    Undo(undo::Args),
    /// List what runs created for a time, and what became of it
    Leases(leases::Args),
    /// Remove what ended runs left behind, and what outlived its time
    Reap(reap::Args),
    /// Show, verify, export and ship the history of runs
    Audit(audit::Args),
    /// List, verify, hold and import backups
    Backups(backups::Args),
    /// Estimate what the stores cost: by class and month, later, and for a restore
    Cost(cost::Args),
    /// Pack a run into one file that anybody can verify, or verify one
    Evidence(evidence::Args),
    /// Print the least that a role needs of the provider: backup, restore, expire, admin, wal
    Iam(iam::Args),
    /// Write the report of a run
    Report(report::Args),
    /// List the actions, or show one
    Actions(actions::Args),
    /// Prove what the site relies on: keys that decrypt, credentials that do what they must and no more
    Doctor(doctor::Args),
    /// Print the JSON schemas that editors complete runbooks with
    Schema(schema::Args),
    /// Destroy a throw-away database and bring it back, in two minutes
    Demo(demo::Args),
    /// Print a shell's completion script
    Completions(completions::Args),
    /// Print the manual page
    Man(man::Args),
    /// Judge, verify and search the archive of WAL; push and fetch are what PostgreSQL calls
    Wal(wal::Args),
    /// Plan a recovery to a point in time; touches nothing
    Pitr(pitr::Args),
}

/// Parses the command line and does what it says.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            let _ = error.print();
            return code.into();
        }
    };
    let result = match cli.command {
        Command::Run(args) => run::run(args),
        Command::DryRun(args) => dry_run::run(args),
        Command::Drill(args) => drill::run(args),
        Command::Status(args) => return status::run(&args),
        Command::Backup(args) => backup::run(args),
        Command::Restore(args) => restore::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Print(args) => print::run(args),
        Command::Pack(args) => pack::run(args),
        Command::Check(args) => check::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Graph(args) => graph::run(args),
        Command::Runs(args) => runs::run(args),
        Command::Show(args) => show::run(args),
        Command::Logs(args) => logs::run(args),
        Command::Resume(args) => resume::run(args),
        Command::Cancel(args) => cancel::run(args),
        Command::Pause(args) => pause::run(args),
        Command::Continue(args) => continue_::run(args),
        Command::Retry(args) => retry::run(args),
        Command::Skip(args) => skip::run(args),
        Command::MarkDone(args) => mark_done::run(args),
        Command::Approve(args) => approve::run(args),
        Command::Deny(args) => deny::run(args),
        Command::Undo(args) => undo::run(args),
        Command::Leases(args) => leases::run(args),
        Command::Reap(args) => reap::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Backups(args) => match backups::run(args) {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
        Command::Cost(args) => cost::run(args),
        Command::Evidence(args) => evidence::run(args),
        Command::Iam(args) => iam::run(args),
        Command::Report(args) => report::run(args),
        Command::Actions(args) => actions::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
        Command::Pitr(args) => pitr::run(&args),
        Command::Wal(args) => match wal::run(args) {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.print();
            failure.exit.into()
        }
    }
}
