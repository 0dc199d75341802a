//! `runbook man`.

use clap::CommandFactory;

use super::{Cli, Exit, Failure};

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  runbook man | man -l -\n  runbook man run | man -l -")]
pub struct Args {
    /// A subcommand; the whole program without
    command: Option<String>,
}

/// Prints a manual page in roff.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let mut command = Cli::command();
    command.build();
    let page = match &args.command {
        None => command,
        Some(name) => command
            .find_subcommand(name)
            .cloned()
            .ok_or_else(|| Failure::new(Exit::Usage, format!("there is no command `{name}`")))?,
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page)
        .render(&mut text)
        .map_err(|error| Failure::new(Exit::Bug, "the manual page cannot be made").because(&error))?;
    super::document::write(&String::from_utf8_lossy(&text), None)?;
    Ok(Exit::Success)
}
