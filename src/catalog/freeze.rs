//! Freezes: while a real recovery from what lies under a prefix is open, nothing of it is pruned or moved, and nobody's
//! timer adds to it (facts 2.10.22).
//!
//! The note lies beside the backups: whoever would prune them finds it, from whatever machine, environment and inventory.
//! It is never removed, only lifted, so that it can be written where nothing may be deleted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attest::Lifted;
use super::backup::put;
use super::key::family_prefix;
use super::{CatalogError, read_small};
use crate::action::{ObjectKey, PutOptions, ReadStore, Store, StoreError};
use crate::base::Timestamp;

/// The folder of freezes under a prefix.
const FOLDER: &str = "freeze";
/// What stands for what a note that cannot be read would say.
const UNKNOWN: &str = "unknown";
/// The largest note that is read.
const NOTE_LIMIT: u64 = 1 << 20;

/// A recovery that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FreezeNote {
    /// The version of this format.
    pub format: u32,
    /// The run that recovers.
    pub run: String,
    /// The database, by the name that run gives it.
    pub database: String,
    /// The environment that it is in.
    pub environment: String,
    /// Since when.
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// The machine that the run was on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Who said that it is over, when and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted: Option<Lifted>,
}

/// A freeze with the prefix that it lies under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// What the keys of everything frozen begin with.
    pub prefix: String,
    /// The store it lies in.
    pub store: String,
    /// The recovery.
    pub note: FreezeNote,
}

impl FreezeNote {
    /// Whether a backup that was begun at a moment makes up for what this recovery replaces: one that froze later may read
    /// older ones, and nothing tells when one did whose note cannot be read.
    #[must_use]
    pub fn is_over_with(&self, begun_at: Timestamp) -> bool {
        self.database != UNKNOWN && self.since <= begun_at
    }
}

impl Freeze {
    /// What is frozen, and by which recovery.
    #[must_use]
    pub fn fact(&self) -> String {
        let FreezeNote { run, database, since, host, .. } = &self.note;
        let host = host.as_ref().map(|host| format!(" on `{host}`")).unwrap_or_default();
        let place = if self.prefix.is_empty() { "everything".to_owned() } else { format!("`{}`", self.prefix) };
        format!(
            "{place} in store `{}` is frozen: a recovery of `{database}` is open since {since}, run `{run}`{host}",
            self.store
        )
    }

    /// Where its note lies.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}{}.json", family_prefix(&self.prefix, FOLDER), self.note.run)
    }

    /// How it is lifted.
    #[must_use]
    pub fn help(&self) -> String {
        let FreezeNote { run, database, environment, .. } = &self.note;
        let shown = format!(
            "until then `runbook show {run}`, on the machine where it began, says how it stands and what goes on with it"
        );
        if database == UNKNOWN {
            return format!(
                "its note `{}` cannot be read; when that recovery is over, lift the freeze: `runbook run lift-freeze \
                 -p database=DATABASE -p reason=… --confirm ENVIRONMENT`, with the database whose prefix is `{}`; {shown}",
                self.key(),
                self.prefix
            );
        }
        format!(
            "when it is over, lift the freeze: `runbook run lift-freeze -e {environment} -p database={database} -p reason=… \
             --confirm {environment}`; {shown}"
        )
    }
}

/// Freezes what lies under a prefix. What the same run has frozen stays as it is.
///
/// # Errors
/// Fails when the store does.
pub async fn freeze(store: &dyn Store, prefix: &str, note: &FreezeNote) -> Result<(), CatalogError> {
    let text = format!("{}{}.json", family_prefix(prefix, FOLDER), note.run);
    let key: ObjectKey = text.parse().map_err(|_| CatalogError::Key(text))?;
    match read(store.as_read(), &key).await {
        Ok(known) if known.lifted.is_none() => Ok(()),
        Ok(_) | Err(CatalogError::Store(StoreError::NotFound { .. })) => write(store, &key, note).await,
        Err(error) => Err(error),
    }
}

/// Lists the freezes under a prefix that nobody lifted. One that cannot be read counts.
///
/// # Errors
/// Fails when the store gives no answer.
pub async fn frozen(store: &dyn ReadStore, prefix: &str) -> Result<Vec<Freeze>, CatalogError> {
    let listed = match store.list(&family_prefix(prefix, FOLDER)).await {
        Err(error) if error.is_unborn() => return Ok(Vec::new()),
        listed => listed?,
    };
    open(store, listed.into_iter().map(|facts| facts.key)).await
}

/// Lists the freezes of whatever a prefix of keys is about: those of the places it lies in, and those below it.
///
/// # Errors
/// Fails as [`frozen`].
pub async fn frozen_around(store: &dyn ReadStore, prefix: &str) -> Result<Vec<Freeze>, CatalogError> {
    let mut found = Vec::new();
    let above = prefix.match_indices('/').map(|(at, _)| &prefix[..at]);
    for place in std::iter::once("").chain(above) {
        found.extend(frozen(store, place).await?);
    }
    let below = match store.list(prefix).await {
        Err(error) if error.is_unborn() => return Ok(found),
        listed => listed?,
    };
    found.extend(open(store, below.into_iter().map(|facts| facts.key)).await?);
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|freeze| seen.insert((freeze.prefix.clone(), freeze.note.run.clone())));
    Ok(found)
}

/// What a thaw came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Thawed {
    /// The runs whose freezes were lifted.
    pub runs: Vec<String>,
    /// The freezes that stay.
    pub left: Vec<Freeze>,
}

/// Lifts the freezes under a prefix that are to go, on record.
///
/// # Errors
/// Fails when the store does.
pub async fn thaw(
    store: &dyn Store,
    prefix: &str,
    lifted: &Lifted,
    goes: impl Fn(&FreezeNote) -> bool + Send + Sync,
) -> Result<Thawed, CatalogError> {
    let mut thawed = Thawed::default();
    for freeze in frozen(store.as_read(), prefix).await? {
        if !goes(&freeze.note) {
            thawed.left.push(freeze);
            continue;
        }
        let text = freeze.key();
        let key: ObjectKey = text.parse().map_err(|_| CatalogError::Key(text))?;
        thawed.runs.push(freeze.note.run.clone());
        write(store, &key, &FreezeNote { lifted: Some(lifted.clone()), ..freeze.note }).await?;
    }
    Ok(thawed)
}

/// Lifts the freeze that one run has put on a prefix, on record; tells whether there was one.
///
/// # Errors
/// Fails when the store does.
pub async fn thaw_of(store: &dyn Store, prefix: &str, run: &str, lifted: &Lifted) -> Result<bool, CatalogError> {
    let thawed = thaw(store, prefix, lifted, |note| note.run == run).await?;
    Ok(!thawed.runs.is_empty())
}

async fn open(
    store: &dyn ReadStore,
    keys: impl Iterator<Item = ObjectKey> + Send,
) -> Result<Vec<Freeze>, CatalogError> {
    let mut found = Vec::new();
    for key in keys {
        let Some((prefix, run)) = place_of(key.as_str()) else { continue };
        let note = match read(store, &key).await {
            Ok(note) if note.lifted.is_some() => continue,
            Ok(note) => note,
            Err(CatalogError::Damaged { .. }) => unreadable(run),
            Err(CatalogError::Store(StoreError::NotFound { .. })) => continue,
            Err(error) => return Err(error),
        };
        found.push(Freeze { prefix: prefix.to_owned(), store: store.name().to_owned(), note });
    }
    Ok(found)
}

/// The prefix that a freeze lies under, and its run; `None` for any other key.
fn place_of(key: &str) -> Option<(&str, &str)> {
    let (folder, name) = key.rsplit_once('/')?;
    let prefix = folder.strip_suffix(FOLDER)?;
    let prefix = if prefix.is_empty() { prefix } else { prefix.strip_suffix('/')? };
    Some((prefix, name.strip_suffix(".json")?))
}

async fn read(store: &dyn ReadStore, key: &ObjectKey) -> Result<FreezeNote, CatalogError> {
    let text = read_small(store, key, NOTE_LIMIT).await?;
    let damaged = |error: serde_json::Error| CatalogError::Damaged { key: key.to_string(), what: error.to_string() };
    serde_json::from_slice(&text).map_err(damaged)
}

async fn write(store: &dyn Store, key: &ObjectKey, note: &FreezeNote) -> Result<(), CatalogError> {
    let damaged = |error: serde_json::Error| CatalogError::Damaged { key: key.to_string(), what: error.to_string() };
    put(store, key, serde_json::to_vec_pretty(note).map_err(damaged)?, PutOptions::default()).await
}

fn unreadable(run: &str) -> FreezeNote {
    FreezeNote {
        format: 1,
        run: run.to_owned(),
        database: UNKNOWN.to_owned(),
        environment: UNKNOWN.to_owned(),
        since: Timestamp::UNIX_EPOCH,
        host: None,
        lifted: None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Freeze, place_of, unreadable};

    #[test]
    fn a_note_that_cannot_be_read_says_which_prefix_must_be_lifted() {
        let freeze = Freeze { prefix: "main".into(), store: "vault".into(), note: unreadable("20260128-1") };
        let help = freeze.help();
        assert!(help.contains("`main/freeze/20260128-1.json` cannot be read"), "{help}");
        assert!(help.contains("-p database=DATABASE") && help.contains("whose prefix is `main`"), "{help}");
        assert!(!help.contains("unknown"), "{help}");
    }

    #[test]
    fn a_freeze_is_known_by_its_place() {
        assert_eq!(place_of("prod/orders/freeze/20260128-1.json"), Some(("prod/orders", "20260128-1")));
        assert_eq!(place_of("freeze/20260128-1.json"), Some(("", "20260128-1")));
        for other in ["orders/antifreeze/x.json", "orders/freeze/x", "orders/base/x/manifest.json", "x.json"] {
            assert_eq!(place_of(other), None, "{other}");
        }
    }
}
