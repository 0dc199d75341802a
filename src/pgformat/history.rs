//! Timeline history files: where each ancestor of a timeline was left.

use super::lsn::{Lsn, Timeline};
use super::segment::{SegmentName, SegmentSize};

/// How a file begins that stands under the name of a lost history and keeps the timeline's number; to a server it is a comment.
pub const NUMBER_TAKEN: &str = "# the history file of this timeline is lost;";

/// Whether the content of a history file only keeps the number of a lost one.
#[must_use]
pub fn is_number_taken(content: &[u8]) -> bool {
    content.starts_with(NUMBER_TAKEN.as_bytes())
}

/// One ancestor with the position at which its child began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ancestor {
    timeline: Timeline,
    switch: Lsn,
}

/// The path from the first timeline to one timeline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimelineHistory {
    timeline: Timeline,
    ancestors: Vec<Ancestor>,
}

/// A stretch of WAL on one timeline: from `begin` up to `end`, or without end on the last timeline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimelineSpan {
    /// The timeline.
    pub timeline: Timeline,
    /// Where it begins.
    pub begin: Lsn,
    /// Where its child begins; `None` for the timeline itself.
    pub end: Option<Lsn>,
}

/// A history file makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("history of timeline {timeline}, line {line}: {what}")]
pub struct HistoryError {
    timeline: Timeline,
    line: usize,
    what: String,
}

impl TimelineHistory {
    /// The history of a timeline without ancestors.
    #[must_use]
    pub fn root(timeline: Timeline) -> Self {
        Self { timeline, ancestors: Vec::new() }
    }

    /// Reads the content of the history file of `timeline`.
    ///
    /// # Errors
    /// Fails on lines PostgreSQL would refuse: no number, no position, timelines that do not rise, or an
    /// ancestor that is not older than `timeline`.
    pub fn parse(timeline: Timeline, text: &str) -> Result<Self, HistoryError> {
        let mut ancestors: Vec<Ancestor> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let bad = |what: String| HistoryError { timeline, line: index + 1, what };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let number = words.next().unwrap_or_default();
            let parent: Timeline = number.parse().map_err(|_| bad(format!("`{number}` is no timeline")))?;
            let switch = words.next().unwrap_or_default();
            let switch: Lsn = switch.parse().map_err(|_| bad(format!("`{switch}` is no position")))?;
            if ancestors.last().is_some_and(|last| last.timeline >= parent || last.switch > switch) {
                return Err(bad("ancestors are not in rising order".to_owned()));
            }
            if parent >= timeline {
                return Err(bad(format!("ancestor {parent} is not older than timeline {timeline}")));
            }
            ancestors.push(Ancestor { timeline: parent, switch });
        }
        if ancestors.is_empty() {
            return Err(HistoryError { timeline, line: 0, what: "the file names no ancestor".to_owned() });
        }
        Ok(Self { timeline, ancestors })
    }

    /// Returns the timeline this is the history of.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Returns the parent and where this timeline left it; `None` for a root.
    #[must_use]
    pub fn parent(&self) -> Option<(Timeline, Lsn)> {
        self.ancestors.last().map(|last| (last.timeline, last.switch))
    }

    /// Returns where the path leaves `timeline`; `None` when it is no ancestor.
    #[must_use]
    pub fn switch_of(&self, timeline: Timeline) -> Option<Lsn> {
        self.ancestors.iter().find(|ancestor| ancestor.timeline == timeline).map(|ancestor| ancestor.switch)
    }

    /// Returns the stretches of the path, oldest first, the timeline itself last.
    #[must_use]
    pub fn path(&self) -> Vec<TimelineSpan> {
        let mut begin = Lsn::ZERO;
        let mut path = Vec::with_capacity(self.ancestors.len() + 1);
        for ancestor in &self.ancestors {
            path.push(TimelineSpan { timeline: ancestor.timeline, begin, end: Some(ancestor.switch) });
            begin = ancestor.switch;
        }
        path.push(TimelineSpan { timeline: self.timeline, begin, end: None });
        path
    }

    /// Returns the timeline of the path on which the byte at `lsn` was written.
    #[must_use]
    pub fn timeline_at(&self, lsn: Lsn) -> Timeline {
        self.ancestors.iter().find(|ancestor| lsn < ancestor.switch).map_or(self.timeline, |ancestor| ancestor.timeline)
    }

    /// Tells whether position `lsn` of `timeline` lies on the path: a cluster at that point can follow it.
    #[must_use]
    pub fn contains(&self, timeline: Timeline, lsn: Lsn) -> bool {
        timeline == self.timeline || self.switch_of(timeline).is_some_and(|switch| lsn <= switch)
    }

    /// Names the segment with `number` on the path: where timelines meet inside it, the newer one's copy.
    #[must_use]
    pub fn segment(&self, number: u64, size: SegmentSize) -> SegmentName {
        let timeline = self
            .path()
            .iter()
            .rev()
            .find(|span| number >= size.number_of(span.begin))
            .map_or(self.timeline, |span| span.timeline);
        SegmentName::new(timeline, number, size)
    }
}

#[cfg(test)]
mod tests {
    use super::TimelineHistory;
    use crate::pgformat::{Lsn, SegmentSize, Timeline};

    const TEXT: &str = "1\t0/5000100\tno recovery target specified\n\n2\t0/7000000\tbefore 2026-01-01 00:00:00+00\n";

    fn lsn(text: &str) -> Lsn {
        text.parse().expect("lsn")
    }

    #[test]
    fn a_path_leads_from_the_first_timeline_to_the_last() {
        let history = TimelineHistory::parse(Timeline(3), TEXT).expect("history");
        assert_eq!(history.parent(), Some((Timeline(2), lsn("0/7000000"))));
        assert_eq!(history.path().len(), 3);
        assert_eq!(history.timeline_at(lsn("0/50000FF")), Timeline(1));
        assert_eq!(history.timeline_at(lsn("0/5000100")), Timeline(2));
        assert_eq!(history.timeline_at(lsn("0/7000000")), Timeline(3));
        assert!(history.contains(Timeline(1), lsn("0/5000100")) && !history.contains(Timeline(1), lsn("0/5000101")));
    }

    #[test]
    fn the_segment_of_a_fork_is_the_newer_timelines() {
        let history = TimelineHistory::parse(Timeline(3), TEXT).expect("history");
        let name = |number| history.segment(number, SegmentSize::DEFAULT).to_string();
        assert_eq!(name(4), "000000010000000000000004");
        assert_eq!(name(5), "000000020000000000000005");
        assert_eq!(name(7), "000000030000000000000007");
    }

    #[test]
    fn a_history_that_makes_no_sense_is_refused() {
        for text in ["", "x\t0/1\n", "1\tnowhere\n", "2\t0/5\n1\t0/6\n", "3\t0/5\n", "1\t0/9\n2\t0/5\n"] {
            assert!(TimelineHistory::parse(Timeline(3), text).is_err(), "{text:?}");
        }
    }
}
