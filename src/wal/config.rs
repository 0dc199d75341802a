//! The configuration of push and fetch: one small file, no environment.

mod form;
mod otherwise;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::form::Form;
pub use self::otherwise::Otherwise;
pub use self::otherwise::differing_keys;
pub(crate) use self::otherwise::encrypts_otherwise;
use super::WalError;
use crate::base::Digest;
use crate::base::units::Span;
use crate::language::inventory::{SecretEntry, SecretSpec, StoreEntry};
use crate::pgformat::{SegmentName, SystemId, WalFileName};
use crate::vault::{Sources, Vault};

const LIMIT_BYTES: u64 = 64 << 10;
const DEFAULT_RETRY: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
const DEFAULT_AHEAD: u32 = 16;

/// Where the WAL of one cluster goes and comes from. YAML, of which JSON is a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Config {
    /// The store, or the first of several.
    pub store: StoreEntry,
    /// The other stores, where there are several.
    pub further: Vec<StoreEntry>,
    /// In how many of the stores a file must be safe before its push is a success. Default: in all.
    pub at_least: Option<usize>,
    /// The prefix of the database inside the store.
    pub prefix: String,
    /// The secrets that the store's entry names, from files or variables of the server's environment.
    pub secrets: BTreeMap<String, SecretEntry>,
    /// The data directory. Default: the working folder, which is where the server starts its commands.
    pub pgdata: Option<PathBuf>,
    /// The cluster's identity. Default: read from `pg_control`; when both are known they must agree.
    pub system_id: Option<SystemId>,
    /// Folders with WAL that was rescued or came with the base backup; fetch looks there before it gives up.
    pub rescue: Vec<PathBuf>,
    /// A file that each outcome is appended to.
    pub log: Option<PathBuf>,
    /// How long fetch tries again when the store does not answer. Default 30 s.
    pub retry_for: Option<Span>,
    /// The most time a push may take. Default 5 min.
    pub timeout: Option<Span>,
    /// A folder outside the data directory, of the server's user alone: what is pushed and fetched ahead of the
    /// server is noted and kept there. Without it nothing is done ahead.
    pub spool: Option<PathBuf>,
    /// How many segments are pushed or fetched ahead of the server. Default 16; 0 is none.
    pub ahead: Option<u32>,
    /// The restore that this configuration belongs to: what another one fetched ahead is not used.
    pub restore: Option<String>,
    /// A folder of WAL that another program filled, which fetch reads beside the store. Nothing is pushed with it.
    pub location: Option<Location>,
    /// The last segment that a server in recovery is given: what lies behind it, and newer timelines, are absent for it.
    pub through: Option<SegmentName>,
}

/// A folder of WAL that another program filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The store it lies in; it is only read.
    pub store: StoreEntry,
    /// The folder inside it; empty for the whole store.
    pub prefix: String,
}

impl Config {
    /// A configuration with defaults.
    #[must_use]
    pub fn new(store: StoreEntry, prefix: impl Into<String>) -> Self {
        Self {
            store,
            further: Vec::new(),
            at_least: None,
            prefix: prefix.into(),
            secrets: BTreeMap::new(),
            pgdata: None,
            system_id: None,
            rescue: Vec::new(),
            log: None,
            retry_for: None,
            timeout: None,
            spool: None,
            ahead: None,
            restore: None,
            location: None,
            through: None,
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Fails when it cannot be read, is too large, or has unknown or missing keys.
    pub fn load(path: &Path) -> Result<Self, WalError> {
        let bad = |what: String| WalError::Config { path: path.to_owned(), what };
        let file = std::fs::File::open(path).map_err(|error| bad(error.to_string()))?;
        let mut text = String::new();
        let mut limited = std::io::Read::take(file, LIMIT_BYTES + 1);
        std::io::Read::read_to_string(&mut limited, &mut text).map_err(|error| bad(error.to_string()))?;
        if text.len() as u64 > LIMIT_BYTES {
            return Err(bad(format!("longer than {LIMIT_BYTES} bytes")));
        }
        let mut config: Self = serde_saphyr::from_str(&text)
            .map_err(|error| bad(error.to_string().lines().next().unwrap_or("not readable").to_owned()))?;
        let relative = config
            .rescue
            .iter()
            .chain(&config.pgdata)
            .chain(&config.log)
            .chain(&config.spool)
            .find(|path| path.is_relative());
        if let Some(path) = relative {
            return Err(bad(format!("the path `{}` is not absolute", path.display())));
        }
        config.place_secrets(path.parent().unwrap_or(Path::new("")));
        match config.secret_fault() {
            Some(what) => Err(bad(what)),
            None => Ok(config),
        }
    }

    /// Writes the text that [`Self::load`] reads. Store it with mode 0600 and the server's owner.
    ///
    /// # Errors
    /// Fails on a path that is not UTF-8.
    pub fn to_text(&self) -> Result<String, WalError> {
        let bad = |error: serde_json::Error| WalError::Config { path: PathBuf::new(), what: error.to_string() };
        serde_json::to_string_pretty(self).map(|text| text + "\n").map_err(bad)
    }

    /// Files of secrets are named from the configuration's own folder.
    fn place_secrets(&mut self, folder: &Path) {
        for entry in self.secrets.values_mut() {
            let sources = match entry {
                SecretEntry::One(source) => std::slice::from_mut(source),
                SecretEntry::FirstOf(sources) => sources,
            };
            for source in sources {
                if let SecretSpec::File(path) = source {
                    *path = folder.join(&path);
                }
            }
        }
    }

    /// What a server's command cannot have: nobody can be asked, and nothing is run for it.
    fn secret_fault(&self) -> Option<String> {
        for (name, entry) in &self.secrets {
            for source in entry.sources() {
                match source {
                    SecretSpec::Env(_) | SecretSpec::File(_) => {}
                    SecretSpec::Command(_) | SecretSpec::Prompt(_) | SecretSpec::Aws(_) | SecretSpec::Vault(_) => {
                        return Some(format!("secret `{name}`: only `file` and `env` are possible here"));
                    }
                }
            }
        }
        let located = self.location.iter().map(|location| &location.store);
        let mut names = self.stores().chain(located).flat_map(StoreEntry::secret_names);
        let missing = names.find(|name| !self.secrets.contains_key(*name))?;
        Some(format!("the store names the secret `{missing}`, which `secrets` does not have"))
    }

    /// The secrets, ready to be fetched when they are needed.
    #[must_use]
    pub fn vault(&self) -> Arc<Vault> {
        Arc::new(Vault::new(self.secrets.clone(), Sources::unattended()))
    }

    /// Every store, in the order they are written.
    pub fn stores(&self) -> impl Iterator<Item = &StoreEntry> {
        std::iter::once(&self.store).chain(&self.further)
    }

    /// In how many stores a file must be safe.
    #[must_use]
    pub fn at_least(&self) -> usize {
        self.at_least.unwrap_or(1 + self.further.len())
    }

    /// How many segments are done ahead of the server.
    #[must_use]
    pub fn ahead(&self) -> usize {
        self.ahead.unwrap_or(DEFAULT_AHEAD) as usize
    }

    /// Tells whether a file lies behind what the server is given.
    pub(super) fn withholds(&self, name: WalFileName) -> bool {
        let Some(through) = self.through else { return false };
        match name {
            WalFileName::Segment(segment) | WalFileName::PartialSegment(segment) => {
                segment.timeline() > through.timeline() || segment.on(through.timeline()) > through
            }
            WalFileName::History(timeline) => timeline > through.timeline(),
            WalFileName::BackupHistory { .. } => false,
        }
    }

    /// Refuses to be what something is written with: a location is only read.
    pub(super) fn for_writing(&self) -> Result<(), WalError> {
        match self.location {
            None => Ok(()),
            Some(_) => Err(WalError::Usage(
                "the configuration names a `location`, which is only read; push and init need one without it"
                    .to_owned(),
            )),
        }
    }

    /// The most time a push may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(DEFAULT_TIMEOUT, |span| span.0)
    }

    /// Tells one archive from another: what was noted for one says nothing of the other.
    pub(super) fn archive(&self) -> Digest {
        let stores: Vec<&StoreEntry> = self.stores().collect();
        Digest::of(format!("{stores:?} {} {:?}", self.at_least(), self.prefix).as_bytes())
    }

    /// How long fetch tries again.
    #[must_use]
    pub fn retry_for(&self) -> Duration {
        self.retry_for.map_or(DEFAULT_RETRY, |span| span.0)
    }
}
