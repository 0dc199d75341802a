//! `doctor --keys`: the newest backups that lie in a store, tried with its keys. The canary tells of what is written now, and
//! a wrong password reads what it has written itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::io::{AsyncReadExt as _, sink};

use crate::action::ReadStore;
use crate::actions::postgres::stores::readable::expected;
use crate::catalog::{self, Backup, Catalog, CatalogError, ManifestObject};
use crate::cli::site::Site;
use crate::language::inventory::Encryption;
use crate::transfer::{TransferError, Unpacking, download};

/// An object up to this size is read whole: some ciphers show only at the end that a password is wrong.
const WHOLE_BYTES: u64 = 16 << 20;

/// The newest encrypted backup of something.
#[derive(Debug, Serialize)]
pub struct Kept {
    /// Its id.
    pub backup: String,
    /// What it is of.
    pub source: String,
    /// Whether the keys here read it.
    pub readable: bool,
    /// Why they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Of one that they do not read: another store whose copy of it is read here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<String>,
}

/// What came of trying the newest backups of a store.
#[derive(Debug, Default)]
pub struct Trials {
    /// Those that could be read, each with whether the keys fit.
    pub kept: Vec<Kept>,
    /// Those that could not be read now, and why.
    pub unread: Vec<String>,
}

/// Tries the keys on the newest encrypted backup of everything that lies in the store.
///
/// # Errors
/// Fails, in words, when the store cannot be looked into.
pub async fn try_newest(
    site: &Site,
    (name, store): (&str, &dyn ReadStore),
    how: &Encryption,
) -> Result<Trials, String> {
    let listed = Catalog::of(store).everything().await.map_err(|error| words(&error))?;
    let mut newest: BTreeMap<(String, String), &Backup> = BTreeMap::new();
    for backup in listed.backups.iter().filter(|backup| smallest(backup).is_some()) {
        let of = (backup.prefix.clone(), backup.manifest.source.clone());
        let known = newest.entry(of).or_insert(backup);
        if known.manifest.stopped_at < backup.manifest.stopped_at {
            *known = backup;
        }
    }
    let mut trials = Trials::default();
    for backup in newest.into_values() {
        let why = match tried(site, (store, backup), Some(how)).await {
            Ok(()) => None,
            Err(Tried::Unfit(why)) => Some(why),
            Err(Tried::Unread(why)) => {
                trials.unread.push(format!("backup `{}`: {why}", backup.manifest.id));
                continue;
            }
        };
        let (id, source) = (backup.manifest.id.to_string(), backup.manifest.source.clone());
        let elsewhere = if why.is_some() { elsewhere(site, name, backup).await } else { None };
        trials.kept.push(Kept { backup: id, source, readable: why.is_none(), why, elsewhere });
    }
    Ok(trials)
}

/// Another store whose copy of a backup is read with what is here.
async fn elsewhere(site: &Site, own: &str, backup: &Backup) -> Option<String> {
    for (name, entry) in site.inventory.stores.iter().filter(|(name, _)| *name != own) {
        let Ok(store) = site.read_store(name) else { continue };
        let Ok(copy) = catalog::open_copy(store.as_ref(), &backup.prefix, &backup.handle()).await else { continue };
        let is_whole = copy.missing_objects(store.as_ref()).await.is_ok_and(|missing| missing.is_empty());
        if is_whole && tried(site, (store.as_ref(), &copy), entry.encryption.as_ref()).await.is_ok() {
            return Some(name.clone());
        }
    }
    None
}

/// Why nothing came of a trial.
enum Tried {
    /// What lies there does not open with these keys, or is damaged.
    Unfit(String),
    /// It cannot be read now: it is archived, gone, or its store gives no answer.
    Unread(String),
}

impl From<TransferError> for Tried {
    fn from(error: TransferError) -> Self {
        let words = super::keys::chain(&error);
        match error {
            TransferError::Store(_) => Self::Unread(words),
            TransferError::Key(_)
            | TransferError::Damaged { .. }
            | TransferError::WrongKey { .. }
            | TransferError::Io { .. }
            | TransferError::Settings(_) => Self::Unfit(words),
        }
    }
}

/// The encrypted object of a backup that is read fastest.
fn smallest(backup: &Backup) -> Option<&ManifestObject> {
    let encrypted = backup.manifest.objects.iter().filter(|object| object.encoding.encryption.is_some());
    encrypted.min_by_key(|object| object.size_bytes)
}

async fn tried(site: &Site, (store, backup): (&dyn ReadStore, &Backup), how: Option<&Encryption>) -> Result<(), Tried> {
    let Some(object) = smallest(backup) else { return Ok(()) };
    let key = backup.manifest.key_of(&backup.prefix, object).map_err(|error| Tried::Unread(words(&error)))?;
    let unpacking = Unpacking::of(&object.encoding, how, &*site.vault)?;
    let expected = expected(object);
    if object.size_bytes <= WHOLE_BYTES {
        let read = download((store, &key), &unpacking, expected, &mut sink(), Arc::new(|_| {})).await;
        return Ok(read.map(drop)?);
    }
    let body = store.get(&key).await.map_err(TransferError::Store)?;
    let read = unpacking.open(body, expected).read(&mut [0; 1]).await;
    Ok(read.map(drop).map_err(|error| TransferError::of_reading(&object.name, error))?)
}

fn words(error: &CatalogError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}
