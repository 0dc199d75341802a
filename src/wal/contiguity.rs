//! Proves that the archive has every segment of a path.

use std::collections::BTreeSet;

use super::WalError;
use crate::action::ReadStore;
use crate::catalog::wal_listing;
use crate::pgformat::{Lsn, SegmentName, SegmentSize, SystemId, TimelineHistory};

/// What the archive has of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contiguity {
    /// The first segment looked for.
    pub first: SegmentName,
    /// The last one looked for.
    pub last: SegmentName,
    /// Segments that are absent or have another size.
    pub missing: Vec<SegmentName>,
    /// The position up to which nothing is missing.
    pub reaches: Lsn,
}

impl Contiguity {
    /// Tells whether nothing is missing.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }
}

/// Looks for every segment from the one that holds `from` to the one that holds the byte before `to`, on
/// the path of `history`; where timelines meet inside a segment, the newer timeline's copy counts.
/// Without `to`: up to the newest segment there is on the path.
///
/// # Errors
/// Fails when the store does.
pub async fn contiguity(
    store: &dyn ReadStore,
    archive: (&str, SystemId, SegmentSize),
    history: &TimelineHistory,
    from: Lsn,
    to: Option<Lsn>,
) -> Result<Contiguity, WalError> {
    let (prefix, system_id, size) = archive;
    let mut there: BTreeSet<SegmentName> = BTreeSet::new();
    for span in history.path() {
        let listing = wal_listing(store, prefix, system_id, span.timeline).await?;
        there.extend(listing.segments.keys().filter(|name| listing.is_whole(**name, size)));
    }
    let first = size.number_of(from);
    let on_path = |name: &&SegmentName| history.segment(name.number(size), size) == **name;
    let last = match to {
        Some(to) => size.number_of(Lsn(to.0.saturating_sub(1))),
        None => there.iter().filter(on_path).map(|name| name.number(size)).max().unwrap_or(first),
    };
    let last = last.max(first);
    let wanted = (first..=last).map(|number| history.segment(number, size));
    let missing: Vec<SegmentName> = wanted.filter(|name| !there.contains(name)).collect();
    let reaches = missing.first().map_or_else(|| history.segment(last, size).end(size), |hole| hole.start(size));
    Ok(Contiguity { first: history.segment(first, size), last: history.segment(last, size), missing, reaches })
}
