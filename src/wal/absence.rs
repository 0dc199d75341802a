//! Judges a segment that is not in the archive: the end of the WAL, or a hole.
//!
//! The difference decides whether a server that recovers may believe that nothing follows. A hole is
//! never the end: the server would open without what comes after it.

use std::collections::BTreeMap;

use super::{Identity, WalError};
use crate::action::ReadStore;
use crate::base::Timestamp;
use crate::catalog::recovery::{self, Base, Branch, Requirement};
use crate::catalog::{self, Catalog, KIND_POSTGRES_BASE, PostgresFacts, WalListing};
use crate::pgformat::{Lsn, SegmentName, SegmentSize, Timeline, TimelineHistory, WAL_PAGE_BYTES, WalFileName};

/// The longest header of a page of WAL: that of a segment's first one.
const PAGE_HEADER_BYTES: u64 = 40;

/// What is known of a cluster's archive around one timeline.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Archive {
    /// What there is of the timeline.
    pub listing: WalListing,
    /// Every history file.
    pub histories: BTreeMap<Timeline, TimelineHistory>,
    /// The cluster's backups.
    pub backups: Vec<PostgresFacts>,
}

/// What the absence of a segment means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// Nothing later is known on any path through its timeline.
    End,
    /// It existed, or must have: why.
    Hole(Requirement),
}

impl Archive {
    /// Reads what is needed to judge a segment of `timeline`.
    pub(super) async fn read(
        store: &dyn ReadStore,
        prefix: &str,
        identity: &Identity,
        timeline: Timeline,
    ) -> Result<Self, WalError> {
        let system_id = identity.system_id;
        catalog::check_prefix(store, prefix, system_id).await?;
        let list = Catalog::of(store).manifests(prefix, KIND_POSTGRES_BASE).await?;
        let facts = list.backups.into_iter().filter_map(|backup| backup.manifest.postgres);
        Ok(Self {
            listing: catalog::wal_listing(store, prefix, system_id, timeline).await?,
            histories: catalog::histories(store, prefix, system_id).await?,
            backups: facts.filter(|facts| facts.system_id == system_id).collect(),
        })
    }

    /// Judges the absence of `segment`.
    #[must_use]
    pub fn judge(&self, segment: SegmentName, size: SegmentSize) -> Absence {
        let mut archive = recovery::Archive::empty(size);
        archive.add(&self.listing);
        // When a timeline was promoted plays no part here.
        let created_at = Timestamp::MAX;
        let branch = |history: &TimelineHistory| Branch { history: history.clone(), created_at };
        archive.branches = self.histories.iter().map(|(timeline, history)| (*timeline, branch(history))).collect();
        let bases = self.backups.iter().map(|facts| Base {
            timeline: facts.timeline,
            start: facts.start_lsn,
            stop: facts.stop_lsn,
            ended_at: Timestamp::MAX,
        });
        match archive.requirement(segment, &bases.collect::<Vec<_>>()) {
            None => Absence::End,
            Some(why) => Absence::Hole(why),
        }
    }

    /// Judges a segment whose records end at `end`, or with none that is whole: whether that is the end of the WAL. Of a
    /// backup counts what it needs beyond that position, and of a timeline that left inside the segment that its own was
    /// written as far as there. One that left before, or where the records end, proves nothing: its own may have gone on.
    #[must_use]
    pub fn judge_end(&self, segment: SegmentName, end: Option<Lsn>, size: SegmentSize) -> Absence {
        if let Some(fork) = end.and_then(|end| self.fork_behind(segment, end, size)) {
            return Absence::Hole(fork);
        }
        let end = end.unwrap_or_else(|| segment.start(size));
        let mut rest = self.clone();
        rest.listing.segments.remove(&segment);
        rest.backups.retain(|facts| facts.timeline == segment.timeline() && facts.stop_lsn > end);
        rest.judge(segment, size)
    }

    /// A timeline that left inside a segment behind the place where a copy's records end. Nothing is known of a copy in which
    /// no record is whole: what it has of one that began before is not seen in it alone.
    fn fork_behind(&self, segment: SegmentName, end: Lsn, size: SegmentSize) -> Option<Requirement> {
        let parent = segment.timeline();
        // A position at the start of a page and the one behind its header are the same place.
        let is_page = end.0.is_multiple_of(WAL_PAGE_BYTES as u64);
        let reached = if is_page { end.0 + PAGE_HEADER_BYTES } else { end.0 };
        let last = Lsn(segment.start(size).0 + size.bytes());
        let forks = self.histories.iter().filter_map(|(child, history)| Some((*child, history.switch_of(parent)?)));
        let behind = forks.filter(|(_, at)| at.0 > reached && *at <= last);
        behind.min_by_key(|(_, at)| *at).map(|(child, at)| Requirement::Fork { child, parent, at })
    }

    /// Tells whether the archive lists the file after all.
    pub(super) fn lists(&self, name: WalFileName) -> bool {
        match name {
            WalFileName::Segment(segment) => self.listing.segments.contains_key(&segment),
            WalFileName::PartialSegment(segment) => self.listing.partial.contains(&segment),
            WalFileName::History(timeline) => self.histories.contains_key(&timeline),
            WalFileName::BackupHistory { .. } => false,
        }
    }

    /// Judges the absence of any file. Only segments can be holes.
    pub(super) fn judge_file(&self, name: WalFileName, size: SegmentSize) -> Absence {
        match name {
            WalFileName::Segment(segment) => self.judge(segment, size),
            WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. } => {
                Absence::End
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Absence, Archive};
    use crate::catalog::PostgresFacts;
    use crate::pgformat::{SegmentName, SegmentSize, SystemId, Timeline, TimelineHistory};

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    fn name(timeline: u32, number: u64) -> SegmentName {
        SegmentName::new(Timeline(timeline), number, SIZE)
    }

    fn archive(timeline: u32, numbers: &[u64]) -> Archive {
        let mut archive = Archive::default();
        archive.listing.segments = numbers.iter().map(|number| (name(timeline, *number), SIZE.bytes())).collect();
        archive
    }

    fn is_hole(archive: &Archive, timeline: u32, number: u64) -> bool {
        matches!(archive.judge(name(timeline, number), SIZE), Absence::Hole(_))
    }

    #[test]
    fn the_segment_after_the_last_is_the_end_and_one_before_it_a_hole() {
        let archive = archive(1, &[1, 2, 4]);
        assert!(is_hole(&archive, 1, 3));
        assert!(!is_hole(&archive, 1, 5));
    }

    #[test]
    fn a_segment_below_the_fork_of_a_child_must_be_there() {
        let mut archive = archive(1, &[1, 2]);
        let history = TimelineHistory::parse(Timeline(3), "1\t0/5000100\tx\n2\t0/7000000\ty\n").expect("history");
        archive.histories.insert(Timeline(3), history);
        assert!(is_hole(&archive, 1, 3) && is_hole(&archive, 1, 4));
        assert!(!is_hole(&archive, 1, 5), "the child has its own copy of the segment of the fork");
    }

    #[test]
    fn a_segment_before_its_timeline_began_is_not_missed_there() {
        let mut archive = archive(2, &[5, 6]);
        let history = TimelineHistory::parse(Timeline(2), "1\t0/5000100\tx\n").expect("history");
        archive.histories.insert(Timeline(2), history);
        assert!(!is_hole(&archive, 2, 4));
        assert!(!is_hole(&archive, 2, 7));
    }

    fn backup(stop: &str) -> PostgresFacts {
        PostgresFacts {
            bad_pages: Vec::new(),
            configuration: None,
            preload_libraries: Vec::new(),
            server_version: "15.18".to_owned(),
            system_id: SystemId(1),
            timeline: Timeline(1),
            start_lsn: "0/2000028".parse().expect("lsn"),
            stop_lsn: stop.parse().expect("lsn"),
            segment_size: SIZE,
            tablespaces: Vec::new(),
            slots: Vec::new(),
            standbys: Vec::new(),
            data_checksums: None,
            archiving: None,
            databases: Vec::new(),
        }
    }

    #[test]
    fn a_segment_that_a_backup_needs_must_be_there() {
        let mut archive = archive(1, &[]);
        archive.backups.push(backup("0/4000000"));
        assert!(is_hole(&archive, 1, 2) && is_hole(&archive, 1, 3));
        assert!(!is_hole(&archive, 1, 4), "the backup ends with the last byte before segment 4");
    }

    #[test]
    fn a_segment_that_breaks_off_is_the_end_unless_something_needs_more_of_it() {
        let ends = |archive: &Archive, end: Option<&str>| {
            let end = end.map(|text| text.parse().expect("lsn"));
            archive.judge_end(name(1, 3), end, SIZE) == Absence::End
        };
        let alone = archive(1, &[2, 3]);
        assert!(ends(&alone, Some("0/3000100")) && ends(&alone, None), "it is listed itself");
        assert!(!ends(&archive(1, &[2, 3, 4]), Some("0/3000100")));
        let mut partial = alone.clone();
        partial.listing.partial.insert(name(1, 4));
        assert!(!ends(&partial, Some("0/3000100")));
        let mut left = alone.clone();
        let history = TimelineHistory::parse(Timeline(2), "1\t0/4000100\tx\n").expect("history");
        left.histories.insert(Timeline(2), history);
        assert!(!ends(&left, Some("0/3000100")), "the child goes on from a later segment");
        let mut within = alone.clone();
        let history = TimelineHistory::parse(Timeline(2), "1\t0/3000200\tx\n").expect("history");
        within.histories.insert(Timeline(2), history);
        assert!(!ends(&within, Some("0/3000100")), "timeline 1 was written as far as the fork");
        assert!(ends(&within, Some("0/3000200")) && ends(&within, Some("0/3000300")), "the fork lies in what is there");
        assert!(ends(&within, None), "what a record from before has of it is not seen");
        let mut at_page = alone.clone();
        let history = TimelineHistory::parse(Timeline(2), "1\t0/3002018\tx\n").expect("history");
        at_page.histories.insert(Timeline(2), history);
        assert!(ends(&at_page, Some("0/3002000")), "a header of a page is no record");
        let mut backed = alone.clone();
        backed.backups.push(backup("0/3000200"));
        assert!(!ends(&backed, Some("0/3000100")) && !ends(&backed, None));
        assert!(ends(&backed, Some("0/3000200")), "the server wrote little after the backup, and died");
    }

    #[test]
    fn the_partial_segment_of_a_dead_timeline_is_its_end() {
        let mut archive = archive(1, &[1]);
        archive.listing.partial.insert(name(1, 3));
        assert!(is_hole(&archive, 1, 2));
        assert!(!is_hole(&archive, 1, 3));
    }
}
