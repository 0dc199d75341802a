//! Objects: what is told of them, how they are read and put.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{ObjectKey, StoreError};
use crate::base::{Digest, Timestamp};

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
    /// The store's mark of this very content, for [`GetOptions::if_match`]. No digest: never compare it with one.
    pub etag: Option<String>,
    /// Its version, where the store keeps versions. Not filled by `list`.
    pub version: Option<String>,
    /// Its storage class as the store names it, where it has classes.
    pub storage_class: Option<String>,
    /// Whether it can be read now. `list` knows only the class; `head` knows a retrieval too.
    pub availability: Availability,
}

impl ObjectFacts {
    /// The facts every store knows; the others are absent.
    #[must_use]
    pub fn new(key: ObjectKey, size_bytes: u64, modified_at: Timestamp) -> Self {
        Self {
            key,
            size_bytes,
            modified_at,
            metadata: BTreeMap::new(),
            etag: None,
            version: None,
            storage_class: None,
            availability: Availability::Ready,
        }
    }

    /// SHA-256 of the stored bytes, where the object was put with it.
    #[must_use]
    pub fn sha256(&self) -> Option<Digest> {
        self.metadata.get("sha256").and_then(|text| text.parse().ok())
    }
}

/// A content that a writer began and never gave a name: it goes on with it, or it was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The key that it was to get.
    pub key: ObjectKey,
    /// What is stored of it, in bytes.
    pub size_bytes: u64,
    /// When it was last written, by the store's clock; `None` where that cannot be told.
    pub touched_at: Option<Timestamp>,
    /// The store's own name of it.
    pub upload: String,
}

/// Whether an object can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// Now.
    Ready,
    /// After a retrieval that nobody has asked for.
    Archived,
    /// After a retrieval that is under way.
    Retrieving,
    /// Now, from a retrieved copy that expires.
    ReadyUntil(Timestamp),
}

/// How an object is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// These bytes only, counted from 0; the end may lie beyond the object's.
    pub range: Option<Range<u64>>,
    /// This version.
    pub version: Option<String>,
    /// Only the content with this [`ObjectFacts::etag`]; else [`super::StoreError::Replaced`].
    pub if_match: Option<String>,
}

/// What is known of a key that is put.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Seen {
    /// Nobody has looked.
    #[default]
    Nothing,
    /// Nothing lay there.
    Absent,
}

/// How an object is put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Refuse with [`super::StoreError::Exists`] when the key is taken by other content.
    pub if_absent: bool,
    /// What the caller saw under the key a moment ago: a store that cannot refuse by itself need not look once more.
    pub seen: Seen,
    /// Metadata kept beside the object. `sha256` is the digest of the stored bytes: a store that is
    /// given it refuses a body that differs.
    pub metadata: BTreeMap<String, String>,
    /// The size of the body, where it is known: large bodies get large parts.
    pub size_bytes: Option<u64>,
    /// The storage class; default the store's.
    pub storage_class: Option<String>,
    /// Nobody may delete or replace this version before; default as the store's settings say.
    pub locked_until: Option<Timestamp>,
    /// Continue an interrupted upload to the same key: parts that are there with the same content are not sent again.
    pub resume: bool,
}

impl PutOptions {
    /// SHA-256 that the body was announced with.
    ///
    /// # Errors
    /// Fails when the metadata `sha256` is no digest.
    pub fn announced(&self, store: &str) -> Result<Option<Digest>, StoreError> {
        let parse = |text: &String| {
            let what = format!("the metadata `sha256` is no digest but `{text}`");
            text.parse().map_err(|_| StoreError::Refused { store: store.to_owned(), what })
        };
        self.metadata.get("sha256").map(parse).transpose()
    }

    /// Refuses a lock, for a store that has none: nobody shall believe in one.
    ///
    /// # Errors
    /// Fails when one is wanted.
    pub fn lockless(&self, store: &str) -> Result<(), StoreError> {
        match self.locked_until {
            None => Ok(()),
            Some(_) => Err(StoreError::Refused {
                store: store.to_owned(),
                what: "it cannot lock objects; only `s3://` stores can".to_owned(),
            }),
        }
    }

    /// Compares the bytes that came with those that were announced, where they were.
    ///
    /// # Errors
    /// Fails when they differ: nothing of them may become the object then.
    pub fn prove(&self, store: &str, key: &ObjectKey, came: Digest) -> Result<(), StoreError> {
        match self.announced(store)? {
            Some(announced) if announced != came => {
                let what = format!("the bytes for `{key}` have the SHA-256 {came}, announced was {announced}");
                Err(StoreError::Refused { store: store.to_owned(), what })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What a put did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutOutcome {
    /// Bytes stored.
    pub size_bytes: u64,
    /// SHA-256 of the bytes stored.
    pub sha256: Digest,
    /// Whether the same content was there already (only with `if_absent`); it was made durable.
    pub existed: bool,
    /// The version that was made, where the store keeps versions.
    pub version: Option<String>,
}

/// One level of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Objects directly at this level, sorted by key.
    pub objects: Vec<ObjectFacts>,
    /// What the deeper keys begin with, each ending in `/`, sorted.
    pub folders: Vec<String>,
}

impl Listing {
    /// The level that begins with `prefix`, from all objects below it.
    #[must_use]
    pub fn of(prefix: &str, all: Vec<ObjectFacts>) -> Self {
        let mut level = Self::default();
        for facts in all {
            let rest = facts.key.as_str().get(prefix.len()..).unwrap_or_default();
            match rest.split_once('/') {
                Some((folder, _)) => {
                    let folder = format!("{prefix}{folder}/");
                    if level.folders.last() != Some(&folder) {
                        level.folders.push(folder);
                    }
                }
                None => level.objects.push(facts),
            }
        }
        level
    }
}

/// Room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes that can still be stored.
    pub free_bytes: u64,
    /// Bytes of the whole place.
    pub total_bytes: u64,
}
