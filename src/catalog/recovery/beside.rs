//! What was committed beside the timeline that is followed: two servers wrote at once, and a recovery brings one of both back.

use super::{Archive, Base, LastCommit};
use crate::base::Timestamp;
use crate::pgformat::{Lsn, Timeline, TimelineHistory};

/// A timeline that is not followed and was written to while the one that is was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// The timeline.
    pub timeline: Timeline,
    /// Where it parts from the way: from here on it holds what does not come back.
    pub from: Lsn,
    /// Its newest commit.
    pub newest: LastCommit,
}

impl Archive {
    /// Finds the timelines that lead on from a backup, have commits that are not on the way of `followed`, and were written
    /// to at the same time as that one. One that had been left by then (a recovery to an earlier moment, a first attempt that
    /// was given up for a second) is no such: what it holds was given up then. Only commits and promotions that somebody read
    /// count, and nothing of a timeline that is noted as given up.
    #[must_use]
    pub fn written_beside(&self, followed: Timeline, base: Base) -> Vec<Beside> {
        let way = self.history(followed).unwrap_or_else(|| TimelineHistory::root(followed));
        let others = self.leading(base).into_iter().filter(|one| *one != followed && !self.is_given_up(*one));
        others
            .filter_map(|timeline| {
                let newest = *self.newest.get(&timeline)?;
                let from = self.leaves(&way, timeline);
                let beside = newest.lsn >= from && self.at_once(&way, (timeline, newest.at));
                beside.then_some(Beside { timeline, from, newest })
            })
            .collect()
    }

    /// Where two timelines part that go on from one: what lies before is on both.
    #[must_use]
    pub fn parted_at(&self, one: Timeline, other: Timeline) -> Lsn {
        let path = |timeline| self.history(timeline).unwrap_or_else(|| TimelineHistory::root(timeline)).path();
        let mut spans = path(one).into_iter().zip(path(other));
        let parted = spans.find_map(|(one, other)| match one.timeline == other.timeline {
            false => Some(one.begin.min(other.begin)),
            true if one.end == other.end => None,
            true => one.end.into_iter().chain(other.end).min(),
        });
        parted.unwrap_or_default()
    }

    /// Whether a timeline was written to after the way had gone on without it for the last time, or the way after it had begun.
    fn at_once(&self, way: &TimelineHistory, (timeline, newest): (Timeline, Timestamp)) -> bool {
        let history = self.history(timeline).unwrap_or_else(|| TimelineHistory::root(timeline));
        let of_way: Vec<Timeline> = way.path().into_iter().map(|span| span.timeline).collect();
        let last_begun = self.last_promotion(way.timeline());
        if last_begun.is_some_and(|began| newest <= began) {
            return false;
        }
        let went_on = || self.newest.get(&way.timeline()).map(|commit| commit.at);
        match history.path().iter().rev().find(|span| of_way.contains(&span.timeline)) {
            Some(shared) if shared.timeline == way.timeline() => {
                self.promoted.get(&timeline).zip(went_on()).is_some_and(|(began, on)| on > *began)
            }
            Some(_) => last_begun.is_some(),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::super::Branch;
    use super::*;
    use crate::pgformat::SegmentSize;

    fn at(text: &str) -> Timestamp {
        format!("2026-01-28T{text}:00Z").parse().unwrap()
    }

    /// A backup of 10:00 on timeline 1, branches that left it when they were promoted, and each one's newest commit.
    fn beside(branches: &[(u32, &str, &str)], newest: &[(u32, u64, &str)], followed: u32) -> Vec<(u32, u64)> {
        let mut archive = Archive::empty(SegmentSize::DEFAULT);
        for (timeline, history, promoted) in branches {
            let history = TimelineHistory::parse(Timeline(*timeline), history).unwrap();
            archive.branches.insert(Timeline(*timeline), Branch { history, created_at: at(promoted) });
            archive.promoted.insert(Timeline(*timeline), at(promoted));
        }
        for (timeline, lsn, text) in newest {
            archive.newest.insert(Timeline(*timeline), LastCommit { at: at(text), lsn: Lsn(lsn << 24) });
        }
        let base = Base { timeline: Timeline(1), start: Lsn(2 << 24), stop: Lsn(3 << 24), ended_at: at("10:00") };
        let found = archive.written_beside(Timeline(followed), base);
        found.into_iter().map(|one| (one.timeline.0, one.from.0 >> 24)).collect()
    }

    #[test]
    fn of_two_that_wrote_at_once_the_one_that_is_not_followed_is_lost_from_where_they_parted() {
        let standby = [(2, "1\t0/5000000\ta", "11:00")];
        let both = [(1, 7, "11:30"), (2, 8, "12:00")];
        assert_eq!(beside(&standby, &both, 2), [(1, 5)], "the old primary went on");
        assert_eq!(beside(&standby, &both, 1), [(2, 5)]);
        // A recovery to an earlier moment, after which nobody wrote to the old one, and the way back to that one.
        let one_after_another = [(1, 7, "10:59"), (2, 8, "12:00")];
        assert_eq!(beside(&standby, &one_after_another, 2), []);
        assert_eq!(beside(&standby, &one_after_another, 1), [], "that is given up by who names the older one");
        // What lies before the fork is on the way.
        assert_eq!(beside(&standby, &[(1, 4, "11:30"), (2, 8, "12:00")], 2), []);
    }

    #[test]
    fn two_timelines_share_what_lies_before_the_first_place_at_which_one_of_them_left() {
        let mut archive = Archive::empty(SegmentSize::DEFAULT);
        for (timeline, history) in
            [(2, "1\t0/7000000\ta"), (3, "1\t0/5000000\tb"), (4, "1\t0/7000000\ta\n2\t0/9000000\tc")]
        {
            let history = TimelineHistory::parse(Timeline(timeline), history).unwrap();
            archive.branches.insert(Timeline(timeline), Branch { history, created_at: at("11:00") });
        }
        let parted = |one, other| archive.parted_at(Timeline(one), Timeline(other)).0 >> 24;
        for (one, other, segment) in [(2, 1, 7), (1, 2, 7), (3, 2, 5), (2, 3, 5), (4, 2, 9), (4, 1, 7), (4, 3, 5)] {
            assert_eq!(parted(one, other), segment, "{one} and {other}");
        }
    }

    #[test]
    fn what_an_earlier_recovery_left_is_no_loss_of_the_next_one() {
        let again = [(2, "1\t0/5000000\ta", "11:00"), (3, "1\t0/7000000\tb", "13:00")];
        let left = [(1, 7, "11:30"), (2, 8, "12:00"), (3, 9, "13:30")];
        assert_eq!(beside(&again, &left, 3), [], "timeline 2 was left when 3 was promoted");
        let went_on = [(1, 7, "11:30"), (2, 8, "13:10"), (3, 9, "13:30")];
        assert_eq!(beside(&again, &went_on, 3), [(2, 5)]);
    }
}
