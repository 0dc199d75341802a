//! Everything that can be recovered: one lane per timeline, with its intervals and the gaps between them (facts 2.6).

use std::collections::{BTreeMap, BTreeSet};

use super::{Archive, BaseBackup, Fault, Hole, Path};
use crate::base::Timestamp;
use crate::pgformat::{Lsn, SegmentName, SegmentSize, Timeline};

/// What of one timeline's own stretch can be recovered. What lies before its fork belongs to its parent's lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The timeline.
    pub timeline: Timeline,
    /// The timeline it left, and where; `None` for a root.
    pub parent: Option<(Timeline, Lsn)>,
    /// Every position in one of them can be recovered; in order, apart from each other.
    pub intervals: Vec<Interval>,
    /// What lies between, before and behind them although WAL of it was written.
    pub gaps: Vec<Gap>,
}

/// How an interval begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// With the end of a backup.
    Backup {
        /// The backup.
        id: String,
        /// When it ended.
        at: Timestamp,
    },
    /// With the timeline itself: a backup of an ancestor leads over the fork.
    Fork {
        /// When it was promoted.
        at: Timestamp,
    },
}

/// Positions that can all be recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// How it begins.
    pub opening: Opening,
    /// The first position.
    pub from: Lsn,
    /// The last position.
    pub to: Lsn,
    /// The numbers of the segments that hold its first and its last position.
    pub numbers: (u64, u64),
    /// The timeline whose segments are read for the end of it: its own, or a child's copy of its last segment.
    pub followed: Timeline,
    /// The backups that lead into it, oldest first.
    pub backups: Vec<String>,
}

/// Positions that existed and cannot be recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Where it begins.
    pub from: Lsn,
    /// Where it ends: with the next interval, or with what is known to have been written.
    pub to: Lsn,
    /// The segments that are to blame. None: there is no base backup to begin with.
    pub holes: Vec<Hole>,
}

/// Finds what can be recovered of each timeline, oldest first.
#[must_use]
pub fn lanes(archive: &Archive, backups: &[BaseBackup]) -> Vec<Lane> {
    let of_backups = backups.iter().map(|backup| backup.base.timeline);
    let of_segments = archive.segments.keys().map(|name| name.timeline());
    let all: BTreeSet<Timeline> = archive.branches.keys().copied().chain(of_segments).chain(of_backups).collect();
    all.into_iter().map(|timeline| Surveyor::of(archive, backups, timeline).lane()).collect()
}

/// Tells whether any backup can use a segment, to become consistent or to lead on. Where there is none, nothing says so, and
/// all of it counts.
#[must_use]
pub fn is_of_use(name: SegmentName, size: SegmentSize, backups: &[BaseBackup]) -> bool {
    let leads_on = |backup: &BaseBackup| name.timeline() >= backup.base.timeline && name.end(size) > backup.base.start;
    backups.is_empty() || backups.iter().any(leads_on)
}

/// Surveys one timeline.
struct Surveyor<'a> {
    archive: &'a Archive,
    all: &'a [BaseBackup],
    backups: Vec<&'a BaseBackup>,
    timeline: Timeline,
    fork: Option<Lsn>,
    path: Path,
    embedded: BTreeMap<SegmentName, &'a str>,
    blamed: BTreeSet<u64>,
}

impl<'a> Surveyor<'a> {
    fn of(archive: &'a Archive, backups: &'a [BaseBackup], timeline: Timeline) -> Self {
        let history = archive.history(timeline);
        let leads = |backup: &&BaseBackup| {
            let base = backup.base;
            backup.fault.is_none()
                && (base.timeline == timeline || history.as_ref().is_some_and(|h| h.contains(base.timeline, base.stop)))
        };
        let inside = |backup: &'a BaseBackup| backup.embedded.iter().map(|name| (*name, backup.id.as_str()));
        Self {
            all: backups,
            backups: backups.iter().filter(leads).collect(),
            embedded: backups.iter().flat_map(inside).collect(),
            fork: archive.branches.get(&timeline).and_then(|branch| branch.history.parent()).map(|(_, fork)| fork),
            path: archive.path(timeline),
            blamed: BTreeSet::new(),
            archive,
            timeline,
        }
    }

    fn lane(mut self) -> Lane {
        let mut found: Vec<Interval> =
            self.backups.clone().into_iter().filter_map(|backup| self.stretch(backup)).collect();
        found.sort_by_key(|interval| (interval.from, interval.to));
        let mut intervals: Vec<Interval> = Vec::new();
        for next in found {
            match intervals.last_mut().filter(|last| next.from <= last.to) {
                Some(last) => last.join(next),
                None => intervals.push(next),
            }
        }
        let parent = self.archive.branches.get(&self.timeline).and_then(|branch| branch.history.parent());
        let mut gaps = self.gaps(&intervals);
        gaps.retain(|gap| !self.is_of_no_use(gap));
        Lane { timeline: self.timeline, parent, intervals, gaps }
    }

    /// What one backup makes recoverable of this timeline's own stretch.
    fn stretch(&mut self, backup: &BaseBackup) -> Option<Interval> {
        let base = backup.base;
        let with_own = self.archive.with(backup);
        let archive = with_own.as_ref().unwrap_or(self.archive);
        let mut best: Option<(Lsn, Timeline)> = None;
        for (followed, bound) in archive.carriers(self.timeline) {
            let reach = archive.reach(followed, base);
            let end = reach.last.map(|last| last.end(archive.size)).unwrap_or_default();
            let end = bound.map_or(end, |bound| end.min(bound));
            if let Some(hole) = reach.hole {
                self.blamed.insert(hole.first.number(archive.size));
            }
            if best.is_none_or(|(furthest, _)| furthest < end) {
                best = Some((end, followed));
            }
        }
        let (to, followed) = best?;
        let own = self.fork.filter(|_| base.timeline != self.timeline);
        let (from, opening) = match own {
            Some(fork) => (fork, Opening::Fork { at: self.archive.branches.get(&self.timeline)?.created_at }),
            None => (base.stop, Opening::Backup { id: backup.id.clone(), at: base.ended_at }),
        };
        // A fork by itself is the parent's; a backup's own end is a position of its own.
        let reached = to >= base.stop && if own.is_some() { to > from } else { to >= from };
        let last = archive.size.number_of(Lsn(to.0.saturating_sub(1)));
        let numbers = (archive.size.number_of(from), last);
        reached.then(|| Interval { opening, from, to, numbers, followed, backups: vec![backup.id.clone()] })
    }

    /// What lies between the intervals, before the first and behind the last.
    fn gaps(&self, intervals: &[Interval]) -> Vec<Gap> {
        let written = self.written();
        // Backups that bring their own WAL are all that is known of a timeline without an archive.
        let begin = written.map(|(begin, _)| begin).or(intervals.first().map(|first| first.from));
        let Some(mut at) = begin else { return Vec::new() };
        let mut gaps = Vec::new();
        for (number, interval) in intervals.iter().enumerate() {
            let gap = (at < interval.from).then(|| self.gap(at, interval.from));
            // Before the first of them nothing is expected, unless something is to blame.
            gaps.extend(gap.filter(|gap| number > 0 || !gap.holes.is_empty()));
            at = at.max(interval.to);
        }
        gaps.extend(written.filter(|(_, end)| at < *end).map(|(_, end)| self.gap(at, end)));
        gaps
    }

    /// Tells whether all that a gap lacks is WAL that no backup can use: retention removes that, and nobody misses it.
    fn is_of_no_use(&self, gap: &Gap) -> bool {
        let unused = |hole: &Hole| hole.fault == Fault::Missing && !is_of_use(hole.last, self.archive.size, self.all);
        !gap.holes.is_empty() && gap.holes.iter().all(unused)
    }

    /// What is known to have been written of this timeline's own stretch, from the first backup that leads into it
    /// on: WAL before that may have been pruned.
    fn written(&self) -> Option<(Lsn, Lsn)> {
        let archive = self.archive;
        let own = |name: &&SegmentName| name.timeline() == self.timeline && self.path.holds(**name);
        let first = archive.segments.keys().find(own).map(|name| name.start(archive.size));
        let backup = self.backups.iter().map(|backup| backup.base.start).min();
        let begin = self.fork.max(backup).or(first)?;
        let through = archive.proven_through(&self.path, None);
        let end = SegmentName::new(self.timeline, through, archive.size).end(archive.size);
        (end > begin).then_some((begin, end))
    }

    fn gap(&self, from: Lsn, to: Lsn) -> Gap {
        let size = self.archive.size;
        let numbers = size.number_of(from)..=size.number_of(Lsn(to.0.saturating_sub(1)));
        let before = self.blamed.iter().copied().filter(|number| *number < size.number_of(from));
        // Holes of an ancestor keep its backups from reaching the fork.
        let earlier: Vec<u64> = if self.fork == Some(from) { before.collect() } else { Vec::new() };
        let mut holes: Vec<Hole> = Vec::new();
        for number in earlier.into_iter().chain(numbers) {
            let name = self.path.name(number);
            let Some(fault) = self.fault(name) else { continue };
            match holes.last_mut().filter(|last| last.fault == fault && last.last.number(size) + 1 == number) {
                Some(last) => (last.last, last.segments) = (name, last.segments + 1),
                None => holes.push(Hole { first: name, last: name, segments: 1, fault }),
            }
        }
        Gap { from, to, holes }
    }

    fn fault(&self, name: SegmentName) -> Option<Fault> {
        let fault = self.archive.fault(name)?;
        match (fault, self.embedded.get(&name)) {
            (Fault::Missing, Some(backup)) => Some(Fault::OnlyIn { backup: (*backup).to_owned() }),
            (fault, _) => Some(fault),
        }
    }
}

impl Interval {
    /// Takes in another one that begins inside it.
    fn join(&mut self, other: Self) {
        self.backups.extend(other.backups);
        if other.to > self.to {
            (self.to, self.followed) = (other.to, other.followed);
            self.numbers.1 = self.numbers.1.max(other.numbers.1);
        }
    }

    /// Tells whether a position can be recovered by it.
    #[must_use]
    pub fn contains(&self, lsn: Lsn) -> bool {
        (self.from..=self.to).contains(&lsn)
    }
}
