//! Whether a segment that is not there must have been: the end of the WAL, or a hole.
//!
//! The difference decides whether a server that recovers may believe that nothing follows. A hole is never the end:
//! the server would open without what comes after it (facts 2.2.4, 2.10.2).

use std::fmt;

use super::{Archive, Base};
use crate::pgformat::{Lsn, SegmentName, Timeline, TimelineHistory};

/// What proves that a segment existed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// A later segment of its timeline.
    Later(SegmentName),
    /// A later, unfinished segment of its timeline.
    LaterPartial(SegmentName),
    /// A timeline that left its own after it.
    Fork {
        /// The timeline that left.
        child: Timeline,
        /// Its own.
        parent: Timeline,
        /// Where.
        at: Lsn,
    },
    /// A base backup that ended after it.
    Backup(Lsn),
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Later(later) => write!(f, "the later segment `{later}` is there"),
            Self::LaterPartial(later) => write!(f, "the later segment `{later}.partial` is there"),
            Self::Fork { child, parent, at } => {
                write!(f, "timeline {child} leaves timeline {parent} after it, at {at}")
            }
            Self::Backup(stop) => write!(f, "a base backup ended after it, at {stop}"),
        }
    }
}

impl Archive {
    /// Tells what proves that a segment existed; `None` when nothing later is known on any path through its timeline.
    #[must_use]
    pub fn requirement(&self, segment: SegmentName, bases: &[Base]) -> Option<Requirement> {
        let (timeline, number) = (segment.timeline(), segment.number(self.size));
        let begin = self.branches.get(&timeline).and_then(|branch| branch.history.parent()).map(|(_, begin)| begin);
        if begin.is_some_and(|begin| number < self.size.number_of(begin)) {
            // Not on this timeline at all: the server goes on to ask for the parent's.
            return None;
        }
        let same = |later: &SegmentName| later.timeline() == timeline;
        if let Some((later, _)) = self.segments.range(segment..).next().filter(|(later, _)| same(later)) {
            return Some(Requirement::Later(*later));
        }
        let partial = self.partial.range(segment..).find(|partial| **partial > segment);
        if let Some(later) = partial.filter(|later| same(later)) {
            return Some(Requirement::LaterPartial(*later));
        }
        let forks = self.branches.iter().filter_map(|(child, branch)| {
            let at = fork_after(&branch.history, timeline, |fork| number < self.size.number_of(fork))?;
            Some(Requirement::Fork { child: *child, parent: timeline, at })
        });
        let mut backups = bases.iter().filter(|base| base.timeline == timeline);
        let needed = backups.find(|base| segment.start(self.size) < base.stop);
        forks.chain(needed.map(|base| Requirement::Backup(base.stop))).next()
    }
}

fn fork_after(history: &TimelineHistory, timeline: Timeline, fits: impl Fn(Lsn) -> bool) -> Option<Lsn> {
    history.switch_of(timeline).filter(|fork| fits(*fork))
}
