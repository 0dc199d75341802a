//! The archive of a cluster together with a folder that another program filled, as one store to read.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;

use super::folder::{ForeignFolder, Loaded, Lying};
use super::name::foreign_wal_file;
use crate::action::{
    BoxFuture, ByteStream, Capacity, Encoding, GetOptions, ObjectFacts, ObjectKey, ReadBucket, ReadStore, ReadVersions,
    StoreError,
};
use crate::base::{Digest, Timestamp};
use crate::catalog::{self, cluster_key, packed_wal_key};
use crate::pgformat::{SystemId, WalFileName};
use crate::wal::packed::{ENCODING, PLAIN_SHA256, PLAIN_SIZE, SHA256, SYSTEM_ID};

/// A store in which the WAL of one prefix is what the store has there and what lies in a [`ForeignFolder`]. What both have
/// is read from the store. The digests it tells of the folder's files were made when they were read and proven.
pub struct ForeignArchive {
    own: Arc<dyn ReadStore>,
    prefix: String,
    folder: ForeignFolder,
}

/// What of the archive a key means.
enum Asked {
    /// Whose WAL it is.
    Owner,
    /// One file, under its name in the folder.
    File { system_id: SystemId, name: WalFileName, file: String },
}

impl ForeignArchive {
    /// Puts a folder beside the archive under `prefix` of a store. Touches nothing yet.
    #[must_use]
    pub fn beside(own: Arc<dyn ReadStore>, prefix: &str, folder: ForeignFolder) -> Self {
        Self { own, prefix: prefix.to_owned(), folder }
    }

    fn asked(&self, key: &ObjectKey) -> Option<Asked> {
        let rest = key.as_str().strip_prefix(&self.prefix)?.strip_prefix("/wal/")?;
        if rest == "cluster" {
            return Some(Asked::Owner);
        }
        let mut parts = rest.split('/');
        let (system_id, _, file) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        let (name, ending) = foreign_wal_file(file)?;
        // Only what `list` would tell is there: under its own timeline.
        let told = packed_wal_key(&self.prefix, system_id, name, ending).ok()?;
        (told == *key).then(|| Asked::File { system_id, name, file: file.to_owned() })
    }

    /// Reads what the store itself does not have.
    async fn read(&self, key: &ObjectKey) -> Result<Found, StoreError> {
        match self.asked(key) {
            None => Err(self.not_found(key)),
            Some(Asked::Owner) => self.owner(key).await,
            Some(Asked::File { system_id, name, file }) => {
                let file = self.place(name, file).await?.ok_or_else(|| self.not_found(key))?;
                let loaded = match self.folder.read_joined(&file, system_id).await {
                    Err(StoreError::NotFound { .. }) => return Err(self.not_found(key)),
                    other => other?,
                };
                Ok(Found::of(&loaded, system_id))
            }
        }
    }

    /// Where a file lies in the folder. History and backup files keep their names in the archive, packed or not.
    async fn place(&self, name: WalFileName, file: String) -> Result<Option<String>, StoreError> {
        match name {
            WalFileName::Segment(_) | WalFileName::PartialSegment(_) => Ok(Some(file)),
            WalFileName::History(_) | WalFileName::BackupHistory { .. } => {
                let lying = self.folder.list(&file).await?.into_iter().find(|lying| lying.name == name);
                Ok(lying.map(|lying| format!("{name}{}", lying.ending)))
            }
        }
    }

    /// The cluster's name, which must be the one that the store's own archive is of, where it has one.
    async fn owner(&self, key: &ObjectKey) -> Result<Found, StoreError> {
        let theirs = self.folder.owner().await?;
        match catalog::wal_owner(&*self.own, &self.prefix).await {
            Ok(Some(ours)) if ours != theirs => Err(StoreError::Refused {
                store: self.name().to_owned(),
                what: format!("`{key}` says cluster {ours}, the WAL in `{}` is of {theirs}", self.folder.shown()),
            }),
            Ok(_) => {
                let bytes = Bytes::from(format!("{theirs}\n"));
                let metadata = BTreeMap::from([(SHA256.to_owned(), Digest::of(&bytes).to_string())]);
                Ok(Found { bytes, metadata, modified_at: Timestamp::UNIX_EPOCH })
            }
            Err(catalog::CatalogError::Store(error)) => Err(error),
            Err(error) => Err(StoreError::Refused { store: self.name().to_owned(), what: error.to_string() }),
        }
    }

    /// What `list` tells of the folder.
    async fn listed(&self, prefix: &str) -> Result<Vec<ObjectFacts>, StoreError> {
        let root = format!("{}/wal/", self.prefix);
        if !prefix.starts_with(&root) && !root.starts_with(prefix) {
            return Ok(Vec::new());
        }
        let owner = self.folder.owner().await?;
        let lying = self.folder.list(start(prefix.strip_prefix(&root).unwrap_or_default())).await?;
        let told = lying.into_iter().filter_map(|lying| {
            let key = self.key(owner, &lying)?;
            let Lying { facts, .. } = lying;
            key.as_str().starts_with(prefix).then(|| ObjectFacts::new(key.clone(), facts.size_bytes, facts.modified_at))
        });
        Ok(told.collect())
    }

    fn key(&self, owner: SystemId, lying: &Lying) -> Option<ObjectKey> {
        let ending = match lying.name {
            WalFileName::Segment(_) | WalFileName::PartialSegment(_) => lying.ending.as_str(),
            WalFileName::History(_) | WalFileName::BackupHistory { .. } => "",
        };
        packed_wal_key(&self.prefix, owner, lying.name, ending).ok()
    }

    fn not_found(&self, key: &ObjectKey) -> StoreError {
        StoreError::NotFound { store: self.name().to_owned(), key: key.to_string() }
    }

    fn is_owner(&self, key: &ObjectKey) -> bool {
        cluster_key(&self.prefix).is_ok_and(|owner| owner == *key)
    }
}

/// What the names in the folder must begin with, so that their keys can begin with what follows `PREFIX/wal/`.
fn start(rest: &str) -> &str {
    match rest.split('/').collect::<Vec<_>>().as_slice() {
        [_, "history", name] | [_, _, name] if !name.is_empty() => name,
        [_, "history", _] | [_] | [] => "",
        [_, timeline, ..] => timeline,
    }
}

/// What is told of one object, and its bytes.
struct Found {
    bytes: Bytes,
    metadata: BTreeMap<String, String>,
    modified_at: Timestamp,
}

impl Found {
    /// A file of the folder as one that is stored plain, whatever its name ends in.
    fn of(loaded: &Loaded, system_id: SystemId) -> Self {
        let (bytes, digest) = (loaded.bytes.clone(), Digest::of(&loaded.bytes).to_string());
        let encoding = serde_json::to_string(&Encoding::default()).unwrap_or_default();
        let metadata = [
            (SHA256, digest.clone()),
            (PLAIN_SHA256, digest),
            (PLAIN_SIZE, bytes.len().to_string()),
            (ENCODING, encoding),
            (SYSTEM_ID, system_id.to_string()),
        ];
        let metadata = metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { bytes, metadata, modified_at: loaded.facts.modified_at }
    }

    fn facts(self, key: ObjectKey) -> ObjectFacts {
        let facts = ObjectFacts::new(key, self.bytes.len() as u64, self.modified_at);
        ObjectFacts { metadata: self.metadata, ..facts }
    }

    fn body(self, options: &GetOptions) -> ByteStream {
        let length = self.bytes.len();
        let at = |position: u64| usize::try_from(position).unwrap_or(length).min(length);
        let part = options.range.as_ref().map_or(0..length, |range| at(range.start)..at(range.end));
        Box::new(Cursor::new(self.bytes.slice(part.start.min(part.end)..part.end)))
    }
}

impl ReadStore for ForeignArchive {
    fn name(&self) -> &str {
        self.own.name()
    }

    fn get_with(&self, key: &ObjectKey, options: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        let key = key.clone();
        Box::pin(async move {
            if !self.is_owner(&key) {
                match self.own.get_with(&key, options.clone()).await {
                    Err(StoreError::NotFound { .. }) => {}
                    other => return other,
                }
            }
            self.read(&key).await.map(|found| found.body(&options))
        })
    }

    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
        let key = key.clone();
        Box::pin(async move {
            if !self.is_owner(&key) {
                match self.own.head(&key).await {
                    Err(StoreError::NotFound { .. }) => {}
                    other => return other,
                }
            }
            self.read(&key).await.map(|found| found.facts(key))
        })
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move {
            let mut all = self.own.list(&prefix).await?;
            let known: std::collections::BTreeSet<ObjectKey> = all.iter().map(|facts| facts.key.clone()).collect();
            all.extend(self.listed(&prefix).await?.into_iter().filter(|facts| !known.contains(&facts.key)));
            all.sort_by(|one, other| one.key.cmp(&other.key));
            Ok(all)
        })
    }

    fn capacity(&self) -> BoxFuture<'_, Result<Option<Capacity>, StoreError>> {
        self.own.capacity()
    }

    fn read_versions(&self) -> Option<&dyn ReadVersions> {
        self.own.read_versions()
    }

    fn read_bucket(&self) -> Option<&dyn ReadBucket> {
        self.own.read_bucket()
    }
}
