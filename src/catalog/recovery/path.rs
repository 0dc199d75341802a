//! The segments that lead to a timeline, one after the other.

use crate::pgformat::{SegmentName, SegmentSize, Timeline, TimelineHistory};

/// The way through the segments that leads to one timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Each timeline with the number of its first segment on the path, oldest first.
    stretches: Vec<(Timeline, u64)>,
    size: SegmentSize,
}

impl Path {
    /// The path of a history. Where timelines meet inside a segment, the newer one's copy counts.
    #[must_use]
    pub fn of(history: &TimelineHistory, size: SegmentSize) -> Self {
        let stretches = history.path().iter().map(|span| (span.timeline, size.number_of(span.begin))).collect();
        Self { stretches, size }
    }

    /// Names the segment with `number`.
    #[must_use]
    pub fn name(&self, number: u64) -> SegmentName {
        let stretch = self.stretches.iter().rev().find(|(_, first)| number >= *first);
        let timeline = stretch.or(self.stretches.first()).map_or(Timeline::FIRST, |(timeline, _)| *timeline);
        SegmentName::new(timeline, number, self.size)
    }

    /// Tells whether a segment lies on it.
    #[must_use]
    pub fn holds(&self, name: SegmentName) -> bool {
        self.name(name.number(self.size)) == name
    }

    /// The timelines it leads through, oldest first.
    pub fn timelines(&self) -> impl DoubleEndedIterator<Item = Timeline> {
        self.stretches.iter().map(|(timeline, _)| *timeline)
    }
}
