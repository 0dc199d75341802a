//! `runbook demo`: a real cluster is destroyed and comes back.
//!
//! Nothing is simulated: initdb, 200 MB of tables, WAL archiving through `runbook wal push`, a base
//! backup by a shipped runbook, more commits, `kill -9` of the server and the removal of its data
//! directory, then the shipped `full-db-loss` by the same code as `runbook run`. The content of every
//! table is hashed before and after.

mod cluster;
mod comparison;
mod content;
mod story;

use super::{Exit, Failure};

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook demo\n  runbook demo --keep      leave cluster and store in place, to look around\n  runbook demo --scale 10  about 20 MB instead of 200"
)]
pub struct Args {
    /// Keep the cluster, the store and the scratch files
    #[arg(long)]
    keep: bool,
    /// How much data, in percent of about 200 MB
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    scale: u32,
    /// The demo's folder, when it goes on from a copy of this program
    #[arg(long, hide = true)]
    home: Option<std::path::PathBuf>,
}

/// Plays the demo.
pub fn run(args: Args) -> Result<Exit, Failure> {
    story::play(&args)
}
