//! What only some stores can: versions, archived classes, locks.

use super::{ObjectKey, PutOutcome, StoreError};
use crate::action::BoxFuture;
use crate::base::Timestamp;
use crate::language::inventory::RetrievalSpeed;

/// One version of an object, or the mark that it was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    /// The key.
    pub key: ObjectKey,
    /// The version's id.
    pub version: String,
    /// When it was made, by the store's clock.
    pub at: Timestamp,
    /// Whether it is what a plain `get` gives.
    pub latest: bool,
    /// Its content; `None` is a delete marker.
    pub size_bytes: Option<u64>,
    /// Its storage class as the store names it, where it says one.
    pub storage_class: Option<String>,
}

/// The reading half of a store that keeps versions.
pub trait ReadVersions: Send + Sync {
    /// Lists every version and delete marker of the keys that begin with `prefix`: by key, newest first.
    fn list_versions(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectVersion>, StoreError>>;
}

/// A store that keeps versions.
pub trait Versions: ReadVersions {
    /// Makes an old version the newest one again, as a copy; nothing is removed.
    fn restore_version(&self, key: &ObjectKey, version: &str) -> BoxFuture<'_, Result<PutOutcome, StoreError>>;
    /// Removes one version for good.
    fn delete_version(&self, key: &ObjectKey, version: &str) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// A store with classes that must be retrieved before they can be read.
pub trait Retrieval: Send + Sync {
    /// Asks for a readable copy that stays for `days`. Asking twice is no error.
    fn retrieve(&self, key: &ObjectKey, speed: RetrievalSpeed, days: u32) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// What keeps a version from being deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Protection {
    /// Until then.
    pub locked_until: Option<Timestamp>,
    /// Until the hold is lifted.
    pub legal_hold: bool,
}

/// A store that can keep versions from being deleted.
pub trait Locks: Send + Sync {
    /// Tells what protects an object.
    fn protection(&self, key: &ObjectKey) -> BoxFuture<'_, Result<Protection, StoreError>>;
    /// Sets or lifts the legal hold.
    fn hold(&self, key: &ObjectKey, hold: Hold) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Extends the time before which it cannot be deleted; it is never shortened.
    fn lock_until(&self, key: &ObjectKey, until: Timestamp) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// A legal hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Set.
    On,
    /// Lifted.
    Off,
}
