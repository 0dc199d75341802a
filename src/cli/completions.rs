//! `runbook completions SHELL`.

use clap::CommandFactory;

use super::{Cli, Exit, Failure};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook completions bash >/etc/bash_completion.d/runbook\n  runbook completions zsh >\"${fpath[1]}/_runbook\"\n  runbook completions fish >~/.config/fish/completions/runbook.fish"
)]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

/// Prints the script.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "runbook", &mut script);
    super::document::write(&String::from_utf8_lossy(&script), None)?;
    Ok(Exit::Success)
}
