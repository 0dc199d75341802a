//! The configuration of push and fetch: one small file, no environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::WalError;
use crate::base::units::Span;
use crate::language::inventory::{SecretEntry, SecretSpec, StoreEntry};
use crate::pgformat::SystemId;
use crate::vault::{Sources, Vault};

const LIMIT_BYTES: u64 = 64 << 10;
const DEFAULT_RETRY: Duration = Duration::from_secs(30);

/// Where the WAL of one cluster goes and comes from. YAML, of which JSON is a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The store: its URL, or an entry as the inventory has them.
    #[serde(with = "place")]
    pub store: StoreEntry,
    /// The prefix of the database inside the store.
    pub prefix: String,
    /// The secrets that the store's entry names, from files or variables of the server's environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretEntry>,
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
    pub fn new(store: StoreEntry, prefix: impl Into<String>) -> Self {
        Self {
            store,
            prefix: prefix.into(),
            secrets: BTreeMap::new(),
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
        let mut config: Self = serde_saphyr::from_str(&text)
            .map_err(|error| bad(error.to_string().lines().next().unwrap_or("not readable").to_owned()))?;
        let relative = config.rescue.iter().chain(&config.pgdata).chain(&config.log).find(|path| path.is_relative());
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
        let missing = self.store.secret_names().into_iter().find(|name| !self.secrets.contains_key(*name))?;
        Some(format!("the store names the secret `{missing}`, which `secrets` does not have"))
    }

    /// The secrets, ready to be fetched when they are needed.
    #[must_use]
    pub fn vault(&self) -> Arc<Vault> {
        Arc::new(Vault::new(self.secrets.clone(), Sources::unattended()))
    }

    /// How long fetch tries again.
    #[must_use]
    pub fn retry_for(&self) -> Duration {
        self.retry_for.map_or(DEFAULT_RETRY, |span| span.0)
    }
}

/// A store is written as its URL alone, or as an entry of the inventory.
mod place {
    use std::fmt;

    use serde::de::value::MapAccessDeserializer;
    use serde::de::{Error, MapAccess, Visitor};
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::language::inventory::StoreEntry;

    struct Either;

    impl<'de> Visitor<'de> for Either {
        type Value = StoreEntry;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the URL of a store, or a store as the inventory has them")
        }

        fn visit_str<E: Error>(self, url: &str) -> Result<StoreEntry, E> {
            Ok(StoreEntry { url: url.to_owned(), ..StoreEntry::default() })
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<StoreEntry, A::Error> {
            let entry = StoreEntry::deserialize(MapAccessDeserializer::new(map))?;
            if entry.url.is_empty() { Err(A::Error::custom("the store has no `url`")) } else { Ok(entry) }
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<StoreEntry, D::Error> {
        from.deserialize_any(Either)
    }

    pub(super) fn serialize<S: Serializer>(entry: &StoreEntry, to: S) -> Result<S::Ok, S::Error> {
        if *entry == (StoreEntry { url: entry.url.clone(), ..StoreEntry::default() }) {
            return to.serialize_str(&entry.url);
        }
        entry.serialize(to)
    }
}
