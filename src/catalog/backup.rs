//! Backups as the store has them: listed, loaded, committed.

use std::collections::BTreeMap;

use super::key::{base_prefix, manifest_key};
use super::{CatalogError, Manifest, read_verified};
use crate::action::{BackupHandle, ObjectKey, PutOptions, ReadStore, Store};
use crate::base::Digest;

/// The largest manifest that is read.
const MANIFEST_LIMIT: u64 = 64 << 20;

/// One backup with a valid manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Backup {
    /// The store it lies in.
    pub store: String,
    /// The prefix it lies under.
    pub prefix: String,
    /// What its manifest says.
    pub manifest: Manifest,
    /// SHA-256 of the manifest's text.
    pub digest: Digest,
}

/// A folder that looks like a backup and is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedBackup {
    /// The key of its manifest.
    pub key: ObjectKey,
    /// What is wrong.
    pub why: String,
}

/// What a prefix holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BackupList {
    /// Backups with a valid manifest, by the end of each, oldest first.
    pub backups: Vec<Backup>,
    /// Manifests that cannot be used.
    pub damaged: Vec<DamagedBackup>,
}

impl Backup {
    /// Returns the handle that steps pass on.
    #[must_use]
    pub fn handle(&self) -> BackupHandle {
        BackupHandle {
            database: self.manifest.source.clone(),
            store: self.store.clone(),
            id: self.manifest.id.clone(),
            kind: self.manifest.kind.clone(),
            manifest: self.digest,
        }
    }

    /// Tells which of its objects the store does not have with the right size.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn missing_objects(&self, store: &dyn ReadStore) -> Result<Vec<String>, CatalogError> {
        missing(store, &self.prefix, &self.manifest).await
    }
}

async fn missing(store: &dyn ReadStore, prefix: &str, manifest: &Manifest) -> Result<Vec<String>, CatalogError> {
    let listed = store.list(&format!("{}{}/", base_prefix(prefix), manifest.id)).await?;
    let sizes: BTreeMap<ObjectKey, u64> = listed.into_iter().map(|facts| (facts.key, facts.size_bytes)).collect();
    let mut missing = Vec::new();
    for object in &manifest.objects {
        if sizes.get(&manifest.key_of(prefix, object)?) != Some(&object.size_bytes) {
            missing.push(object.name.clone());
        }
    }
    Ok(missing)
}

/// Lists the backups under a prefix. Folders without a manifest are no backups and not shown.
///
/// # Errors
/// Fails when the store does; a damaged manifest is no failure but listed as such.
pub async fn list(store: &dyn ReadStore, prefix: &str) -> Result<BackupList, CatalogError> {
    let base = base_prefix(prefix);
    let mut found = BackupList::default();
    for facts in store.list(&base).await? {
        let rest = facts.key.as_str().strip_prefix(&base).unwrap_or_default();
        let Some(id) = rest.strip_suffix("/manifest.json").filter(|id| !id.contains('/')) else { continue };
        match load(store, prefix, id).await {
            Ok(backup) => found.backups.push(backup),
            Err(CatalogError::Damaged { what, .. }) => found.damaged.push(DamagedBackup { key: facts.key, why: what }),
            Err(error) => return Err(error),
        }
    }
    found.backups.sort_by(|a, b| (a.manifest.stopped_at, &a.manifest.id).cmp(&(b.manifest.stopped_at, &b.manifest.id)));
    Ok(found)
}

/// Loads one backup.
///
/// # Errors
/// Fails when it has no manifest or the manifest cannot be used.
pub async fn load(store: &dyn ReadStore, prefix: &str, id: &str) -> Result<Backup, CatalogError> {
    let key = manifest_key(prefix, id)?;
    let bytes = read_verified(store, &key, MANIFEST_LIMIT).await?;
    let damaged = |what: String| CatalogError::Damaged { key: key.to_string(), what };
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| damaged(format!("it cannot be read: {error}")))?;
    if manifest.id != id {
        return Err(damaged(format!("it is the manifest of `{}`", manifest.id)));
    }
    if let Some(fault) = manifest.fault() {
        return Err(damaged(fault));
    }
    Ok(Backup { store: store.name().to_owned(), prefix: prefix.to_owned(), manifest, digest: Digest::of(&bytes) })
}

/// Loads the very backup that was chosen.
///
/// # Errors
/// Fails as [`load`], and when the manifest is not the chosen one any more.
pub async fn open(store: &dyn ReadStore, prefix: &str, handle: &BackupHandle) -> Result<Backup, CatalogError> {
    let backup = load(store, prefix, &handle.id).await?;
    if backup.digest != handle.manifest || backup.manifest.source != handle.database {
        return Err(CatalogError::Changed(handle.id.clone()));
    }
    Ok(backup)
}

/// Makes a backup of stored objects: checks that each is there, then writes the manifest, last.
/// The same manifest again is success.
///
/// # Errors
/// Fails when an object is missing or has another size, or when the id is taken by another backup.
pub async fn commit(store: &dyn Store, prefix: &str, manifest: Manifest) -> Result<Backup, CatalogError> {
    let key = manifest_key(prefix, &manifest.id)?;
    let damaged = |what: String| CatalogError::Damaged { key: key.to_string(), what };
    if let Some(fault) = manifest.fault() {
        return Err(damaged(fault));
    }
    let missing = missing(store.as_read(), prefix, &manifest).await?;
    if !missing.is_empty() {
        return Err(damaged(format!("these objects are missing or have another size: {}", missing.join(", "))));
    }
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| damaged(error.to_string()))?;
    let digest = Digest::of(&text);
    let metadata = [("sha256".to_owned(), digest.to_string())].into();
    let options = PutOptions { if_absent: true, metadata, ..PutOptions::default() };
    store.put(&key, Box::new(std::io::Cursor::new(text)), options).await?;
    Ok(Backup { store: store.name().to_owned(), prefix: prefix.to_owned(), manifest, digest })
}
