//! The WAL archive of a cluster as a recovery needs to see it.

use std::collections::{BTreeMap, BTreeSet};

use super::target::{Archive, Branch};
use crate::action::{ActionError, ReadStore, StoreError};
use crate::base::Timestamp;
use crate::catalog::{self, CatalogError};
use crate::pgformat::{SegmentName, SegmentScan, SegmentSize, SystemId, WalFileName};

/// How many segments are read at most to find the newest commit.
const LOOK_BACK: usize = 64;

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
}

impl Shelf<'_> {
    /// Tells whether a segment is there.
    ///
    /// # Errors
    /// Fails when the store gives no answer.
    pub(crate) async fn holds(&self, segment: SegmentName) -> Result<bool, ActionError> {
        let key = catalog::wal_key(self.prefix, self.system_id, WalFileName::Segment(segment));
        match self.store.head(&key.map_err(|error| broken(&error))?).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(failed(&error)),
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
            let name = facts.key.as_str().rsplit('/').next()?.parse().ok()?;
            Some((name, facts.modified_at))
        });
        Ok(named.collect())
    }

    /// Looks at everything a decision about targets needs.
    ///
    /// # Errors
    /// Fails when the store gives no answer or a history file is damaged.
    pub(crate) async fn view(&self) -> Result<Archive, ActionError> {
        let names = self.names().await?;
        let histories = catalog::histories(self.store, self.prefix, self.system_id).await;
        let branches = histories.map_err(|error| broken(&error))?.into_iter().map(|(timeline, history)| {
            let created_at = names.get(&WalFileName::History(timeline)).copied().unwrap_or(Timestamp::MAX);
            (timeline, Branch { history, created_at })
        });
        let segments: BTreeSet<SegmentName> = names
            .keys()
            .filter_map(|name| match name {
                WalFileName::Segment(segment) => Some(*segment),
                WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. } => None,
            })
            .collect();
        Ok(Archive { size: self.size, branches: branches.collect(), segments })
    }

    /// Finds the newest commit up to `last`, going back along `path`; `None` when the segments looked at have none.
    ///
    /// # Errors
    /// Fails when a segment cannot be read or is damaged.
    pub(crate) async fn newest_commit(&self, path: &[SegmentName]) -> Result<Option<Timestamp>, ActionError> {
        for segment in path.iter().rev().take(LOOK_BACK) {
            let key = catalog::wal_key(self.prefix, self.system_id, WalFileName::Segment(*segment));
            let key = key.map_err(|error| broken(&error))?;
            let bytes = catalog::read_verified(self.store, &key, 1 << 30).await.map_err(|error| broken(&error))?;
            let (name, size) = (*segment, self.size);
            let scan = tokio::task::spawn_blocking(move || SegmentScan::of(name, size, &bytes)).await;
            let scan = scan.map_err(|error| ActionError::fatal("reading a segment panicked").because(&error))?;
            if scan.newest_commit.is_some() {
                return Ok(scan.newest_commit);
            }
        }
        Ok(None)
    }
}

/// A failure of a store as a step's error.
pub(crate) fn failed(error: &StoreError) -> ActionError {
    let passing = matches!(error, StoreError::Unavailable { .. });
    let message = "the database's store gives no answer";
    if passing { ActionError::retryable(message).because(error) } else { ActionError::fatal(error.to_string()) }
}

/// A failure of the catalog as a step's error.
pub(crate) fn broken(error: &CatalogError) -> ActionError {
    let message = "the database's catalog cannot be used";
    if error.is_passing() {
        ActionError::retryable(message).because(error)
    } else {
        ActionError::fatal(message).because(error)
    }
}
