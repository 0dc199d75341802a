//! Decides, before anything is touched, where a recovery ends and along which timeline.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::archive::Shelf;
use super::landmark;
use super::marker::Marker;
use super::replay::Course;
use super::rescue::Tail;
use crate::action::{ActionError, ReadFiles, ReadStore};
use crate::base::Timestamp;
use crate::catalog::Manifest;
use crate::catalog::recovery::{Archive, Base, Goal, Seen, Settled};
use crate::pgformat::{Lsn, SegmentName, Timeline};
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
#[derive(Clone, Copy)]
pub(crate) struct Aside<'a> {
    /// What reads it.
    pub(crate) files: &'a dyn ReadFiles,
    /// Segments that came with the backup.
    pub(crate) embedded: &'a BTreeSet<SegmentName>,
    /// The folder they lie in.
    pub(crate) beside: &'a Path,
    /// What is to be rescued.
    pub(crate) tail: &'a Tail,
}

/// Decides the course of a recovery.
///
/// # Errors
/// Fails when the goal lies before the backup's end, behind a hole of the archive, or on several
/// timelines. Nothing was touched then.
pub(crate) async fn decide(
    shelf: &Shelf<'_>,
    marker: &Marker,
    aside: Aside<'_>,
    (goal, wanted): (&Goal, Option<Timeline>),
) -> Result<Plan, ActionError> {
    let base = base(marker);
    let mut archive = shelf.view().await?;
    archive.reachable(goal, base)?;
    archive.aside.extend(aside.embedded);
    archive.aside.extend(aside.tail.segments());
    archive.branches.extend(aside.tail.branches.clone());
    let searched = landmark::Searched { shelf, archive: &archive, aside, base };
    let wanted = landmark::timeline(&searched, goal, wanted).await?;
    // Also for one that was named: what its children copied of it ends where they were promoted.
    if matches!(goal, Goal::Time(_)) && archive.leading(base).len() > 1 {
        shelf.date(&mut archive).await?;
    }
    let way = archive.way(goal, base, wanted)?;
    let witness = way.path.iter().rev().copied().find(|name| archive.holds(*name));
    let newest_commit = match goal {
        Goal::Time(_) => newest(shelf, &archive, &way.path, aside.tail).await?,
        Goal::Newest | Goal::Immediate | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => None,
    };
    let last_record = last_record(shelf, &archive, (goal, &way.path), aside.tail).await?;
    let Settled { goal, told, end, note } = way.settle(goal, Seen { newest_commit, last_record })?;
    let floor = way.path.last().map(|last| last.start(shelf.size));
    let course = Course { start: base.start, end, timeline: way.followed, floor };
    Ok(Plan { goal, timeline: told, course, path: way.path, witness, note })
}

/// The newest commit on a path: what is to be rescued is newer than what the archive has.
async fn newest(
    shelf: &Shelf<'_>,
    archive: &Archive,
    path: &[SegmentName],
    tail: &Tail,
) -> Result<Option<Timestamp>, ActionError> {
    if let Some(newest) = tail.newest_commit_on(path) {
        return Ok(Some(newest));
    }
    let readable: Vec<SegmentName> = path.iter().copied().filter(|name| archive.holds(*name)).collect();
    shelf.newest_commit(&readable).await
}

/// Where the last record on a path begins, when a position lies in its last segment: behind it no server stops.
async fn last_record(
    shelf: &Shelf<'_>,
    archive: &Archive,
    (goal, path): (&Goal, &[SegmentName]),
    tail: &Tail,
) -> Result<Option<Lsn>, ActionError> {
    match (goal, path.last()) {
        (Goal::Lsn(lsn), Some(last)) if *lsn >= last.start(shelf.size) => match archive.holds(*last) {
            true => shelf.last_record(*last).await,
            false => Ok(tail.last_record.filter(|_| tail.segments().any(|segment| segment == *last))),
        },
        (_, _) => Ok(None),
    }
}

/// The backup as decisions see it.
pub(crate) fn base(marker: &Marker) -> Base {
    Base { timeline: marker.timeline, start: marker.start, stop: marker.stop, ended_at: marker.ended_at }
}

/// Refuses an archive with a hole: the server would open before it without a word.
pub(crate) fn whole(archive: &Archive, timeline: Timeline, base: Base) -> Result<(), ActionError> {
    Ok(archive.reach(timeline, base).whole()?)
}

/// Finds the first segment that the archive lacks after a backup, on the newest timeline that leads on from it. What
/// one of the stores has is there.
///
/// # Errors
/// Fails when a store gives no answer.
pub(crate) async fn hole(
    stores: &[Arc<dyn ReadStore>],
    prefix: &str,
    manifest: &Manifest,
) -> Result<Option<SegmentName>, ActionError> {
    let facts = manifest.cluster().map_err(|error| super::archive::broken(&error))?;
    let stores = stores.iter().map(|store| (store.as_ref(), Keys::none())).collect();
    let shelf = Shelf { stores, prefix, system_id: facts.system_id, size: facts.segment_size };
    let mut archive = shelf.view().await?;
    archive.aside.extend(facts.segments());
    let ended_at = manifest.stopped_at;
    let base = Base { timeline: facts.timeline, start: facts.start_lsn, stop: facts.stop_lsn, ended_at };
    Ok(archive.reach(archive.latest(base), base).hole.map(|hole| hole.first))
}
