//! The last position that the lost server is known to have flushed: what tells whether anything was lost.

use crate::pgformat::{Lsn, Timeline, TimelineHistory};

/// A flushed position with the timeline that it is on: the same position of another timeline is other WAL. The newest
/// timeline of a server is the one it wrote last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flushed {
    /// The timeline.
    pub(crate) timeline: Timeline,
    /// The position.
    pub(crate) lsn: Lsn,
}

impl Flushed {
    /// Tells whether all that was flushed came back with a recovery along a history that reached a position.
    pub(crate) fn came_back(self, history: &TimelineHistory, reached: Lsn) -> bool {
        history.contains(self.timeline, self.lsn) && reached >= self.lsn
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;

    #[test]
    fn a_later_position_of_another_timeline_brings_back_nothing() {
        let way = TimelineHistory::parse(Timeline(3), "1\t0/5000000\ta\n2\t0/9000000\tb").unwrap();
        let at = |timeline, lsn| Flushed { timeline: Timeline(timeline), lsn: Lsn(lsn) };
        assert!(at(1, 0x500_0000).came_back(&way, Lsn(0x900_0000)));
        assert!(!at(1, 0x500_0001).came_back(&way, Lsn(0x900_0000)), "it was left before that");
        assert!(at(2, 0x900_0000).came_back(&way, Lsn(0x900_0000)));
        assert!(!at(4, 0x200_0000).came_back(&way, Lsn(0x900_0000)), "nobody leads there");
        let own = TimelineHistory::root(Timeline(1));
        assert!(!at(1, 0x500_0000).came_back(&own, Lsn(0x400_0000)), "a server that waits has not come there");
    }
}
