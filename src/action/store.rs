//! The store capability: objects under keys, in a folder or a bucket.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::BoxFuture;
use crate::base::Timestamp;

/// The name of an object: parts joined by `/`, none empty, `.` or `..`, no control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectKey(String);

/// The text cannot be an object's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an object key")]
pub struct ParseObjectKeyError(String);

impl ObjectKey {
    /// The key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectKey {
    type Err = ParseObjectKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part_fits =
            |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control);
        if text.len() <= 1024 && text.split('/').all(part_fits) {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseObjectKeyError(text.to_owned()))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What went wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The object is authoritatively not there: the store answered.
    #[error("there is no object `{key}` in store `{store}`")]
    NotFound {
        /// The store.
        store: String,
        /// The key.
        key: String,
    },
    /// The object exists and must not be replaced.
    #[error("object `{key}` exists in store `{store}` with other content")]
    Exists {
        /// The store.
        store: String,
        /// The key.
        key: String,
    },
    /// The store is marked read-only in this environment.
    #[error("store `{store}` is read-only in this environment")]
    ReadOnly {
        /// The store.
        store: String,
    },
    /// The store did not answer or answered with a passing failure.
    #[error("store `{store}` cannot be reached: {what}")]
    Unavailable {
        /// The store.
        store: String,
        /// What was tried.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The store refuses for good: permission, configuration, a damaged object.
    #[error("store `{store}` refuses: {what}")]
    Refused {
        /// The store.
        store: String,
        /// What and why.
        what: String,
    },
}

/// A body that is read once.
pub type ByteStream = Box<dyn tokio::io::AsyncRead + Send + Unpin>;

/// What a store tells of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectFacts {
    /// Its key.
    pub key: ObjectKey,
    /// Size in bytes as stored.
    pub size_bytes: u64,
    /// When it was last written, by the store's clock.
    pub modified_at: Timestamp,
    /// Metadata given when it was put, for example `sha256`. Not filled by `list`.
    pub metadata: BTreeMap<String, String>,
}

/// How an object is put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Refuse with [`StoreError::Exists`] when the key is taken by other content.
    pub if_absent: bool,
    /// Metadata kept beside the object.
    pub metadata: BTreeMap<String, String>,
}

/// What a put did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutOutcome {
    /// Bytes stored.
    pub size_bytes: u64,
    /// SHA-256 of the bytes stored.
    pub sha256: crate::base::Digest,
    /// Whether the same content was there already (only with `if_absent`); it was made durable.
    pub existed: bool,
}

/// The reading half of a store.
pub trait ReadStore: Send + Sync {
    /// The store's name in the inventory.
    fn name(&self) -> &str;
    /// Opens an object from its start.
    fn get(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ByteStream, StoreError>>;
    /// Tells the facts of an object.
    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>>;
    /// Lists every object whose key starts with `prefix`, sorted by key.
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>>;
}

/// A store that may be changed.
pub trait Store: ReadStore {
    /// Stores a body durably: when this returns, the object survives a power cut. All or nothing.
    fn put(
        &self,
        key: &ObjectKey,
        body: ByteStream,
        options: PutOptions,
    ) -> BoxFuture<'_, Result<PutOutcome, StoreError>>;
    /// Removes an object; one that is not there is no error.
    fn delete(&self, key: &ObjectKey) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Gives the reading half.
    fn as_read(&self) -> &dyn ReadStore;
}
