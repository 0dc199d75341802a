//! The vault: fetches declared secrets once and remembers what must never be shown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::prompt::Prompt;
use super::{command, env, file};
use crate::action::{ActionError, CommandOutput, HostError, Secrets};
use crate::base::redact::{Redactor, SHORTEST_SECRET};
use crate::base::secret::SecretText;
use crate::language::inventory::SecretSpec;

/// Runs a command to its end, blocking; its output must not be shown or kept.
pub type RunCommand = dyn Fn(&[String]) -> Result<CommandOutput, HostError> + Send + Sync;

/// What providers draw from.
pub struct Sources {
    /// The engine's environment, captured at the start.
    pub environment: BTreeMap<String, String>,
    /// Asks a person.
    pub prompt: Box<dyn Prompt>,
    /// Runs a command.
    pub command: Box<RunCommand>,
}

/// The secrets of a run.
pub struct Vault {
    specs: BTreeMap<String, SecretSpec>,
    sources: Sources,
    known: Mutex<BTreeMap<String, SecretText>>,
}

impl Vault {
    /// A vault of declared secrets; nothing is fetched yet.
    #[must_use]
    pub fn new(specs: BTreeMap<String, SecretSpec>, sources: Sources) -> Self {
        Self { specs, sources, known: Mutex::new(BTreeMap::new()) }
    }

    /// Every value fetched so far.
    #[must_use]
    pub fn values(&self) -> Vec<SecretText> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Masks every value fetched so far.
    #[must_use]
    pub fn redactor(&self) -> Arc<Redactor> {
        Arc::new(Redactor::new(self.values()))
    }

    fn fetch(&self, name: &str) -> Result<String, ActionError> {
        let spec = self.specs.get(name);
        let spec = spec.ok_or_else(|| ActionError::fatal(format!("no secret `{name}` is declared")))?;
        match spec {
            SecretSpec::Env(variable) => env::fetch(name, variable, &self.sources.environment),
            SecretSpec::File(path) => file::fetch(name, path),
            SecretSpec::Command(argv) => command::fetch(name, argv, &*self.sources.command),
            SecretSpec::Prompt(_) => self.sources.prompt.ask(name).map_err(|error| {
                ActionError::fatal(format!("secret `{name}`: nobody could be asked"))
                    .because(&error)
                    .help("run it at a terminal, or take the secret from `env`, `file` or `command`")
            }),
        }
    }
}

impl Secrets for Vault {
    /// Fetches a secret on first use; blocks while a person or a command answers.
    fn get(&self, name: &str) -> Result<SecretText, ActionError> {
        // Held while it is fetched, so that nobody is asked twice.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = known.get(name) {
            return Ok(value.clone());
        }
        let value = SecretText::new(self.fetch(name)?);
        if value.reveal().len() < SHORTEST_SECRET {
            let message = format!("secret `{name}` is shorter than {SHORTEST_SECRET} bytes, so it could not be masked");
            return Err(ActionError::fatal(message).help("use a longer secret"));
        }
        known.insert(name.to_owned(), value.clone());
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
