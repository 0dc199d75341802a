//! Timelines whose WAL is there and whose history file is not: nothing tells where they began, so no older backup leads there.

use std::collections::BTreeSet;

use super::{Archive, Base, BaseBackup, Goal, Refusal};
use crate::pgformat::Timeline;

/// How many numbers are kept at most: no cluster was promoted more often.
const NUMBERS: usize = 1000;

impl Archive {
    /// The timelines that have WAL and no history file, the lowest one left out: an archive may begin with any. One that a later
    /// timeline's history leads over is known by that.
    fn without_history(&self) -> Vec<Timeline> {
        let all: BTreeSet<Timeline> = self.segments.keys().chain(&self.partial).map(|name| name.timeline()).collect();
        let is_led_over =
            |one: &Timeline| self.branches.values().any(|branch| branch.history.switch_of(*one).is_some());
        let is_lost = |one: &Timeline| !self.branches.contains_key(one) && !is_led_over(one) && !self.is_given_up(*one);
        all.into_iter().skip(1).filter(is_lost).collect()
    }

    /// Those of them to which no backup leads that can be restored: one that was taken there needs no history file.
    #[must_use]
    pub fn lost_histories(&self, backups: &[BaseBackup]) -> Vec<Timeline> {
        let leads =
            |one: &Timeline| backups.iter().any(|backup| backup.fault.is_none() && backup.base.timeline == *one);
        self.without_history().into_iter().filter(|one| !leads(one)).collect()
    }

    /// The numbers behind a timeline, up to the highest one that is known, of which no history file tells: a server that is promoted
    /// there must take none of them. Numbers rise, so one in between was given to somebody, too.
    #[must_use]
    pub fn taken_numbers(&self, followed: Timeline) -> Vec<Timeline> {
        let stored = self.segments.keys().chain(&self.partial).map(|name| name.timeline());
        let told = self.branches.keys().chain(self.given_up.keys()).copied();
        let Some(highest) = stored.chain(told).max() else { return Vec::new() };
        let behind = (followed.0.saturating_add(1)..=highest.0).map(Timeline);
        behind.filter(|one| !self.branches.contains_key(one)).take(NUMBERS).collect()
    }

    /// Refuses a timeline that was asked for, of which nothing but the history file is lacking.
    pub(super) fn refuse_unknown_way(&self, wanted: Timeline) -> Option<Refusal> {
        self.without_history().contains(&wanted).then_some(Refusal::HistoryLost { timeline: wanted })
    }

    /// Refuses to take a timeline for the one that a goal means while a later one has WAL of which nothing tells where it began:
    /// it may go on from this one, and hold what is asked for.
    pub(super) fn refuse_unknown_end(&self, (followed, base): (Timeline, Base), goal: &Goal) -> Option<Refusal> {
        let reaches = match goal {
            Goal::Newest => false,
            Goal::Time(at) => *at <= base.ended_at || self.newest.get(&followed).is_some_and(|commit| commit.at >= *at),
            Goal::Immediate | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => true,
        };
        // That another one's history leads over it tells where it ended, and nothing of what it holds.
        let stored = self.segments.keys().chain(&self.partial).map(|name| name.timeline());
        let is_lost = |one: &Timeline| *one > followed && !self.branches.contains_key(one) && !self.is_given_up(*one);
        let timeline = stored.filter(is_lost).max().filter(|_| !reaches)?;
        Some(Refusal::HistoryLost { timeline })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::super::{Branch, Segment};
    use super::*;
    use crate::base::Timestamp;
    use crate::pgformat::{Lsn, SegmentName, SegmentSize, TimelineHistory};

    fn archive(histories: &[(u32, &str)], segments: &[(u32, u64)]) -> Archive {
        let size = SegmentSize::DEFAULT;
        let mut archive = Archive::empty(size);
        for (timeline, number) in segments {
            archive.segments.insert(SegmentName::new(Timeline(*timeline), *number, size), Segment::whole(size.bytes()));
        }
        for (timeline, history) in histories {
            let history = TimelineHistory::parse(Timeline(*timeline), history).unwrap();
            archive.branches.insert(Timeline(*timeline), Branch { history, created_at: Timestamp::UNIX_EPOCH });
        }
        archive
    }

    #[test]
    fn wal_of_a_timeline_whose_history_is_lost_is_not_passed_over_in_silence() {
        let base = Base {
            timeline: Timeline(1),
            start: Lsn(2 << 24),
            stop: Lsn((2 << 24) + 256),
            ended_at: Timestamp::UNIX_EPOCH,
        };
        let lost = archive(&[], &[(1, 2), (1, 5), (2, 5)]);
        let refused = Refusal::HistoryLost { timeline: Timeline(2) };
        assert_eq!(lost.timeline(&Goal::Newest, base, None), Err(refused.clone()));
        assert_eq!(lost.timeline(&Goal::Newest, base, Some(Timeline(2))), Err(refused.clone()));
        assert_eq!(lost.timeline(&Goal::Newest, base, Some(Timeline(1))), Ok(Some(Timeline(1))), "who says so gets it");
        assert_eq!(lost.timeline(&Goal::Immediate, base, None), Ok(Some(Timeline(1))));
        assert_eq!(lost.lost_histories(&[]), [Timeline(2)]);
        assert!(refused.to_string().contains("`00000002.history`"), "{refused}");
        // The next one's history leads over it; and an archive may begin with any timeline.
        let over = archive(&[(3, "1\t0/5000000\ta\n2\t0/6000000\tb")], &[(1, 2), (2, 5), (3, 6)]);
        assert_eq!(over.lost_histories(&[]), []);
        // A server that is promoted on the first one must not take the second one's number all the same.
        assert_eq!(over.taken_numbers(Timeline(1)), [Timeline(2)]);
        assert_eq!(over.taken_numbers(Timeline(3)), []);
        assert_eq!(lost.taken_numbers(Timeline(1)), [Timeline(2)]);
        assert_eq!(archive(&[], &[(1, 2), (4, 5)]).taken_numbers(Timeline(1)), [2, 3, 4].map(Timeline));
        assert_eq!(archive(&[(2, "1\t0/5000000\ta")], &[(1, 2), (2, 5)]).taken_numbers(Timeline(1)), []);
        // What it holds is not known all the same, where a moment may lie on it.
        let at = Goal::Time("2026-01-28T14:30:00Z".parse().unwrap());
        assert_eq!(over.refuse_unknown_end((Timeline(1), base), &at), Some(refused.clone()));
        assert_eq!(over.refuse_unknown_end((Timeline(3), base), &at), None);
        assert_eq!(archive(&[], &[(4, 5)]).lost_histories(&[]), []);
    }
}
