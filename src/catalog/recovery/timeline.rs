//! Which timeline a goal means (facts 2.3.3, 2.10.3).
//!
//! A target names the timeline that was live at it: `latest` would follow the promotion of an earlier attempt and
//! silently lack what the user asks for.

use super::{Archive, Base, Branch, Goal, Part, Reach, Refusal, Unread};
use crate::base::Timestamp;
use crate::pgformat::{Lsn, SegmentName, Timeline};

/// What is followed on the way to a goal of a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carrier {
    /// The timeline.
    pub(super) followed: Timeline,
    /// Where replay must end, since behind it the WAL is another timeline's: the fork.
    pub(super) bound: Option<Lsn>,
    /// A child that leads further, of which is not known whether it was promoted before the goal.
    pub(super) unclear: Option<Timeline>,
}

/// How a goal of a timeline lies to a child that left it.
enum Fit {
    /// The server stops at the goal before anything of the child's own.
    Before,
    /// All up to the fork belongs to the goal, and nothing behind it.
    Behind,
    /// One of the two.
    Unclear,
    /// The child does not help.
    Apart,
}

impl Archive {
    /// Refuses a goal that lies before the end of the backup.
    ///
    /// # Errors
    /// Fails when it does: the server would open without a word at a later state (facts 2.3.4).
    pub fn reachable(&self, goal: &Goal, base: Base) -> Result<(), Refusal> {
        let end = match goal {
            Goal::Time(at) if *at < base.ended_at => format!("`{}`", base.ended_at),
            Goal::Lsn(lsn) if *lsn < base.stop => format!("`{}`", base.stop),
            Goal::Time(_) | Goal::Lsn(_) | Goal::Newest | Goal::Immediate | Goal::Name(_) | Goal::Xid(_) => {
                return Ok(());
            }
        };
        Err(Refusal::BeforeBackup { goal: goal.clone(), end })
    }

    /// Chooses the timeline. `None` stands for `latest`.
    ///
    /// # Errors
    /// Fails when the wanted timeline does not lead from the backup, or several contain the goal.
    pub fn timeline(&self, goal: &Goal, base: Base, wanted: Option<Timeline>) -> Result<Option<Timeline>, Refusal> {
        if let Some(wanted) = wanted {
            let leads = self.history(wanted).is_some_and(|history| history.contains(base.timeline, base.stop));
            return match leads {
                true => Ok(Some(wanted)),
                false => Err(self.refuse_unknown_way(wanted).unwrap_or(Refusal::NoWay { wanted, from: base.timeline })),
            };
        }
        let by = match goal {
            Goal::Time(at) => Some(Some(*at)),
            Goal::Newest => Some(None),
            Goal::Immediate | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => None,
        };
        if let Some(unread) = by.and_then(|by| self.unread(base, by)) {
            return Err(unread);
        }
        let live = match goal {
            Goal::Newest => return self.newest(base),
            Goal::Immediate => return Ok(Some(base.timeline)),
            Goal::Time(at) => self.alive_at(*at, base),
            Goal::Lsn(lsn) => self.containing(*lsn, base),
            Goal::Name(_) | Goal::Xid(_) => self.ends(base),
        };
        match live.as_slice() {
            [] => Ok(Some(self.latest(base))),
            [one] => match goal {
                Goal::Time(at) => {
                    let left = self.refuse_left(*one, base, Some(*at));
                    left.or_else(|| self.refuse_unknown_end((*one, base), goal)).map_or(Ok(Some(*one)), Err)
                }
                Goal::Newest | Goal::Immediate | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => Ok(Some(*one)),
            },
            several => Err(Refusal::Several(several.iter().map(|one| self.describe(*one)).collect())),
        }
    }

    /// Finds a timeline that nobody here could read and that may be the one that is meant: that of the backup, whose beginning
    /// tells nothing, or one that began after it. One that began before was left by then; one that is known to have been promoted
    /// after the time that is asked for does not count either, nor what lies before the backup on the way to it.
    fn unread(&self, base: Base, by: Option<Timestamp>) -> Option<Refusal> {
        let own = base.timeline;
        let later = |one: &Timeline| by.is_some_and(|by| self.promoted.get(one).is_some_and(|promoted| *promoted > by));
        let counts = |(one, part): &(Timeline, Part), unread: &Unread| match part {
            Part::Promotion => *one > own && !later(one),
            Part::End => {
                let is_meant = *one == own || (*one > own && !later(one));
                is_meant && !self.is_passed(base, *one, unread)
            }
        };
        let ((timeline, _), Unread { why, .. }) = self.unread.iter().rfind(|(at, unread)| counts(at, unread))?;
        Some(Refusal::Unread { timeline: *timeline, why: why.clone() })
    }

    /// The newest timeline that leads on from a backup and that nobody gave up.
    #[must_use]
    pub fn latest(&self, base: Base) -> Timeline {
        self.leading(base).into_iter().max().unwrap_or(base.timeline)
    }

    /// The timelines that lead on from a backup, its own first. One that was given up leads nowhere.
    #[must_use]
    pub fn leading(&self, base: Base) -> Vec<Timeline> {
        let leads = |branch: &&Branch| {
            branch.history.contains(base.timeline, base.stop) && !self.is_given_up(branch.history.timeline())
        };
        let others = self.branches.values().filter(leads).map(|branch| branch.history.timeline());
        std::iter::once(base.timeline).chain(others.filter(|one| *one != base.timeline)).collect()
    }

    /// The timelines that had begun at a time and were not left behind by then. One that was left is still among
    /// them when it is known to have gone on: two servers wrote at once.
    fn alive_at(&self, at: Timestamp, base: Base) -> Vec<Timeline> {
        let mut begun = self.leading(base);
        begun.retain(|one| {
            *one == base.timeline || self.branches.get(one).is_some_and(|branch| branch.created_at <= at)
        });
        let went_on = |one: &Timeline| self.newest.get(one).is_some_and(|newest| newest.at >= at);
        begun.iter().copied().filter(|one| went_on(one) || !self.has_descendant(*one, &begun)).collect()
    }

    /// Tells whether several timelines were live at a time, and one of them is known to have been written to then or later:
    /// of two that were left at the same time by nobody nothing is known, and the newer backup says which is meant.
    #[must_use]
    pub fn went_on_beside(&self, at: Timestamp, base: Base) -> bool {
        let alive = self.alive_at(at, base);
        alive.len() > 1 && alive.iter().any(|one| self.newest.get(one).is_some_and(|newest| newest.at >= at))
    }

    /// The timelines on whose own stretch a position lies, as far as anything proves how long they are.
    fn containing(&self, lsn: Lsn, base: Base) -> Vec<Timeline> {
        let mut all = self.leading(base);
        all.retain(|one| {
            let begin = self.branches.get(one).and_then(|branch| branch.history.parent()).map(|(_, begin)| begin);
            let begins_before = *one == base.timeline || begin.is_some_and(|begin| begin < lsn);
            begins_before && self.end_of(*one).is_some_and(|end| lsn <= end)
        });
        all
    }

    /// The position up to which something proves that a timeline was written.
    fn end_of(&self, timeline: Timeline) -> Option<Lsn> {
        let own = |name: &&SegmentName| name.timeline() == timeline;
        let stored = self.segments.keys().chain(&self.aside).filter(own).map(|name| name.end(self.size)).max();
        let forks = self.branches.values().filter_map(|branch| branch.history.switch_of(timeline)).max();
        stored.max(forks)
    }

    /// The timelines whose segments hold a timeline's own stretch, itself first: each child has its own copy of the
    /// segment it forked in, which the timeline itself may never have finished. With the position up to which.
    pub(super) fn carriers(&self, timeline: Timeline) -> Vec<(Timeline, Option<Lsn>)> {
        let children = self
            .branches
            .iter()
            .filter_map(|(child, branch)| branch.history.switch_of(timeline).map(|fork| (*child, Some(fork))));
        std::iter::once((timeline, None)).chain(children).collect()
    }

    /// What leads furthest on the way to a goal of `timeline` without passing it: itself, or a child that holds the end
    /// of its last segment.
    pub(super) fn carrier(&self, timeline: Timeline, goal: &Goal, base: Base) -> Carrier {
        let own = self.reach(timeline, base);
        let end = |reach: Reach| reach.last.map(|last| last.end(self.size)).unwrap_or_default();
        let is_whole = own.hole.is_none();
        let mut best = (end(own), Carrier { followed: timeline, bound: None, unclear: None });
        let mut unclear = None;
        for (child, fork) in self.carriers(timeline) {
            let Some(fork) = fork else { continue };
            let reached = end(self.reach(child, base)).min(fork);
            let bound = match self.fit(child, fork, goal) {
                Fit::Before => None,
                Fit::Behind if is_whole => Some(fork),
                Fit::Unclear if is_whole => {
                    unclear = unclear.max(Some((reached, child)));
                    continue;
                }
                Fit::Behind | Fit::Unclear | Fit::Apart => continue,
            };
            if reached > best.0 {
                best = (reached, Carrier { followed: child, bound, unclear: None });
            }
        }
        let unclear = unclear.filter(|(reached, _)| *reached > best.0).map(|(_, child)| child);
        Carrier { unclear, ..best.1 }
    }

    /// How a goal of a timeline lies to a child that left it.
    fn fit(&self, child: Timeline, fork: Lsn, goal: &Goal) -> Fit {
        match goal {
            Goal::Lsn(lsn) if *lsn <= fork => Fit::Before,
            // The child's own commits are later than its promotion.
            Goal::Time(at) => match self.promoted.get(&child) {
                Some(promoted) if at < promoted => Fit::Before,
                Some(_) => Fit::Behind,
                None => Fit::Unclear,
            },
            Goal::Newest => Fit::Behind,
            Goal::Lsn(_) | Goal::Immediate | Goal::Name(_) | Goal::Xid(_) => Fit::Apart,
        }
    }

    /// The timelines that no other one that leads from the backup goes on from.
    fn ends(&self, base: Base) -> Vec<Timeline> {
        let all = self.leading(base);
        all.iter().copied().filter(|one| !self.has_descendant(*one, &all)).collect()
    }

    fn has_descendant(&self, timeline: Timeline, among: &[Timeline]) -> bool {
        let descends =
            |other: &&Timeline| self.history(**other).is_some_and(|history| history.switch_of(timeline).is_some());
        among.iter().any(|other| descends(&other))
    }

    /// A timeline for people: where it left its parent, and when.
    #[must_use]
    pub fn describe(&self, timeline: Timeline) -> String {
        match self.branches.get(&timeline) {
            Some(branch) => {
                let fork =
                    branch.history.parent().map_or_else(String::new, |(parent, at)| format!("left {parent} at {at}, "));
                format!("`{timeline}` ({fork}archived {})", branch.created_at)
            }
            None => format!("`{timeline}`"),
        }
    }
}
