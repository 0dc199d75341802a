//! The WAL of a cluster as the store has it.

use std::collections::{BTreeMap, BTreeSet};

use super::key::{cluster_key, history_prefix, wal_prefix};
use super::{CatalogError, read_small, read_verified, wal_file_of};
use crate::action::{ObjectFacts, ObjectKey, PutOptions, ReadStore, Store, StoreError};
use crate::base::Digest;
use crate::pgformat::{SegmentName, SegmentSize, SystemId, Timeline, TimelineHistory, WalFileName, is_number_taken};

/// The largest history file that is read.
const HISTORY_LIMIT: u64 = 4 << 20;

/// What the store has of one timeline.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WalListing {
    /// Whole segments with their stored sizes, packed ones included.
    pub segments: BTreeMap<SegmentName, u64>,
    /// Those of them that are there only compressed or encrypted: their stored sizes say nothing.
    pub packed: BTreeSet<SegmentName>,
    /// Unfinished last segments, used by hand only.
    pub partial: BTreeSet<SegmentName>,
}

impl WalListing {
    /// A segment that is there under its own name as well counts as that.
    pub(super) fn add(&mut self, segment: SegmentName, ending: &str, size_bytes: u64) {
        if ending.is_empty() {
            self.packed.remove(&segment);
            self.segments.insert(segment, size_bytes);
        } else if !self.segments.contains_key(&segment) {
            self.packed.insert(segment);
            self.segments.insert(segment, size_bytes);
        }
    }

    /// Tells whether a segment is whole as far as a listing can tell: of the right size, or packed.
    #[must_use]
    pub fn is_whole(&self, segment: SegmentName, size: SegmentSize) -> bool {
        self.packed.contains(&segment) || self.segments.get(&segment) == Some(&size.bytes())
    }
}

/// Lists what the store has of one timeline.
///
/// # Errors
/// Fails when the store does.
pub async fn wal_listing(
    store: &dyn ReadStore,
    prefix: &str,
    system_id: SystemId,
    timeline: Timeline,
) -> Result<WalListing, CatalogError> {
    let folder = wal_prefix(prefix, system_id, timeline);
    Ok(gathered(store.list(&folder).await?, &folder, timeline))
}

/// Lists what the store has of some segments of one timeline, which follow each other: no other names are asked for
/// than those that begin as all of them do.
///
/// # Errors
/// Fails when the store does.
pub async fn wal_listing_of(
    store: &dyn ReadStore,
    prefix: &str,
    system_id: SystemId,
    segments: &[SegmentName],
) -> Result<WalListing, CatalogError> {
    let Some(first) = segments.first() else { return Ok(WalListing::default()) };
    let folder = wal_prefix(prefix, system_id, first.timeline());
    Ok(gathered(listed_of(store, &folder, segments).await?, &folder, first.timeline()))
}

/// Lists the objects of some segments as [`wal_listing_of`] does, each with the segment that it holds.
///
/// # Errors
/// Fails when the store does.
pub async fn wal_keys_of(
    store: &dyn ReadStore,
    prefix: &str,
    system_id: SystemId,
    segments: &[SegmentName],
) -> Result<Vec<(SegmentName, ObjectKey)>, CatalogError> {
    let Some(first) = segments.first() else { return Ok(Vec::new()) };
    let folder = wal_prefix(prefix, system_id, first.timeline());
    let listed = listed_of(store, &folder, segments).await?;
    let of_segment = |facts: ObjectFacts| {
        let Some((WalFileName::Segment(segment), _)) = wal_file_of(facts.key.as_str().strip_prefix(folder.as_str())?)
        else {
            return None;
        };
        segments.binary_search(&segment).is_ok().then_some((segment, facts.key))
    };
    Ok(listed.into_iter().filter_map(of_segment).collect())
}

/// What lies under names that begin as those of all these segments do.
async fn listed_of(
    store: &dyn ReadStore,
    folder: &str,
    segments: &[SegmentName],
) -> Result<Vec<ObjectFacts>, CatalogError> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(Vec::new()) };
    let names = (first.to_string(), last.to_string());
    let shared = names.0.chars().zip(names.1.chars()).take_while(|(one, other)| one == other);
    let shared: String = shared.map(|(one, _)| one).collect();
    Ok(store.list(&format!("{folder}{shared}")).await?)
}

fn gathered(listed: Vec<ObjectFacts>, folder: &str, timeline: Timeline) -> WalListing {
    let mut listing = WalListing::default();
    for facts in listed {
        let name = facts.key.as_str().strip_prefix(folder).unwrap_or_default();
        match wal_file_of(name) {
            Some((WalFileName::Segment(segment), ending)) if segment.timeline() == timeline => {
                listing.add(segment, ending, facts.size_bytes);
            }
            Some((WalFileName::PartialSegment(segment), _)) if segment.timeline() == timeline => {
                listing.partial.insert(segment);
            }
            Some(_) | None => {}
        }
    }
    listing
}

/// Reads every history file of a cluster, verified.
///
/// # Errors
/// Fails when the store does, or when one of them is damaged: then no path may be trusted.
pub async fn histories(
    store: &dyn ReadStore,
    prefix: &str,
    system_id: SystemId,
) -> Result<BTreeMap<Timeline, TimelineHistory>, CatalogError> {
    let folder = history_prefix(prefix, system_id);
    let mut found = BTreeMap::new();
    for facts in store.list(&folder).await? {
        let name = facts.key.as_str().strip_prefix(&folder).unwrap_or_default();
        let Ok(WalFileName::History(timeline)) = name.parse() else { continue };
        let bytes = read_verified(store, &facts.key, HISTORY_LIMIT).await?;
        // Another program than `wal push` may have stored it.
        if is_number_taken(&bytes) {
            continue;
        }
        let history = TimelineHistory::parse(timeline, &String::from_utf8_lossy(&bytes))
            .map_err(|error| CatalogError::Damaged { key: facts.key.to_string(), what: error.to_string() })?;
        found.insert(timeline, history);
    }
    Ok(found)
}

/// Tells whose WAL lies under a prefix; `None` when nothing was ever archived there.
async fn owner(store: &dyn ReadStore, prefix: &str) -> Result<Option<String>, CatalogError> {
    match read_verified(store, &cluster_key(prefix)?, 64).await {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
        Err(CatalogError::Store(StoreError::NotFound { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tells which cluster archives under a prefix; `None` when nothing was ever archived there.
///
/// # Errors
/// Fails when the store does, or what stands there is no cluster's identity.
pub async fn wal_owner(store: &dyn ReadStore, prefix: &str) -> Result<Option<SystemId>, CatalogError> {
    let Some(text) = owner(store, prefix).await? else { return Ok(None) };
    let key = cluster_key(prefix)?.to_string();
    text.parse()
        .map(Some)
        .map_err(|_| CatalogError::Damaged { key, what: format!("`{text}` is no cluster's identity") })
}

/// Makes sure that this is the archive of that cluster, so that what is absent here is absent.
///
/// # Errors
/// Fails with [`CatalogError::OtherCluster`] for another cluster's, and with a passing failure when
/// nothing was ever archived there: the prefix is wrong, or it is too early to say that WAL is absent.
pub async fn check_prefix(store: &dyn ReadStore, prefix: &str, system_id: SystemId) -> Result<(), CatalogError> {
    match owner(store, prefix).await? {
        Some(theirs) if theirs == system_id.to_string() => Ok(()),
        Some(theirs) => Err(CatalogError::OtherCluster { prefix: prefix.to_owned(), theirs, ours: system_id }),
        None => Err(CatalogError::Store(StoreError::Unavailable {
            store: store.name().to_owned(),
            what: format!("no WAL was ever archived under the prefix `{prefix}`"),
            source: std::io::Error::from(std::io::ErrorKind::NotFound),
        })),
    }
}

/// Takes a prefix for the WAL of one cluster, or finds that it is that cluster's already.
///
/// # Errors
/// Fails with [`CatalogError::OtherCluster`] when it belongs to another one.
pub async fn claim_prefix(store: &dyn Store, prefix: &str, system_id: SystemId) -> Result<(), CatalogError> {
    let key = cluster_key(prefix)?;
    let ours = system_id.to_string();
    // Most often it says what it should: then it needs no digest.
    if read_small(store.as_read(), &key, 64).await.is_ok_and(|bytes| bytes.trim_ascii() == ours.as_bytes()) {
        return Ok(());
    }
    loop {
        match owner(store.as_read(), prefix).await? {
            Some(theirs) if theirs == ours => return Ok(()),
            Some(theirs) => {
                return Err(CatalogError::OtherCluster { prefix: prefix.to_owned(), theirs, ours: system_id });
            }
            None => {}
        }
        let text = format!("{ours}\n").into_bytes();
        let metadata = [("sha256".to_owned(), Digest::of(&text).to_string())].into();
        let options = PutOptions { if_absent: true, metadata, ..PutOptions::default() };
        match store.put(&key, Box::new(std::io::Cursor::new(text)), options).await {
            // Somebody else took it in between: look whose it is.
            Ok(_) | Err(StoreError::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
