//! Where a recovery ends and along which timeline (facts 2.3.3–2.3.6, 2.10.3, 2.10.12). Pure.
//!
//! A target names the timeline that was live at it: `latest` would follow the promotion of an
//! earlier attempt and silently lack what the user asks for.

use std::collections::{BTreeMap, BTreeSet};

use crate::action::ActionError;
use crate::base::Timestamp;
use crate::pgformat::{Lsn, SegmentName, SegmentSize, Timeline, TimelineHistory};

/// Where a recovery is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Goal {
    /// At the end of the archived WAL.
    Newest,
    /// At the end of the backup, as soon as the data is consistent.
    Immediate,
    /// At the last commit not after a time.
    Time(Timestamp),
    /// At a position.
    Lsn(Lsn),
    /// At a named restore point.
    Name(String),
    /// After the commit of a transaction.
    Xid(u64),
}

/// A timeline of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Branch {
    /// Its path.
    pub(crate) history: TimelineHistory,
    /// When its history reached the archive: about when it was promoted.
    pub(crate) created_at: Timestamp,
}

/// What the archive of one cluster holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archive {
    /// The size of a segment.
    pub(crate) size: SegmentSize,
    /// Timelines that have a history file.
    pub(crate) branches: BTreeMap<Timeline, Branch>,
    /// Whole segments.
    pub(crate) segments: BTreeSet<SegmentName>,
}

/// The backup a recovery begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    /// Its timeline.
    pub(crate) timeline: Timeline,
    /// Where replay begins.
    pub(crate) start: Lsn,
    /// Where it is consistent.
    pub(crate) stop: Lsn,
    /// When it ended.
    pub(crate) ended_at: Timestamp,
}

/// How far the archive leads along one timeline without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The last segment before the first hole; `None` when even the first is missing.
    pub(crate) last: Option<SegmentName>,
    /// The first missing segment, when a later one exists.
    pub(crate) hole: Option<SegmentName>,
}

impl Archive {
    /// Refuses a goal that lies before the end of the backup.
    ///
    /// # Errors
    /// Fails when it does: the server would open without a word at a later state (facts 2.3.4).
    pub(crate) fn reachable(&self, goal: &Goal, base: Base) -> Result<(), ActionError> {
        let early = match goal {
            Goal::Time(at) if *at < base.ended_at => Some((format!("`{at}`"), format!("`{}`", base.ended_at))),
            Goal::Lsn(lsn) if *lsn < base.stop => Some((format!("`{lsn}`"), format!("`{}`", base.stop))),
            Goal::Time(_) | Goal::Lsn(_) | Goal::Newest | Goal::Immediate | Goal::Name(_) | Goal::Xid(_) => None,
        };
        early.map_or(Ok(()), |(goal, end)| {
            let fact = format!("the target {goal} lies before the end of the backup at {end}");
            Err(ActionError::fatal(fact)
                .help("choose a backup that ended before the target (`backup.find` with `before`)"))
        })
    }

    /// Chooses the timeline. `None` stands for `latest`.
    ///
    /// # Errors
    /// Fails when the wanted timeline does not lead from the backup, or several contain the goal.
    pub(crate) fn timeline(
        &self,
        goal: &Goal,
        base: Base,
        wanted: Option<Timeline>,
    ) -> Result<Option<Timeline>, ActionError> {
        if let Some(wanted) = wanted {
            let leads = self.history(wanted).is_some_and(|history| history.contains(base.timeline, base.stop));
            if leads {
                return Ok(Some(wanted));
            }
            let fact = format!(
                "timeline {wanted} is not in the archive, or left timeline {} before the backup's end",
                base.timeline
            );
            return Err(ActionError::fatal(fact));
        }
        match goal {
            Goal::Newest => return Ok(None),
            Goal::Immediate => return Ok(Some(base.timeline)),
            Goal::Time(_) | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => {}
        }
        let live = self.live(goal, base);
        let leaves: Vec<Timeline> = live.iter().copied().filter(|one| !self.has_descendant(*one, &live)).collect();
        match leaves.as_slice() {
            [one] => Ok(Some(*one)),
            several => {
                let list: Vec<String> = several.iter().map(|one| self.describe(*one)).collect();
                let fact = format!("several timelines contain the target: {}", list.join(", "));
                Err(ActionError::fatal(fact).help("say which one with `timeline`"))
            }
        }
    }

    /// The timelines that were there at the goal and lead on from the backup, its own included.
    fn live(&self, goal: &Goal, base: Base) -> Vec<Timeline> {
        let from_base = |branch: &Branch| branch.history.contains(base.timeline, base.stop);
        let there = |branch: &Branch| match goal {
            Goal::Time(at) => branch.created_at <= *at,
            Goal::Lsn(lsn) => branch.history.parent().is_some_and(|(_, fork)| fork < *lsn),
            Goal::Newest | Goal::Immediate | Goal::Name(_) | Goal::Xid(_) => true,
        };
        let others = self.branches.iter().filter(|(_, branch)| from_base(branch) && there(branch));
        let mut all: Vec<Timeline> = others.map(|(timeline, _)| *timeline).collect();
        let parent_reaches = match goal {
            Goal::Lsn(lsn) => self.reach(base.timeline, base).last.is_some_and(|last| *lsn <= last.end(self.size)),
            Goal::Time(_) => true,
            Goal::Name(_) | Goal::Xid(_) | Goal::Newest | Goal::Immediate => all.is_empty(),
        };
        if !all.contains(&base.timeline) && (parent_reaches || all.is_empty()) {
            all.push(base.timeline);
        }
        all
    }

    fn has_descendant(&self, timeline: Timeline, among: &[Timeline]) -> bool {
        let descends =
            |other: &&Timeline| self.history(**other).is_some_and(|history| history.switch_of(timeline).is_some());
        among.iter().any(|other| descends(&other))
    }

    /// Every timeline that leads on from a backup, its own included.
    pub(crate) fn leading(&self, base: Base) -> Vec<Timeline> {
        let others = self.branches.iter().filter(|(_, branch)| branch.history.contains(base.timeline, base.stop));
        let mut all: Vec<Timeline> = others.map(|(timeline, _)| *timeline).collect();
        if !all.contains(&base.timeline) {
            all.push(base.timeline);
        }
        all
    }

    pub(crate) fn describe(&self, timeline: Timeline) -> String {
        match self.branches.get(&timeline) {
            Some(branch) => {
                let fork =
                    branch.history.parent().map_or_else(String::new, |(parent, at)| format!(" left {parent} at {at},"));
                format!("`{timeline}` ({fork} archived {})", branch.created_at)
            }
            None => format!("`{timeline}`"),
        }
    }

    /// The path to a timeline; one without history file is a root.
    pub(crate) fn history(&self, timeline: Timeline) -> Option<TimelineHistory> {
        if let Some(branch) = self.branches.get(&timeline) {
            return Some(branch.history.clone());
        }
        let known = timeline == Timeline::FIRST || self.segments.iter().any(|segment| segment.timeline() == timeline);
        known.then(|| TimelineHistory::root(timeline))
    }

    /// The segment that holds a position, along a timeline.
    pub(crate) fn at(&self, timeline: Timeline, lsn: Lsn) -> SegmentName {
        let history = self.history(timeline).unwrap_or_else(|| TimelineHistory::root(timeline));
        history.segment(self.size.number_of(lsn), self.size)
    }

    /// The newest timeline that leads on from a backup, as the server's `latest` finds it.
    pub(crate) fn latest(&self, base: Base) -> Timeline {
        let leads = |branch: &&Branch| branch.history.contains(base.timeline, base.stop);
        self.branches
            .values()
            .filter(leads)
            .map(|branch| branch.history.timeline())
            .max()
            .unwrap_or(base.timeline)
            .max(base.timeline)
    }

    /// Follows the archive from the backup's start along a timeline, up to the first hole.
    pub(crate) fn reach(&self, timeline: Timeline, base: Base) -> Reach {
        let history = self.history(timeline).unwrap_or_else(|| TimelineHistory::root(timeline));
        let on_path = |segment: &&SegmentName| {
            let start = segment.start(self.size);
            segment.timeline() == timeline || history.switch_of(segment.timeline()).is_some_and(|fork| start < fork)
        };
        let newest = self.segments.iter().filter(on_path).map(|segment| segment.number(self.size)).max();
        let mut last = None;
        for number in self.size.number_of(base.start)..=newest.unwrap_or_default() {
            let name = history.segment(number, self.size);
            if !self.segments.contains(&name) {
                return Reach { last, hole: Some(name) };
            }
            last = Some(name);
        }
        Reach { last, hole: None }
    }
}

#[cfg(test)]
mod tests;
