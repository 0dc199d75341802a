//! Runs the command that gives a secret, for the vault.

use std::time::Duration;

use super::machine::LocalReader;
use crate::action::{CommandOutput, CommandSpec, HostError};
use crate::base::redact::Redactor;
use crate::host::HostSettings;
use crate::supervisor::Life;

/// Longer than any password manager takes that does not wait for a person.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs commands whose standard output is a secret; nothing they leave running survives.
#[derive(Clone)]
pub struct SecretCommand(LocalReader);

impl SecretCommand {
    /// Runs commands on the engine's own machine.
    #[must_use]
    pub fn new(settings: &HostSettings) -> Self {
        Self(LocalReader::new(settings))
    }

    /// Runs one, blocking.
    ///
    /// # Errors
    /// As a host's `run`; a failing exit code is no error here.
    pub fn run(&self, argv: &[String]) -> Result<CommandOutput, HostError> {
        let (program, args) = argv.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        let mut spec = CommandSpec::new(program).args(args.iter().cloned());
        spec.timeout = Some(LIMIT);
        self.0.launcher().probe_blocking(self.0.task(spec, Life::Probe, &Redactor::default())?)
    }
}
