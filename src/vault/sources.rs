//! The vault: fetches declared secrets once and remembers what must never be shown.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};

use super::miss::Miss;
use super::prompt::{NoPrompt, Prompt};
use super::{aws, command, env, file, hashicorp};
use crate::action::{ActionError, CommandOutput, HostError, Secrets};
use crate::base::redact::{Redactor, SHORTEST_SECRET};
use crate::base::secret::SecretText;
use crate::event::ErrorClass;
use crate::language::inventory::{SecretEntry, SecretSpec};

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
    /// Is told of a source that failed where another one is asked next.
    pub warn: Box<dyn Fn(&ActionError) + Send + Sync>,
}

impl Sources {
    /// Files and the program's own environment, for what a server calls: nobody can be asked, and no command is run.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "where there is no command line, the vault is the home of the environment"
    )]
    pub fn unattended() -> Self {
        let told = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let refused = |argv: &[String]| {
            let program = argv.first().cloned().unwrap_or_default();
            let source = std::io::Error::new(std::io::ErrorKind::Unsupported, "nothing is run here");
            Err(HostError::Spawn { program, source })
        };
        Self {
            environment: std::env::vars_os().filter_map(told).collect(),
            prompt: Box::new(NoPrompt),
            command: Box::new(refused),
            warn: Box::new(|_| {}),
        }
    }
}

/// The secrets of a run.
pub struct Vault {
    specs: BTreeMap<String, SecretEntry>,
    sources: Sources,
    known: Mutex<BTreeMap<String, SecretText>>,
}

impl Vault {
    /// A vault of declared secrets; nothing is fetched yet.
    #[must_use]
    pub fn new(specs: BTreeMap<String, SecretEntry>, sources: Sources) -> Self {
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

    /// Asks one source after the other. What is absent is passed over in silence, what fails is told.
    fn fetch(&self, name: &str) -> Result<SecretText, ActionError> {
        let entry = self.specs.get(name);
        let entry = entry.ok_or_else(|| ActionError::fatal(format!("no secret `{name}` is declared")))?;
        let mut misses = Vec::new();
        for spec in entry.sources() {
            match self.ask(name, spec).and_then(|value| long_enough(name, value)) {
                Ok(value) => {
                    misses.iter().filter(|miss| matches!(miss, Miss::Failed(_))).for_each(|miss| self.warn(miss));
                    return Ok(value);
                }
                Err(miss) => misses.push(miss),
            }
        }
        Err(none_answers(name, misses))
    }

    fn warn(&self, miss: &Miss) {
        match miss {
            Miss::Absent(error) | Miss::Failed(error) => (self.sources.warn)(error),
        }
    }

    fn ask(&self, name: &str, spec: &SecretSpec) -> Result<String, Miss> {
        let environment = &self.sources.environment;
        match spec {
            SecretSpec::Env(variable) => env::fetch(name, variable, environment),
            SecretSpec::File(path) => file::fetch(name, path),
            SecretSpec::Command(argv) => command::fetch(name, argv, &*self.sources.command),
            SecretSpec::Prompt(_) => self.sources.prompt.ask(name).map_err(|error| {
                Miss::absent(format!("secret `{name}`: nobody could be asked"))
                    .because(&error)
                    .help("run it at a terminal, or take the secret from `env`, `file` or `command`")
            }),
            SecretSpec::Aws(secret) => aws::fetch(name, secret),
            SecretSpec::Vault(secret) => hashicorp::fetch(name, secret, environment),
        }
    }
}

fn long_enough(name: &str, value: String) -> Result<SecretText, Miss> {
    let value = SecretText::new(value);
    if value.reveal().len() < SHORTEST_SECRET {
        let message = format!("secret `{name}` is shorter than {SHORTEST_SECRET} bytes, so it could not be masked");
        return Err(Miss::failed(message).help("use a longer secret"));
    }
    Ok(value)
}

/// What is said when no source answers; each of several is named.
fn none_answers(name: &str, misses: Vec<Miss>) -> ActionError {
    let mut errors: Vec<ActionError> = misses.into_iter().map(Miss::into_error).collect();
    if errors.len() == 1 {
        return errors.remove(0);
    }
    let own = format!("secret `{name}`: ");
    let told = |error: &ActionError| {
        let info = error.info();
        let message = info.message.strip_prefix(&own).unwrap_or(&info.message).to_owned();
        std::iter::once(message).chain(info.causes.iter().cloned()).collect::<Vec<_>>().join(": ")
    };
    let tries: Vec<String> = errors.iter().map(told).collect();
    let fact = format!("secret `{name}`: no source has it: {}", tries.join("; "));
    let may_answer = errors.iter().any(|error| error.info().class == ErrorClass::Retryable);
    let error = if may_answer { ActionError::retryable(fact) } else { ActionError::fatal(fact) };
    error.help("any one of its sources is enough")
}

impl Secrets for Vault {
    /// Fetches a secret on first use; blocks while a person or a command answers.
    fn get(&self, name: &str) -> Result<SecretText, ActionError> {
        // Held while it is fetched, so that nobody is asked twice.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = known.get(name) {
            return Ok(value.clone());
        }
        let value = self.fetch(name)?;
        known.insert(name.to_owned(), value.clone());
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
