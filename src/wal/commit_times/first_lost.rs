//! When the first commit was made that a recovery along another timeline does not bring back.

use super::{CommitTimes, aside};
use crate::base::Timestamp;
use crate::catalog::recovery::{Archive, Base, Beside};
use crate::pgformat::{Commit, Landmark, Lsn, SegmentName, Timeline, WalRecord, WalWalker, Walked};
use crate::wal::WalError;

/// How many segments before the place where two timelines parted are read for the newest moment that both have.
const SHARED_WITHIN: usize = 4;

/// When what does not come back begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossBegin {
    /// The first commit of it was made then.
    At(Timestamp),
    /// The WAL that tells when cannot be read. What was committed up to then is on the way that is followed.
    After(Timestamp),
}

impl LossBegin {
    /// The moment up to which nothing is lost.
    #[must_use]
    pub fn earliest(self) -> Timestamp {
        match self {
            Self::At(at) | Self::After(at) => at,
        }
    }
}

/// Commits of a timeline that was written to beside the one that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostBeside {
    /// The timeline.
    pub timeline: Timeline,
    /// When the first of them was made.
    pub begin: LossBegin,
    /// The newest of them.
    pub newest_at: Timestamp,
}

impl LostBeside {
    /// What does not come back, for people.
    #[must_use]
    pub fn words(&self, followed: Timeline) -> String {
        let Self { timeline, begin, newest_at } = self;
        let from = match begin {
            LossBegin::At(at) => format!("from {at}"),
            LossBegin::After(at) => {
                format!("from some time after {at} (the WAL that tells when cannot be read)")
            }
        };
        format!(
            "two servers wrote at once: what was committed on timeline {timeline} {from} to {newest_at} does not come back, \
             since timeline {followed} is followed; `timeline: {timeline}` follows that one instead"
        )
    }
}

impl CommitTimes<'_> {
    /// Finds what was committed beside the timeline that is followed, since both had parted behind a backup. Where the WAL that
    /// tells when the first commit was made cannot be read, the newest moment before they parted bounds it.
    pub async fn lost_beside(&self, archive: &Archive, followed: Timeline, base: Base) -> Vec<LostBeside> {
        let mut lost = Vec::new();
        for Beside { timeline, from, newest } in archive.written_beside(followed, base) {
            let begin = match self.first_commit_from(archive, timeline, from).await {
                Some(commit) => LossBegin::At(commit.at.min(newest.at)),
                None => LossBegin::After(self.shared_until(archive, (followed, timeline), base).await.min(newest.at)),
            };
            lost.push(LostBeside { timeline, begin, newest_at: newest.at });
        }
        lost
    }

    /// The first commit of a timeline that begins at a position or later, also in what is to be rescued; `None` where it
    /// cannot be read.
    async fn first_commit_from(&self, archive: &Archive, timeline: Timeline, from: Lsn) -> Option<Commit> {
        let mut walker = WalWalker::new(self.size);
        let mut name = SegmentName::new(timeline, self.size.number_of(from), self.size);
        while archive.fault(name).is_none() {
            let bytes = self.of_archive(archive, name).await.ok()?;
            let (walked, halted, first) = aside(move || {
                let mut first = None;
                let mut see = |record: &WalRecord<'_>| {
                    first = first.or_else(|| Commit::of(record).filter(|commit| commit.lsn >= from));
                };
                let halted = matches!(walker.segment(name, &bytes, &mut see), Walked::Halted(_));
                (walker, halted, first)
            })
            .await
            .ok()?;
            walker = walked;
            if first.is_some() || halted {
                return first;
            }
            name = name.next(self.size);
        }
        None
    }

    /// Reads a segment: what the archive has counts, since a copy that came with a backup may be cut short.
    async fn of_archive(&self, archive: &Archive, name: SegmentName) -> Result<Vec<u8>, WalError> {
        if archive.holds(name) { self.archived(name).await } else { self.segment(name).await }
    }

    /// The newest moment before the place where two timelines parted that WAL tells shortly before it; the end of the backup
    /// where none is read. What was committed until then is on both.
    async fn shared_until(
        &self,
        archive: &Archive,
        (followed, timeline): (Timeline, Timeline),
        base: Base,
    ) -> Timestamp {
        let (path, parted) = (archive.path(followed), archive.parted_at(followed, timeline));
        let numbers = self.size.number_of(base.start)..=self.size.number_of(parted);
        for name in numbers.rev().take(SHARED_WITHIN).map(|number| path.name(number)) {
            if archive.fault(name).is_some() {
                continue;
            }
            let Ok(bytes) = self.of_archive(archive, name).await else { continue };
            let size = self.size;
            let told = aside(move || {
                let mut newest = None;
                let mut see = |record: &WalRecord<'_>| {
                    if record.lsn < parted {
                        newest = newest.max(moment(record));
                    }
                };
                WalWalker::new(size).segment(name, &bytes, &mut see);
                newest
            });
            if let Ok(Some(at)) = told.await {
                return base.ended_at.max(at);
            }
        }
        base.ended_at
    }
}

/// The moment that a record tells: what is committed behind it is not older.
fn moment(record: &WalRecord<'_>) -> Option<Timestamp> {
    record.committed_at().or_else(|| match Landmark::of(record)? {
        Landmark::Checkpoint { at, .. } | Landmark::Promotion { at, .. } => Some(at),
        Landmark::RestorePoint { .. } | Landmark::DatabaseDropped { .. } => None,
    })
}
