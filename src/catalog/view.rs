//! Reads what the model of recoveries needs to know of an archive.

use super::key::history_prefix;
use super::recovery::{Archive, Branch};
use super::{CatalogError, GivenUp, WalListing, histories, wal_file_of, wal_listing};
use crate::action::ReadStore;
use crate::base::Timestamp;
use crate::pgformat::{SegmentSize, SystemId, WalFileName};

/// Looks at the archive of one cluster: every timeline in one listing, and every history file.
///
/// # Errors
/// Fails when the store does, or when a history file is damaged: then no path may be trusted.
pub async fn wal_view(
    store: &dyn ReadStore,
    prefix: &str,
    (system_id, size): (SystemId, SegmentSize),
) -> Result<Archive, CatalogError> {
    let folder = format!("{prefix}/wal/{system_id}/");
    let (mut archive, mut listing) = (Archive::empty(size), WalListing::default());
    let (mut promoted, mut given_up) = (std::collections::BTreeMap::new(), Vec::new());
    for facts in store.list(&folder).await? {
        let name = facts.key.as_str().rsplit('/').next().unwrap_or_default();
        match wal_file_of(name) {
            Some((WalFileName::Segment(segment), ending)) => listing.add(segment, ending, facts.size_bytes),
            Some((WalFileName::PartialSegment(segment), _)) => {
                listing.partial.insert(segment);
            }
            Some((WalFileName::History(timeline), _)) => {
                promoted.insert(timeline, facts.modified_at);
            }
            Some((WalFileName::BackupHistory { .. }, _)) => {}
            None => given_up.extend(GivenUp::of_name(name)),
        }
    }
    archive.add(&listing);
    for (timeline, history) in histories(store, prefix, system_id).await? {
        let created_at = promoted.get(&timeline).copied().unwrap_or(Timestamp::MAX);
        archive.branches.insert(timeline, Branch { history, created_at });
    }
    for GivenUp { timeline, until } in given_up {
        archive.give_up(timeline, until);
    }
    Ok(archive)
}

/// Looks only at where the timelines of a cluster parted. Of one that was given up it is looked as well what is there of it:
/// that tells whether somebody went on with it.
///
/// # Errors
/// Fails as [`wal_view`].
pub async fn wal_branches(
    store: &dyn ReadStore,
    prefix: &str,
    (system_id, size): (SystemId, SegmentSize),
) -> Result<Archive, CatalogError> {
    let (mut archive, folder) = (Archive::empty(size), history_prefix(prefix, system_id));
    for facts in store.list(&folder).await? {
        let name = facts.key.as_str().strip_prefix(&folder).unwrap_or_default();
        if let Some(GivenUp { timeline, until }) = GivenUp::of_name(name) {
            archive.give_up(timeline, until);
        }
    }
    for timeline in archive.given_up.keys().copied().collect::<Vec<_>>() {
        archive.add(&wal_listing(store, prefix, system_id, timeline).await?);
    }
    for (timeline, history) in histories(store, prefix, system_id).await? {
        // When it was promoted plays no part here.
        archive.branches.insert(timeline, Branch { history, created_at: Timestamp::MAX });
    }
    Ok(archive)
}
