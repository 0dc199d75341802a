//! The way from a backup to a goal, and where it ends (facts 2.3.4–2.3.6, 2.10.12).

use super::{Archive, Base, Edge, Goal, Reach, Refusal};
use crate::base::Timestamp;
use crate::pgformat::{Lsn, SegmentName, SegmentSize, Timeline};

/// The way from a backup towards a goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Where it begins.
    pub base: Base,
    /// The timeline that replay follows.
    pub followed: Timeline,
    /// The timeline the server is told; `None` for `latest`.
    pub told: Option<Timeline>,
    /// Where replay must end although the timeline that is followed goes on: the goal's own one was left there, and the
    /// archive has its end only in the other's copy.
    pub bound: Option<Lsn>,
    /// A timeline with a copy of that end, of which is not known whether it was promoted before the goal.
    pub unclear: Option<Timeline>,
    /// How far the archive leads.
    pub reach: Reach,
    /// The position behind the last segment that leads there.
    pub end: Option<Lsn>,
    /// The segments that replay reads at most.
    pub path: Vec<SegmentName>,
}

/// What was read of a way's WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// The newest commit on it, by the primary's clock; where replay must end at a fork, before that.
    pub newest_commit: Option<Timestamp>,
    /// Where the last record on it begins: no server stops at a position behind it.
    pub last_record: Option<Lsn>,
}

/// A goal as the server is told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The goal; another one than was asked for where the server would end in an error although all data is there.
    pub goal: Goal,
    /// The timeline the server is told; `None` for `latest`.
    pub told: Option<Timeline>,
    /// Where replay is expected to end, where that is known.
    pub end: Option<Lsn>,
    /// What is worth knowing about it.
    pub note: Option<String>,
}

impl Archive {
    /// Finds the way from a backup towards a goal.
    ///
    /// # Errors
    /// Fails when the goal lies before the backup's end or on several timelines, or when a hole keeps the backup
    /// itself from becoming consistent. A hole behind that is judged by [`Way::settle`].
    pub fn way(&self, goal: &Goal, base: Base, wanted: Option<Timeline>) -> Result<Way, Refusal> {
        self.reachable(goal, base)?;
        let carrier = self.timeline(goal, base, wanted)?.map(|timeline| self.carrier(timeline, goal, base));
        let told = carrier.map(|carrier| carrier.followed);
        let (bound, unclear) = carrier.map_or((None, None), |carrier| (carrier.bound, carrier.unclear));
        let followed = told.unwrap_or_else(|| self.latest(base));
        let reach = self.reach(followed, base);
        let end = bound.or_else(|| reach.last.map(|last| last.end(self.size)));
        let stop = bound.map_or_else(|| goal.clone(), Goal::Lsn);
        let path = self.segments_to(&stop, base, (followed, &reach));
        let way = Way { path, base, followed, told, bound, unclear, reach, end };
        if way.end.is_none_or(|end| end < base.stop) {
            way.whole()?;
        }
        Ok(way)
    }

    /// The segments from the backup's first to the one a goal lies in, as far as the archive leads.
    fn segments_to(&self, goal: &Goal, base: Base, (followed, reach): (Timeline, &Reach)) -> Vec<SegmentName> {
        let Some(last) = reach.last.map(|last| last.number(self.size)) else { return Vec::new() };
        let bound = match goal {
            Goal::Immediate => self.size.number_of(Lsn(base.stop.0.saturating_sub(1))),
            // The server stops behind the first record that begins at the position or later.
            Goal::Lsn(lsn) => self.size.number_of(*lsn).saturating_add(1),
            Goal::Newest | Goal::Time(_) | Goal::Name(_) | Goal::Xid(_) => last,
        };
        let path = self.path(followed);
        (self.size.number_of(base.start)..=last.min(bound)).map(|number| path.name(number)).collect()
    }
}

impl Way {
    /// Refuses a hole: the server would open before it without a word.
    ///
    /// # Errors
    /// Fails when there is one.
    pub fn whole(&self) -> Result<(), Refusal> {
        self.reach.whole()
    }

    /// Whether only the last record of the way tells that a server finds a goal: a position in its last segment.
    #[must_use]
    pub fn depends_on_last_record(&self, goal: &Goal, size: SegmentSize) -> bool {
        match (goal, self.path.last()) {
            (Goal::Lsn(lsn), Some(last)) => *lsn >= last.start(size),
            (Goal::Lsn(_) | Goal::Newest | Goal::Immediate | Goal::Time(_) | Goal::Name(_) | Goal::Xid(_), _) => false,
        }
    }

    /// Decides what the server is told, by what was read of the WAL.
    ///
    /// # Errors
    /// Fails when the goal lies behind a hole, or behind the end of the archive, and when it is not known which of two
    /// timelines holds what lies before it.
    pub fn settle(&self, goal: &Goal, edge: Edge, seen: Seen) -> Result<Settled, Refusal> {
        let told = |goal: Goal, end| Settled { goal, told: self.told, end, note: None };
        let takes_all = |at: &Timestamp| seen.newest_commit.is_none_or(|newest| edge.takes(newest, *at));
        let stops_earlier = matches!(goal, Goal::Time(at) if edge == Edge::Excluded && !takes_all(at));
        if let Some(fork) = self.bound.filter(|_| !stops_earlier) {
            let note = Some(format!(
                "the archive has the end of the timeline only inside timeline {}, which left it at {fork}: recovering to there",
                self.followed
            ));
            return Ok(Settled { note, ..told(Goal::Lsn(fork), self.end) });
        }
        match goal {
            Goal::Time(at) if takes_all(at) => {
                self.whole()?;
                if let Some(child) = self.unclear {
                    return Err(Refusal::Unclear { followed: self.followed, child });
                }
                let note = Some(past_the_end((*at, edge), seen.newest_commit));
                Ok(Settled { goal: Goal::Newest, told: Some(self.followed), end: self.end, note })
            }
            Goal::Newest => {
                self.whole()?;
                Ok(told(Goal::Newest, self.end))
            }
            Goal::Lsn(lsn) if self.end.is_none_or(|end| *lsn > end) => {
                self.whole()?;
                Err(Refusal::BehindEnd { lsn: *lsn, end: self.end })
            }
            Goal::Lsn(lsn) if seen.last_record.is_some_and(|last| last < *lsn) => {
                self.whole()?;
                let note =
                    format!("the archive is complete and holds no record at or behind {lsn}: recovering to its end");
                Ok(Settled { goal: Goal::Newest, told: Some(self.followed), end: self.end, note: Some(note) })
            }
            Goal::Lsn(lsn) => Ok(told(goal.clone(), Some(*lsn))),
            Goal::Immediate => Ok(told(Goal::Immediate, Some(self.base.stop))),
            Goal::Time(_) | Goal::Name(_) | Goal::Xid(_) => Ok(told(goal.clone(), self.end)),
        }
    }
}

impl Reach {
    /// Refuses a hole: the server would open before it without a word.
    ///
    /// # Errors
    /// Fails when there is one.
    pub fn whole(&self) -> Result<(), Refusal> {
        match &self.hole {
            None => Ok(()),
            Some(hole) => Err(Refusal::Hole { hole: hole.clone(), last: self.last }),
        }
    }
}

fn past_the_end((at, edge): (Timestamp, Edge), newest: Option<Timestamp>) -> String {
    let known = newest
        .map_or_else(|| "no commit after the backup".to_owned(), |newest| format!("its newest commit is of {newest}"));
    let after = match edge {
        Edge::Included => format!("after {at}"),
        Edge::Excluded => format!("at {at} or later"),
    };
    format!("the archive is complete and holds no commit {after} ({known}): recovering to its end")
}
