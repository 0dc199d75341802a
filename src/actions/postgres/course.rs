//! Decides, before anything is touched, where a recovery ends and along which timeline.

use std::collections::BTreeSet;

use super::archive::Shelf;
use super::landmark;
use super::marker::Marker;
use super::replay::Course;
use super::rescue::Tail;
use super::target::{Archive, Base, Goal};
use crate::action::{ActionError, ReadStore};
use crate::base::Timestamp;
use crate::catalog::Manifest;
use crate::pgformat::{Lsn, SegmentName, Timeline, TimelineHistory};
use crate::wal::Keys;

/// A decided course.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// Where the server is told to end.
    pub(crate) goal: Goal,
    /// The timeline it is told; `None` for `latest`.
    pub(crate) timeline: Option<Timeline>,
    /// What the replay is measured against.
    pub(crate) course: Course,
    /// The segments that replay will read at most.
    pub(crate) path: Vec<SegmentName>,
    /// The last of them that the archive has: with it a fetch is tried out.
    pub(crate) witness: Option<SegmentName>,
    /// What is worth knowing about the decision.
    pub(crate) note: Option<String>,
}

/// WAL that replay will find although the archive does not have it yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aside<'a> {
    /// Segments that came with the backup.
    pub(crate) embedded: &'a BTreeSet<SegmentName>,
    /// What is to be rescued.
    pub(crate) tail: &'a Tail,
}

/// Decides the course of a recovery.
///
/// # Errors
/// Fails when the goal lies before the backup's end, behind a hole of the archive, or on several
/// timelines. Nothing was touched then.
pub(crate) async fn decide(
    shelf: Shelf<'_>,
    marker: &Marker,
    aside: Aside<'_>,
    (goal, wanted): (&Goal, Option<Timeline>),
) -> Result<Plan, ActionError> {
    let base = base(marker);
    let mut archive = shelf.view().await?;
    archive.reachable(goal, base)?;
    let stored = archive.segments.clone();
    archive.segments.extend(aside.embedded);
    archive.segments.extend(aside.tail.segments());
    archive.branches.extend(aside.tail.branches.clone());
    let wanted = match wanted {
        Some(wanted) => Some(wanted),
        None => landmark::timeline(shelf, (&archive, &stored), base, goal).await?,
    };
    let timeline = archive.timeline(goal, base, wanted)?;
    let followed = timeline.unwrap_or_else(|| archive.latest(base));
    let reach = archive.reach(followed, base);
    let end = reach.last.map(|last| last.end(shelf.size));
    if end.is_none_or(|end| end < base.stop) {
        whole(&archive, followed, base)?;
        let shown = end.map_or_else(|| "nowhere".to_owned(), |end| end.to_string());
        let fact = format!("the archive ends at {shown}, before the backup is consistent at {}", base.stop);
        return Err(ActionError::fatal(fact).help("use another backup"));
    }
    let last = match goal {
        Goal::Immediate => Some(archive.at(followed, Lsn(base.stop.0.saturating_sub(1)))),
        Goal::Newest | Goal::Time(_) | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => reach.last,
    };
    let path = path(&archive, followed, base, last);
    let witness = path.iter().rev().copied().find(|name| stored.contains(name));
    let newest = match goal {
        Goal::Time(_) => {
            let readable: Vec<SegmentName> = path.iter().copied().filter(|name| stored.contains(name)).collect();
            match aside.tail.newest_commit_on(&path) {
                Some(newest) => Some(newest),
                None => shelf.newest_commit(&readable).await?,
            }
        }
        Goal::Newest | Goal::Immediate | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => None,
    };
    let (goal, timeline, note) = match goal {
        Goal::Time(at) if newest.is_none_or(|newest| newest <= *at) => {
            whole(&archive, followed, base)?;
            (Goal::Newest, Some(followed), Some(past_the_end(*at, newest)))
        }
        Goal::Newest => {
            whole(&archive, followed, base)?;
            (Goal::Newest, timeline, None)
        }
        Goal::Lsn(lsn) if end.is_none_or(|end| *lsn > end) => {
            whole(&archive, followed, base)?;
            let shown = end.map_or_else(|| "nowhere".to_owned(), |end| end.to_string());
            return Err(ActionError::fatal(format!(
                "the target `{lsn}` lies behind the end of the archive at {shown}"
            )));
        }
        other => (other.clone(), timeline, None),
    };
    let end = match &goal {
        Goal::Lsn(lsn) => Some(*lsn),
        Goal::Immediate => Some(base.stop),
        Goal::Newest | Goal::Time(_) | Goal::Name(_) | Goal::Xid(_) => end,
    };
    let floor = path.last().map(|last| last.start(shelf.size));
    let course = Course { start: base.start, end, timeline: followed, floor };
    Ok(Plan { goal, timeline, course, path, witness, note })
}

/// The backup as decisions see it.
pub(crate) fn base(marker: &Marker) -> Base {
    Base { timeline: marker.timeline, start: marker.start, stop: marker.stop, ended_at: marker.ended_at }
}

/// Refuses an archive with a hole: the server would open before it without a word.
pub(crate) fn whole(archive: &Archive, timeline: Timeline, base: Base) -> Result<(), ActionError> {
    let reach = archive.reach(timeline, base);
    let Some(hole) = reach.hole else { return Ok(()) };
    let last = reach.last.map_or_else(|| "nothing".to_owned(), |last| format!("`{last}`"));
    let fact = format!("the archive has a hole: `{hole}` is missing, though later segments exist; it leads to {last}");
    Err(ActionError::fatal(fact).help("bring the segment back, or recover to a target before the hole"))
}

/// Finds the first segment that the archive lacks after a backup, on the newest timeline that leads on from it.
///
/// # Errors
/// Fails when the store gives no answer.
pub(crate) async fn hole(
    store: &dyn ReadStore,
    prefix: &str,
    manifest: &Manifest,
) -> Result<Option<SegmentName>, ActionError> {
    let facts = manifest.cluster().map_err(|error| super::archive::broken(&error))?;
    let shelf = Shelf { store, prefix, system_id: facts.system_id, size: facts.segment_size, keys: Keys::none() };
    let mut archive = shelf.view().await?;
    archive.segments.extend(facts.segments());
    let ended_at = manifest.stopped_at;
    let base = Base { timeline: facts.timeline, start: facts.start_lsn, stop: facts.stop_lsn, ended_at };
    Ok(archive.reach(archive.latest(base), base).hole)
}

fn path(archive: &Archive, timeline: Timeline, base: Base, last: Option<SegmentName>) -> Vec<SegmentName> {
    let Some(last) = last else { return Vec::new() };
    let history = archive.history(timeline).unwrap_or_else(|| TimelineHistory::root(timeline));
    let numbers = archive.size.number_of(base.start)..=last.number(archive.size);
    numbers.map(|number| history.segment(number, archive.size)).collect()
}

fn past_the_end(at: Timestamp, newest: Option<Timestamp>) -> String {
    let known = newest
        .map_or_else(|| "no commit after the backup".to_owned(), |newest| format!("its newest commit is of {newest}"));
    format!("the archive is complete and holds no commit after {at} ({known}): recovering to its end")
}
