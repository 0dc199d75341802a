//! The configuration of push and fetch: one small file, no environment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::WalError;
use crate::base::units::Span;
use crate::language::inventory::StoreEntry;
use crate::pgformat::SystemId;

const LIMIT_BYTES: u64 = 64 << 10;
const DEFAULT_RETRY: Duration = Duration::from_secs(30);

/// Where the WAL of one cluster goes and comes from. YAML, of which JSON is a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The store's URL: `file:///absolute/path`.
    pub store: String,
    /// The prefix of the database inside the store.
    pub prefix: String,
    /// The data directory. Default: the working folder, which is where the server starts its commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgdata: Option<PathBuf>,
    /// The cluster's identity. Default: read from `pg_control`; when both are known they must agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_id: Option<SystemId>,
    /// Folders with WAL that was rescued or came with the base backup; fetch looks there before it gives up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rescue: Vec<PathBuf>,
    /// A file that each outcome is appended to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// How long fetch tries again when the store does not answer. Default 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_for: Option<Span>,
}

impl Config {
    /// A configuration with defaults.
    #[must_use]
    pub fn new(store: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            store: store.into(),
            prefix: prefix.into(),
            pgdata: None,
            system_id: None,
            rescue: Vec::new(),
            log: None,
            retry_for: None,
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
        let config: Self = serde_saphyr::from_str(&text)
            .map_err(|error| bad(error.to_string().lines().next().unwrap_or("not readable").to_owned()))?;
        let relative = config.rescue.iter().chain(&config.pgdata).chain(&config.log).find(|path| path.is_relative());
        match relative {
            Some(path) => Err(bad(format!("the path `{}` is not absolute", path.display()))),
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

    /// The store as an entry of an inventory.
    #[must_use]
    pub fn entry(&self) -> StoreEntry {
        StoreEntry { url: self.store.clone(), ..StoreEntry::default() }
    }

    /// How long fetch tries again.
    #[must_use]
    pub fn retry_for(&self) -> Duration {
        self.retry_for.map_or(DEFAULT_RETRY, |span| span.0)
    }
}
