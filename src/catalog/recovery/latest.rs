//! What the newest state is where several timelines lead there, or seem to.
//!
//! The number of a timeline tells that it was promoted last, not that it holds what was committed last: a recovery that
//! ended too early, a standby that was promoted by mistake, and a second recovery to another moment all leave timelines
//! behind that the server's own `latest` would follow without a word.

use super::{Archive, Base, Goal, Refusal};
use crate::base::Timestamp;
use crate::pgformat::{Lsn, SegmentName, Timeline, TimelineHistory};

impl Archive {
    /// The timeline to follow to the newest state: `None` where the server's `latest` is the same one.
    pub(super) fn newest(&self, base: Base) -> Result<Option<Timeline>, Refusal> {
        let followed = self.latest(base);
        let unknown = || self.refuse_unknown_end((followed, base), &Goal::Newest);
        match unknown().or_else(|| self.outlived(followed, base)).or_else(|| self.refuse_left(followed, base, None)) {
            Some(refusal) => Err(refusal),
            None => Ok((followed != self.found_by_server(base)).then_some(followed)),
        }
    }

    /// Finds out that a timeline which a backup leads to had been left at a time, or by now: another one, to which the
    /// backup does not lead, was promoted after the last that was written on it. A recovery to a moment before the backup
    /// leaves it behind so, and until a new backup ends the old one is the newest that there is.
    pub(super) fn refuse_left(&self, one: Timeline, base: Base, at: Option<Timestamp>) -> Option<Refusal> {
        let (leading, history) = (self.leading(base), self.history(one)?);
        let commit = self.newest.get(&one).map(|commit| commit.at);
        let began = self.promoted.get(&one).copied();
        let wrote = [commit, self.wrote_until.get(&one).copied(), began].into_iter().flatten();
        let until = wrote.fold(base.ended_at, Timestamp::max);
        let later = self.promoted.iter().filter(|(other, promoted)| {
            **promoted > until
                && at.is_none_or(|at| **promoted <= at)
                && !leading.contains(other)
                && history.switch_of(**other).is_none()
                && !self.is_given_up(**other)
        });
        let (by, promoted) = later.max_by_key(|(_, promoted)| **promoted)?;
        Some(Refusal::Left { timeline: one, until, by: self.describe(*by), promoted: *promoted })
    }

    /// Tells whether a timeline was given up, and is one that nobody went on with: its server may have been started again
    /// by hand.
    #[must_use]
    pub fn is_given_up(&self, timeline: Timeline) -> bool {
        let Some(until) = self.given_up.get(&timeline) else { return false };
        let last = self.size.number_of(*until);
        let behind = |name: &SegmentName| name.timeline() == timeline && name.number(self.size) > last;
        let went_on = self.newest.get(&timeline).is_some_and(|commit| commit.lsn >= *until);
        !went_on && !self.names().any(|name| behind(&name))
    }

    /// The timeline that left another one first, and where. One that was given up left nothing, unless somebody went on
    /// with it.
    #[must_use]
    pub fn successor(&self, timeline: Timeline) -> Option<(Timeline, Lsn)> {
        let counts = self.branches.iter().filter(|(one, _)| !self.is_given_up(**one));
        let left = counts.filter_map(|(one, branch)| Some((*one, branch.history.switch_of(timeline)?)));
        left.min_by_key(|(_, at)| *at)
    }

    /// The timeline that a server of the backup takes that is told `latest`: the last one whose history comes after its own
    /// without a gap in the numbers (`findNewestTimeLine` in `timeline.c`).
    fn found_by_server(&self, base: Base) -> Timeline {
        let mut found = base.timeline;
        while self.branches.contains_key(&Timeline(found.0.saturating_add(1))) {
            found = Timeline(found.0 + 1);
        }
        found
    }

    /// Finds a timeline that is not on the way of another one and has newer commits: following that one would lose them
    /// without a word. Only commits that somebody read count.
    fn outlived(&self, followed: Timeline, base: Base) -> Option<Refusal> {
        let history = self.history(followed).unwrap_or_else(|| TimelineHistory::root(followed));
        let reached: Timestamp = self.newest.get(&followed).map_or(base.ended_at, |own| own.at.max(base.ended_at));
        let astray = self.newest.iter().filter(|(one, commit)| {
            **one != followed
                && commit.at > reached
                && commit.lsn >= self.leaves(&history, **one)
                && !self.is_given_up(**one)
        });
        let (left, commit) = astray.max_by_key(|(_, commit)| commit.at)?;
        Some(Refusal::Outlived { followed, reached, left: self.describe(*left), newest: commit.at, timeline: *left })
    }

    /// Where a timeline parts from the way of another one.
    pub(super) fn leaves(&self, way: &TimelineHistory, timeline: Timeline) -> Lsn {
        let begin = || self.branches.get(&timeline).and_then(|branch| branch.history.parent()).map(|(_, begin)| begin);
        way.switch_of(timeline).or_else(begin).unwrap_or_default()
    }
}
