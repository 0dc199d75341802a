//! Walks WAL in search of something.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream};

use super::super::change_search::{ChangeSearch, Sighting, Wanted};
use super::{ClusterView, LookError, Recoverable};
use crate::base::Timestamp;
use crate::pgformat::{Lsn, SegmentName, SegmentSize, Timeline, WalWalker, Walked};

/// How many segments are fetched ahead.
const WIDTH: usize = 4;

/// A search along one timeline.
pub struct Hunt {
    walker: WalWalker,
    change_search: ChangeSearch,
    /// The size of segments.
    pub size: SegmentSize,
    /// The number of the last segment that was read.
    pub last: Option<u64>,
    /// How many segments were read.
    pub segments: u64,
    /// From where on WAL was read that only the server has.
    pub beyond: Option<Lsn>,
}

impl Hunt {
    /// Begins a search.
    #[must_use]
    pub fn of(wanted: Wanted, size: SegmentSize) -> Self {
        Self {
            walker: WalWalker::new(size),
            change_search: ChangeSearch::of(wanted),
            size,
            last: None,
            segments: 0,
            beyond: None,
        }
    }

    /// Walks segments in order, archived ones and those that only the server has. Where some are missing, records that
    /// began before them are not seen.
    ///
    /// # Errors
    /// Fails when a segment cannot be read.
    pub async fn along(
        &mut self,
        (found, cluster): (&Recoverable, &ClusterView),
        path: &[SegmentName],
    ) -> Result<(), LookError> {
        let commit_times = &found.commit_times(cluster.system_id, cluster.archive.size);
        let reading = path.iter().copied().map(|name| async move {
            let remnant = found.remnant.as_ref();
            match remnant.filter(|left| !cluster.archive.holds(name) || left.goes_beyond(&cluster.archive, name)) {
                Some(remnant) => (name, Ok(remnant.segment(name))),
                None => (name, commit_times.segment(name).await.map(Some)),
            }
        });
        let mut reading = stream::iter(reading).buffered(WIDTH);
        while let Some((name, bytes)) = reading.next().await {
            if let Some(bytes) = bytes? {
                self.take(name, &bytes);
            }
        }
        Ok(())
    }

    /// Goes on with a segment, wherever it came from. Where one is missing before it, the walk begins anew.
    pub fn take(&mut self, name: SegmentName, bytes: &[u8]) -> Walked {
        let number = name.number(self.size);
        if self.last.is_some_and(|last| last + 1 != number) {
            self.walker = WalWalker::new(self.size);
        }
        let change_search = &mut self.change_search;
        let walked = self.walker.segment(name, bytes, &mut |record| change_search.see(record));
        if walked != Walked::ToTheEnd {
            self.walker = WalWalker::new(self.size);
        }
        self.last = Some(number);
        self.segments += 1;
        walked
    }

    /// The numbers of files that the relations that are looked for may have had before.
    #[must_use]
    pub fn earlier_files(&self) -> BTreeSet<u32> {
        self.change_search.earlier_files()
    }

    /// What was found, between two times where they are given.
    #[must_use]
    pub fn found(&self, between: Option<(Timestamp, Timestamp)>) -> Vec<Sighting> {
        let inside = |sighting: &&Sighting| match (between, sighting.at) {
            (Some((from, to)), Some(at)) => from <= at && at <= to,
            (Some(_) | None, None) | (None, Some(_)) => true,
        };
        self.change_search.found.iter().filter(inside).cloned().collect()
    }
}

/// The segments of a path that can be read, in order.
#[must_use]
pub fn readable(cluster: &ClusterView, timeline: Timeline) -> Vec<SegmentName> {
    let path = cluster.archive.path(timeline);
    let mut all: Vec<SegmentName> = cluster.archive.segments.keys().copied().collect();
    all.retain(|name| path.holds(*name) && cluster.archive.holds(*name));
    all.sort_by_key(|name| name.number(cluster.archive.size));
    all
}
