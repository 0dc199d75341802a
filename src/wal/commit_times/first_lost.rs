//! When the first commit was made that a recovery along another timeline does not bring back.

use super::{CommitTimes, aside};
use crate::base::Timestamp;
use crate::catalog::recovery::{Archive, Base, Beside};
use crate::pgformat::{Commit, Lsn, SegmentName, Timeline, WalRecord, WalWalker, Walked};

/// Commits of a timeline that was written to beside the one that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostBeside {
    /// The timeline.
    pub timeline: Timeline,
    /// The first of them was made then, or later where the WAL that tells it cannot be read.
    pub first_at: Timestamp,
    /// The newest of them.
    pub newest_at: Timestamp,
}

impl LostBeside {
    /// What does not come back, for people.
    #[must_use]
    pub fn words(&self, followed: Timeline) -> String {
        let Self { timeline, first_at, newest_at } = self;
        format!(
            "two servers wrote at once: what was committed on timeline {timeline} from {first_at} to {newest_at} does not come back, \
             since timeline {followed} is followed; `timeline: {timeline}` follows that one instead"
        )
    }
}

impl CommitTimes<'_> {
    /// Finds what was committed beside the timeline that is followed, since both had parted behind a backup. WAL that cannot be
    /// read moves the first commit to the backup's end: never later than it was.
    pub async fn lost_beside(&self, archive: &Archive, followed: Timeline, base: Base) -> Vec<LostBeside> {
        let mut lost = Vec::new();
        for Beside { timeline, from, newest } in archive.written_beside(followed, base) {
            let first = self.first_commit_from(archive, timeline, from).await;
            let first_at = first.map_or(base.ended_at, |commit| commit.at).min(newest.at);
            lost.push(LostBeside { timeline, first_at, newest_at: newest.at });
        }
        lost
    }

    /// The first commit of a timeline that begins at a position or later; `None` where it cannot be read.
    async fn first_commit_from(&self, archive: &Archive, timeline: Timeline, from: Lsn) -> Option<Commit> {
        let mut walker = WalWalker::new(self.size);
        let mut name = SegmentName::new(timeline, self.size.number_of(from), self.size);
        while archive.holds(name) {
            let bytes = self.segment(name).await.ok()?;
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
}
