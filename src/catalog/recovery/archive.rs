//! What the archive of one cluster holds, and how far it leads.

use std::collections::{BTreeMap, BTreeSet};

use super::{Base, Fault, Hole, Path, Reach};
use crate::base::Timestamp;
use crate::catalog::WalListing;
use crate::pgformat::{Lsn, SegmentName, SegmentSize, Timeline, TimelineHistory};

/// A timeline of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Its path.
    pub history: TimelineHistory,
    /// When it was promoted; as far as only a listing tells, when its history reached the archive.
    pub created_at: Timestamp,
}

/// The newest commit at the end of a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LastCommit {
    /// When, by the clock of its server.
    pub at: Timestamp,
    /// Where its record begins.
    pub lsn: Lsn,
}

/// What the WAL of a timeline tells of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Its beginning: when it was promoted.
    Promotion,
    /// Its end: the newest commit.
    End,
}

/// A segment that no key here opens, and that would tell of times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Where it ends: what lies behind it was read.
    pub until: Lsn,
    /// The reason.
    pub why: String,
}

/// What is known of a stored segment's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// As far as was looked, they are right.
    Whole,
    /// They are fewer or more than a segment has.
    WrongSize,
    /// They are not those that were stored.
    Damaged(String),
}

/// A segment of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its size as stored.
    pub stored_bytes: u64,
    /// What is known of its bytes.
    pub condition: Condition,
}

impl Segment {
    /// A segment of which nothing bad is known.
    #[must_use]
    pub fn whole(stored_bytes: u64) -> Self {
        Self { stored_bytes, condition: Condition::Whole }
    }
}

/// What the archive of one cluster holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The size of a segment.
    pub size: SegmentSize,
    /// Timelines that have a history file.
    pub branches: BTreeMap<Timeline, Branch>,
    /// Its segments.
    pub segments: BTreeMap<SegmentName, Segment>,
    /// Unfinished last segments: their timelines led up to them.
    pub partial: BTreeSet<SegmentName>,
    /// Segments that replay will find although the archive does not have them: they came with the backup, or were
    /// rescued from the lost server.
    pub aside: BTreeSet<SegmentName>,
    /// The newest commit at the end of a timeline, where somebody read it.
    pub newest: BTreeMap<Timeline, LastCommit>,
    /// When somebody last wrote to a timeline, as far as that was read beside `newest`.
    pub wrote_until: BTreeMap<Timeline, Timestamp>,
    /// Timelines whose servers were stopped for good by a recovery that had opened them too early, each with the position
    /// that it was stopped at.
    pub given_up: BTreeMap<Timeline, Lsn>,
    /// When a timeline was promoted, where somebody read it in its own WAL: [`Branch::created_at`] may be later.
    pub promoted: BTreeMap<Timeline, Timestamp>,
    /// Timelines of which was not read when they were promoted, or last written to, since no key here opens the segment that
    /// would tell.
    pub unread: BTreeMap<(Timeline, Part), Unread>,
}

impl Archive {
    /// An archive that holds nothing yet.
    #[must_use]
    pub fn empty(size: SegmentSize) -> Self {
        let (branches, segments, partial) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let (newest, given_up, promoted) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (aside, wrote_until, unread) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        Self { size, branches, segments, partial, aside, newest, wrote_until, given_up, promoted, unread }
    }

    /// Adds what was listed of a timeline.
    pub fn add(&mut self, listing: &WalListing) {
        for (name, bytes) in &listing.segments {
            let whole = listing.is_whole(*name, self.size);
            let condition = if whole { Condition::Whole } else { Condition::WrongSize };
            self.segments.insert(*name, Segment { stored_bytes: *bytes, condition });
        }
        self.partial.extend(&listing.partial);
    }

    /// Adds what another store of the same cluster has: a segment that is whole in one of them counts as whole.
    ///
    /// # Errors
    /// Fails with a timeline that the two tell differently: then two servers were promoted to it.
    pub fn join(&mut self, other: Self) -> Result<(), Timeline> {
        for (name, segment) in other.segments {
            if !self.holds(name) {
                self.segments.insert(name, segment);
            }
        }
        for (timeline, theirs) in other.branches {
            let own = self.branches.entry(timeline).or_insert_with(|| theirs.clone());
            if own.history != theirs.history {
                return Err(timeline);
            }
            own.created_at = own.created_at.min(theirs.created_at);
        }
        for (timeline, until) in other.given_up {
            self.give_up(timeline, until);
        }
        self.partial.extend(other.partial);
        self.aside.extend(other.aside);
        Ok(())
    }

    /// Tells whether the archive itself has a segment that can be replayed.
    #[must_use]
    pub fn holds(&self, name: SegmentName) -> bool {
        self.segments.get(&name).is_some_and(|segment| segment.condition == Condition::Whole)
    }

    /// Tells what keeps a segment from being replayed; `None` when nothing does.
    #[must_use]
    pub fn fault(&self, name: SegmentName) -> Option<Fault> {
        if self.aside.contains(&name) {
            return None;
        }
        match self.segments.get(&name) {
            None => Some(Fault::Missing),
            Some(Segment { condition: Condition::Whole, .. }) => None,
            Some(Segment { condition: Condition::WrongSize, stored_bytes: bytes }) => {
                Some(Fault::WrongSize { bytes: *bytes })
            }
            Some(Segment { condition: Condition::Damaged(why), .. }) => Some(Fault::Damaged(why.clone())),
        }
    }

    /// The path to a timeline; one without history file is a root.
    #[must_use]
    pub fn history(&self, timeline: Timeline) -> Option<TimelineHistory> {
        if let Some(branch) = self.branches.get(&timeline) {
            return Some(branch.history.clone());
        }
        let known = timeline == Timeline::FIRST || self.names().any(|segment| segment.timeline() == timeline);
        known.then(|| TimelineHistory::root(timeline))
    }

    /// The segments that lead to a timeline.
    #[must_use]
    pub fn path(&self, timeline: Timeline) -> Path {
        let history = self.history(timeline).unwrap_or_else(|| TimelineHistory::root(timeline));
        Path::of(&history, self.size)
    }

    /// The segment that holds a position, along a timeline.
    #[must_use]
    pub fn at(&self, timeline: Timeline, lsn: Lsn) -> SegmentName {
        self.path(timeline).name(self.size.number_of(lsn))
    }

    /// Adds a commit that somebody saw on a timeline: the newest counts.
    pub fn saw(&mut self, timeline: Timeline, commit: LastCommit) {
        let known = self.newest.entry(timeline).or_insert(commit);
        if known.at < commit.at {
            *known = commit;
        }
    }

    /// Adds when a timeline was written to: the newest counts.
    pub fn wrote(&mut self, timeline: Timeline, at: Timestamp) {
        let known = self.wrote_until.entry(timeline).or_insert(at);
        *known = at.max(*known);
    }

    /// Adds that a part of a timeline was not read.
    pub fn could_not_read(&mut self, (timeline, part): (Timeline, Part), unread: Unread) {
        self.unread.entry((timeline, part)).or_insert(unread);
    }

    /// Tells whether what was not read at the end of a timeline lies before a backup on its own way: then nothing was committed
    /// behind the backup there, whatever it holds.
    pub(super) fn is_passed(&self, base: Base, timeline: Timeline, unread: &Unread) -> bool {
        unread.until <= base.start && self.leading(base).contains(&timeline)
    }

    /// When the last promotion on the way along a timeline was, as far as somebody read it.
    #[must_use]
    pub fn last_promotion(&self, followed: Timeline) -> Option<Timestamp> {
        let history = self.history(followed)?;
        history.path().iter().filter_map(|span| self.promoted.get(&span.timeline)).max().copied()
    }

    /// What is not known beside a way that was found: whether another timeline has newer commits.
    #[must_use]
    pub fn unknown_beside(&self, base: Base, followed: Timeline) -> Vec<String> {
        let counts = |(one, part): &(Timeline, Part), unread: &Unread| {
            *one != followed && *part == Part::End && !self.is_passed(base, *one, unread)
        };
        let ends = self.unread.iter().filter(|(at, unread)| counts(at, unread));
        let told = |((one, _), Unread { why, .. }): (&(Timeline, Part), &Unread)| {
            format!("whether timeline {one} has newer commits is not known: {why}")
        };
        ends.map(told).collect()
    }

    /// Adds that a timeline was given up at a position.
    pub fn give_up(&mut self, timeline: Timeline, until: Lsn) {
        let known = self.given_up.entry(timeline).or_insert(until);
        *known = until.max(*known);
    }

    /// Follows the archive from the backup's start along a timeline, up to the first hole.
    #[must_use]
    pub fn reach(&self, timeline: Timeline, base: Base) -> Reach {
        let path = self.path(timeline);
        let from = self.size.number_of(base.start);
        let through = self.proven_through(&path, Some(base));
        let found = (from..=through).find_map(|number| Some((number, self.fault(path.name(number))?)));
        let last = |behind: u64| (behind > from).then(|| path.name(behind - 1));
        match found {
            None => Reach { last: last(through.max(from.saturating_sub(1)) + 1), hole: None },
            Some((number, fault)) => Reach { last: last(number), hole: Some(self.hole(&path, number, through, fault)) },
        }
    }

    /// The hole that begins at a number: as many segments as share its reason.
    pub(super) fn hole(&self, path: &Path, from: u64, through: u64, fault: Fault) -> Hole {
        let same = |number: &u64| self.fault(path.name(*number)).as_ref() == Some(&fault);
        let segments = (from..=through).take_while(same).count().max(1) as u64;
        Hole { first: path.name(from), last: path.name(from + segments - 1), segments, fault }
    }

    /// The number up to which something proves that a path was written: later WAL, a fork, or the end of a backup.
    ///
    /// A timeline reached the fork of each of its children, whichever of them is followed (facts 2.10.2).
    pub(super) fn proven_through(&self, path: &Path, base: Option<Base>) -> u64 {
        let number = |name: SegmentName| name.number(self.size);
        let stored = self.names().filter(|name| path.holds(*name)).map(number).max();
        let partial = self.partial.iter().filter(|name| path.holds(**name)).map(|name| number(*name).saturating_sub(1));
        let below = |at: Lsn| self.size.number_of(at).checked_sub(1);
        let on_path = |timeline: Timeline, number: &u64| path.name(*number).timeline() == timeline;
        let forks = self.branches.values().flat_map(|branch| {
            let history = &branch.history;
            path.timelines().filter_map(move |timeline| {
                let last = below(history.switch_of(timeline)?)?;
                on_path(timeline, &last).then_some(last)
            })
        });
        let end = base.map(|base| self.size.number_of(Lsn(base.stop.0.saturating_sub(1))));
        partial.chain(forks).chain(stored).chain(end).max().unwrap_or_default()
    }

    /// Every whole file that carries a segment's name, wherever it is.
    pub(super) fn names(&self) -> impl Iterator<Item = SegmentName> {
        self.segments.keys().chain(&self.aside).copied()
    }
}
