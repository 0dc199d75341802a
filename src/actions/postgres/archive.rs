//! The WAL archive of a cluster as a recovery needs to see it.

use std::collections::BTreeMap;

use super::readable::Judged;
use crate::action::{ActionError, ReadStore, StoreError, Surroundings};
use crate::base::Timestamp;
use crate::catalog::recovery::Archive;
use crate::catalog::{self, CatalogError};
use crate::pgformat::{SegmentName, SegmentSize, SystemId, WalFileName};
use crate::wal::{Almanac, Identity, Keys, Source, WalError, read_file};

/// Where a cluster's WAL lies.
#[derive(Clone, Copy)]
pub(crate) struct Shelf<'a> {
    /// The store.
    pub(crate) store: &'a dyn ReadStore,
    /// The prefix inside it.
    pub(crate) prefix: &'a str,
    /// The cluster.
    pub(crate) system_id: SystemId,
    /// Its segment size.
    pub(crate) size: SegmentSize,
    /// What encrypted WAL is read with.
    pub(crate) keys: Keys<'a>,
}

/// The keys of a store of the inventory; none where it has no such store.
pub(crate) fn keys<'a>(about: &'a Surroundings, store: &str) -> Keys<'a> {
    Keys { settings: about.inventory.stores.get(store), secrets: about.secrets.as_ref() }
}

impl Shelf<'_> {
    /// Tells whether a segment is there.
    ///
    /// # Errors
    /// Fails when the store gives no answer.
    pub(crate) async fn holds(&self, segment: SegmentName) -> Result<bool, ActionError> {
        let name = WalFileName::Segment(segment);
        let objects = catalog::wal_objects(self.store, self.prefix, self.system_id, name).await;
        objects.map(|found| !found.is_empty()).map_err(|error| broken(&error))
    }

    /// Reads a segment whole, verified and unpacked.
    ///
    /// # Errors
    /// Fails when it is not there, is damaged or cannot be decrypted.
    pub(crate) async fn segment(&self, segment: SegmentName) -> Result<Vec<u8>, ActionError> {
        let read = read_file(&self.source(), WalFileName::Segment(segment)).await;
        read.map_err(|error| unread_segment(segment, &error))
    }

    /// Reads a segment whole, or says what is wrong with it: it is not there, or damaged.
    ///
    /// # Errors
    /// Fails when nothing can be told of it: the store gives no answer, no key fits.
    pub(crate) async fn judge_segment(&self, segment: SegmentName) -> Result<Judged<Vec<u8>>, ActionError> {
        match read_file(&self.source(), WalFileName::Segment(segment)).await {
            Ok(bytes) => Ok(Ok(bytes)),
            Err(error) if error.is_fault() => Ok(Err(error.to_string())),
            Err(error) => Err(unread_segment(segment, &error)),
        }
    }

    /// Lists the names of all that is there.
    ///
    /// # Errors
    /// Fails when the store gives no answer.
    pub(crate) async fn names(&self) -> Result<BTreeMap<WalFileName, Timestamp>, ActionError> {
        let folder = format!("{}/wal/{}/", self.prefix, self.system_id);
        let listed = self.store.list(&folder).await.map_err(|error| failed(&error))?;
        let named = listed.into_iter().filter_map(|facts| {
            let (name, _) = catalog::wal_file_of(facts.key.as_str().rsplit('/').next()?)?;
            Some((name, facts.modified_at))
        });
        Ok(named.collect())
    }

    /// Looks at everything a decision about targets needs.
    ///
    /// # Errors
    /// Fails when the store gives no answer or a history file is damaged.
    pub(crate) async fn view(&self) -> Result<Archive, ActionError> {
        let viewed = catalog::wal_view(self.store, self.prefix, (self.system_id, self.size)).await;
        viewed.map_err(|error| broken(&error))
    }

    /// Finds the newest commit on a path, going back until there is one; `None` when it holds none.
    ///
    /// # Errors
    /// Fails when a segment cannot be read or is damaged.
    pub(crate) async fn newest_commit(&self, path: &[SegmentName]) -> Result<Option<Timestamp>, ActionError> {
        let newest = Almanac::of(self.source(), self.size).newest_commit(path).await;
        newest.map(|newest| newest.map(|commit| commit.at)).map_err(|error| unread(&error))
    }

    /// Reads from the WAL when each timeline was promoted, and how long the ones it left went on.
    ///
    /// # Errors
    /// Fails when a segment cannot be read or is damaged.
    pub(crate) async fn date(&self, archive: &mut Archive) -> Result<(), ActionError> {
        Almanac::of(self.source(), self.size).date(archive).await.map_err(|error| unread(&error))
    }

    /// Where its files are read from.
    fn source(&self) -> Source<'_> {
        let identity = Identity { system_id: self.system_id, segment_size: Some(self.size) };
        Source { store: self.store, prefix: self.prefix, identity, keys: self.keys }
    }
}

fn unread_segment(segment: SegmentName, error: &WalError) -> ActionError {
    let fact = format!("segment `{segment}` of the archive cannot be read");
    let class = if error.is_passing() { ActionError::retryable(fact) } else { ActionError::fatal(fact) };
    class.because(error)
}

fn unread(error: &WalError) -> ActionError {
    let fact = "the archived WAL cannot be read";
    let class = if error.is_passing() { ActionError::retryable(fact) } else { ActionError::fatal(fact) };
    class.because(error)
}

/// A failure of a store as a step's error.
pub(crate) fn failed(error: &StoreError) -> ActionError {
    match error {
        StoreError::Unavailable { .. } => ActionError::retryable("the database's store gives no answer").because(error),
        StoreError::Replaced { .. } => ActionError::retryable(error.to_string()),
        StoreError::Archived { .. } => {
            ActionError::fatal(error.to_string()).help("retrieve it first with `store.retrieve`")
        }
        StoreError::NotFound { .. }
        | StoreError::Exists { .. }
        | StoreError::ReadOnly { .. }
        | StoreError::Refused { .. } => ActionError::fatal(error.to_string()),
    }
}

/// A failure of the catalog as a step's error.
pub(crate) fn broken(error: &CatalogError) -> ActionError {
    if let CatalogError::Torn { .. } = error {
        return ActionError::fatal(error.to_string());
    }
    let message = "the database's catalog cannot be used";
    if error.is_passing() {
        ActionError::retryable(message).because(error)
    } else {
        ActionError::fatal(message).because(error)
    }
}
