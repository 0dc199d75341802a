//! One backup as the store has it: loaded, opened again, committed.

use std::collections::BTreeMap;

use super::attest::Attested;
use super::body::read_manifest;
use super::key::{BackupPlace, prefix_of};
use super::{CatalogError, Manifest, escape, sidecar};
use crate::action::{BackupHandle, ObjectKey, PutOptions, ReadStore, Store, StoreError};
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
    /// What was attested of it since; filled by listings only.
    pub attested: Attested,
    /// Objects that the listing lacks or shows with another size; filled by listings only.
    pub missing: Vec<String>,
}

impl Backup {
    /// Reads a manifest's text and holds it against the key it was found under.
    ///
    /// # Errors
    /// Fails when the text cannot be used, or describes a backup of another place.
    pub fn of(store: &str, key: &ObjectKey, text: &[u8]) -> Result<Self, CatalogError> {
        let damaged = |what: String| CatalogError::Damaged { key: key.to_string(), what };
        let manifest: Manifest =
            serde_json::from_slice(text).map_err(|error| damaged(format!("it cannot be read: {error}")))?;
        if let Some(fault) = manifest.fault() {
            return Err(damaged(fault));
        }
        let Some(prefix) = prefix_of(key.as_str(), &manifest) else {
            let place = BackupPlace::of("", &manifest).folder();
            return Err(damaged(format!("it is the manifest of `{place}`")));
        };
        let (store, digest) = (store.to_owned(), Digest::of(text));
        Ok(Self { store, prefix, manifest, digest, attested: Attested::default(), missing: Vec::new() })
    }

    /// Returns the handle that steps pass on.
    #[must_use]
    pub fn handle(&self) -> BackupHandle {
        BackupHandle {
            database: self.manifest.source.clone(),
            store: self.store.clone(),
            id: self.manifest.id.clone(),
            kind: self.manifest.kind.clone(),
            tier: self.manifest.tier.clone(),
            manifest: self.digest,
            described: None,
        }
    }

    /// A backup of another program, which no manifest in the store describes: what was read of it is its manifest, and
    /// travels in the handle.
    ///
    /// # Errors
    /// Fails when the manifest makes no sense.
    pub fn described(store: &str, manifest: Manifest) -> Result<(Self, BackupHandle), CatalogError> {
        let damaged = |what: String| CatalogError::Damaged { key: manifest.id.clone(), what };
        if let Some(fault) = manifest.fault() {
            return Err(damaged(fault));
        }
        let text = serde_json::to_string(&manifest).map_err(|error| damaged(error.to_string()))?;
        let backup = Self {
            store: store.to_owned(),
            prefix: String::new(),
            manifest,
            digest: Digest::of(text.as_bytes()),
            attested: Attested::default(),
            missing: Vec::new(),
        };
        let handle = BackupHandle { described: Some(text), ..backup.handle() };
        Ok((backup, handle))
    }

    /// Returns where it lies.
    #[must_use]
    pub fn place(&self) -> BackupPlace {
        BackupPlace::of(&self.prefix, &self.manifest)
    }

    /// Names the objects of its folder that have another size than they must.
    pub(super) fn lacks(&self, size_bytes: impl Fn(&ObjectKey) -> Option<u64>) -> Vec<String> {
        let inside = self.manifest.objects.iter().filter(|object| object.key.is_none());
        let lacking = inside.filter(|object| match self.manifest.key_of(&self.prefix, object) {
            Ok(key) => size_bytes(&key) != Some(object.size_bytes),
            Err(_) => true,
        });
        lacking.map(|object| object.name.clone()).collect()
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
    let folder = format!("{}/", BackupPlace::of(prefix, manifest).folder());
    let listed = store.list(&folder).await?;
    let sizes: BTreeMap<ObjectKey, u64> = listed.into_iter().map(|facts| (facts.key, facts.size_bytes)).collect();
    let mut missing = Vec::new();
    for object in &manifest.objects {
        let key = manifest.key_of(prefix, object)?;
        let size_bytes = match &object.key {
            None => sizes.get(&key).copied(),
            Some(_) => match store.head(&key).await {
                Ok(facts) => Some(facts.size_bytes),
                Err(StoreError::NotFound { .. }) => None,
                Err(error) => return Err(error.into()),
            },
        };
        if size_bytes != Some(object.size_bytes) {
            missing.push(object.name.clone());
        }
    }
    Ok(missing)
}

/// Loads one backup. What was attested of it is not read.
///
/// # Errors
/// Fails when it has no manifest or the manifest cannot be used.
pub async fn load(store: &dyn ReadStore, place: &BackupPlace) -> Result<Backup, CatalogError> {
    let key = place.manifest_key()?;
    let bytes = read_manifest(store, &key, MANIFEST_LIMIT).await?;
    let backup = Backup::of(store.name(), &key, &bytes)?;
    if backup.place() != *place {
        let what = format!("it is the manifest of `{}`", backup.place().folder());
        return Err(CatalogError::Damaged { key: key.to_string(), what });
    }
    Ok(backup)
}

/// Reads the manifest that a handle carries.
fn carried(store: &str, handle: &BackupHandle, text: &str) -> Result<Backup, CatalogError> {
    let damaged = |what: String| CatalogError::Damaged { key: handle.id.clone(), what };
    let manifest = serde_json::from_str(text).map_err(|error| damaged(format!("it cannot be read: {error}")))?;
    let (backup, _) = Backup::described(store, manifest)?;
    // Another version may write it with other bytes: those that were chosen count.
    Ok(Backup { digest: Digest::of(text.as_bytes()), ..backup })
}

/// Loads the very backup that was chosen: by its manifest in the store, or by the one that the handle carries.
///
/// # Errors
/// Fails as [`load`], and when the manifest is not the chosen one any more.
pub async fn open(store: &dyn ReadStore, prefix: &str, handle: &BackupHandle) -> Result<Backup, CatalogError> {
    let backup = match &handle.described {
        Some(text) => carried(store.name(), handle, text)?,
        None => load(store, &BackupPlace::new(prefix, (&handle.kind, handle.tier.as_deref()), &handle.id)).await?,
    };
    if backup.digest != handle.manifest || backup.manifest.source != handle.database {
        return Err(CatalogError::Changed(handle.id.clone()));
    }
    Ok(backup)
}

/// Loads the copy of a chosen backup that lies in this store. Each copy has a manifest of its own, since stores pack in
/// their own ways: one in another store than the chosen is found by its place, and must be of the same source.
///
/// # Errors
/// Fails as [`open`].
pub async fn open_copy(store: &dyn ReadStore, prefix: &str, handle: &BackupHandle) -> Result<Backup, CatalogError> {
    if store.name() == handle.store || handle.described.is_some() {
        return open(store, prefix, handle).await;
    }
    let backup = load(store, &BackupPlace::new(prefix, (&handle.kind, handle.tier.as_deref()), &handle.id)).await?;
    if backup.manifest.source != handle.database {
        return Err(CatalogError::Changed(handle.id.clone()));
    }
    Ok(backup)
}

/// Makes a backup of stored objects: checks that each is there, writes the sidecar and the escape hatch,
/// then the manifest, last. The same manifest again is success.
///
/// # Errors
/// Fails when an object is missing or has another size, or when the id is taken by another backup.
pub async fn commit(store: &dyn Store, prefix: &str, manifest: Manifest) -> Result<Backup, CatalogError> {
    let place = BackupPlace::of(prefix, &manifest);
    let key = place.manifest_key()?;
    let damaged = |what: String| CatalogError::Damaged { key: key.to_string(), what };
    if let Some(fault) = manifest.fault() {
        return Err(damaged(fault));
    }
    let missing = missing(store.as_read(), prefix, &manifest).await?;
    if !missing.is_empty() {
        return Err(damaged(format!("these objects are missing or have another size: {}", missing.join(", "))));
    }
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| damaged(error.to_string()))?;
    if vacant(store.as_read(), &key).await? {
        // What a commit that broke off wrote of another attempt is replaced; beside a manifest nothing ever is.
        let sums = sidecar::text(&manifest);
        put(store, &place.key(sidecar::NAME)?, sums.into_bytes(), PutOptions::default()).await?;
        for (name, page) in escape::pages(&place, &manifest) {
            put(store, &place.key(name)?, page.into_bytes(), PutOptions::default()).await?;
        }
    }
    put(store, &key, text.clone(), PutOptions { if_absent: true, ..PutOptions::default() }).await?;
    Backup::of(store.name(), &key, &text)
}

async fn vacant(store: &dyn ReadStore, key: &ObjectKey) -> Result<bool, CatalogError> {
    match store.head(key).await {
        Ok(_) => Ok(false),
        Err(StoreError::NotFound { .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Puts a small object with its digest.
pub(super) async fn put(
    store: &dyn Store,
    key: &ObjectKey,
    text: Vec<u8>,
    options: PutOptions,
) -> Result<(), CatalogError> {
    let metadata = [("sha256".to_owned(), Digest::of(&text).to_string())].into();
    let size_bytes = Some(text.len() as u64);
    let options = PutOptions { metadata, size_bytes, ..options };
    store.put(key, Box::new(std::io::Cursor::new(text)), options).await?;
    Ok(())
}
