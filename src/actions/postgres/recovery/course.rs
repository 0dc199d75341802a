//! Decides, before anything is touched, where a recovery ends and along which timeline.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::intrusion::Passage;
use super::landmark;
use super::supply::{Aside, Supply};
use crate::action::{ActionError, ReadStore};
use crate::actions::postgres::restore::aim::Aim;
use crate::actions::postgres::restore::hands::Hands;
use crate::actions::postgres::restore::marker::{Course, Marker};
use crate::actions::postgres::stores::archive::Shelf;
use crate::base::{Timestamp, clock};
use crate::catalog::recovery::{Base, Fault, Goal, Seen, Settled, Way};
use crate::catalog::{GivenUp, Manifest};
use crate::pgformat::{SegmentName, Timeline, WalFileName};
use crate::wal::Keys;

/// How long WAL may take to arrive that later WAL overtook.
const ARRIVED_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    /// Those of them that the archive has.
    pub(crate) archived: BTreeSet<SegmentName>,
    /// What is worth knowing about the decision.
    pub(crate) note: Option<String>,
}

impl Plan {
    /// The last segment of the way that the archive has: with it a fetch is tried out.
    pub(crate) fn witness(&self) -> Option<SegmentName> {
        self.path.iter().rev().copied().find(|name| self.archived.contains(name))
    }

    /// The first segment of the way that the archive has.
    pub(crate) fn first(&self) -> Option<SegmentName> {
        self.path.iter().copied().find(|name| self.archived.contains(name))
    }

    /// The WAL of the way.
    pub(crate) fn supply<'a>(&'a self, shelf: &'a Shelf<'a>, aside: Aside<'a>) -> Supply<'a> {
        Supply { shelf, archived: &self.archived, aside }
    }

    /// The WAL of the way, to be looked through.
    pub(crate) fn passage<'a>(&'a self, shelf: &'a Shelf<'a>, aside: Aside<'a>) -> Passage<'a> {
        Passage { supply: self.supply(shelf, aside), plan: self, larder: None }
    }
}

/// Decides the course of a recovery as [`decide`] does. Of an archive that a live server still writes to, a hole that is
/// only seconds old is looked at again: several segments are stored at once, and one may be there before another that it
/// follows.
///
/// # Errors
/// Fails as [`decide`].
pub(crate) async fn settled(
    hands: &Hands<'_>,
    marker: &Marker,
    aside: Aside<'_>,
    aim: &Aim,
) -> Result<Plan, ActionError> {
    let (shelf, began, mut noted) = (hands.shelf(marker), clock::monotonic(), None);
    loop {
        let decided = decide(&shelf, marker, aside, aim).await;
        // What a lost server wrote comes from nobody any more.
        let may_change = decided.is_err() && hands.cluster.is_scratch() && began.elapsed() < ARRIVED_WITHIN;
        let arriving = if may_change { arriving(&shelf, base(marker), aside).await } else { None };
        let Some((missing, next)) = arriving else { return decided };
        if noted != Some(missing) {
            let message = format!("`{missing}` is not in the archive, and `{next}` only just is: looking again");
            hands.cx.reporter.note(message, serde_json::json!({ "missing": missing.to_string() }));
            noted = Some(missing);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = hands.cx.cancel.cancelled() => return decided,
        }
    }
}

/// Finds the end of the first hole of the archive and the segment behind it, where that one came a moment ago, by the
/// store's clock.
async fn arriving(shelf: &Shelf<'_>, base: Base, aside: Aside<'_>) -> Option<(SegmentName, SegmentName)> {
    let mut archive = shelf.view().await.ok()?;
    archive.aside.extend(aside.embedded);
    let hole = archive.reach(archive.latest(base), base).hole.filter(|hole| hole.fault == Fault::Missing)?;
    let next = hole.last.next(shelf.size);
    let came_at = shelf.names().await.ok()?.get(&WalFileName::Segment(next)).copied()?;
    (clock::between(came_at, clock::now()) < ARRIVED_WITHIN).then_some((hole.last, next))
}

/// Decides the course of a recovery.
///
/// # Errors
/// Fails when the goal lies before the backup's end, before where a recovery waits, behind a hole of the archive, or on
/// several timelines, and when the old server's own WAL breaks off before it. Nothing was touched then.
async fn decide(shelf: &Shelf<'_>, marker: &Marker, aside: Aside<'_>, aim: &Aim) -> Result<Plan, ActionError> {
    let (base, goal) = (base(marker), &aim.goal);
    let mut archive = shelf.view().await?;
    archive.reachable(goal, base)?;
    archive.aside.extend(aside.embedded);
    archive.aside.extend(aside.tail.segments());
    archive.branches.extend(aside.tail.branches.clone());
    if let Some(GivenUp { timeline, until }) = aside.tail.given_up {
        archive.give_up(timeline, until);
    }
    let reached = marker.waits.map(|waiting| waiting.reached);
    let searched = landmark::Searched { shelf, archive: &archive, aside, base, reached };
    let wanted = landmark::timeline(&searched, goal, aim.timeline).await?;
    // Also for one that was named: what its children copied of it ends where they were promoted. And where the backup leads
    // to one alone: it may have been left for another.
    if matches!(goal, Goal::Time(_)) && !(archive.given_up.is_empty() && archive.branches.is_empty()) {
        shelf.date(&mut archive).await?;
        aside.tail.lives_in(&mut archive);
    }
    if *goal == Goal::Newest && wanted.is_none() && !archive.branches.is_empty() {
        shelf.date_ends(&mut archive, base.start).await?;
        aside.tail.seen_by(&mut archive);
    }
    let way = archive.way(goal, base, wanted)?;
    let archived: BTreeSet<SegmentName> = way.path.iter().copied().filter(|name| archive.holds(*name)).collect();
    let supply = Supply { shelf, archived: &archived, aside };
    let settled = way.settle(goal, aim.edge, seen(supply, &way, goal).await?)?;
    // Old WAL that is torn costs nothing where it is not on the way, or the archive has what follows it.
    let path = archive.path(way.followed);
    let counts = |latest: SegmentName| path.holds(latest) && !archive.holds(latest);
    if aside.tail.torn.as_ref().is_some_and(|torn| counts(torn.latest)) {
        aside.tail.leads_to(goal, &settled.goal)?;
    }
    let floor = match settled.goal {
        Goal::Newest => supply.end(&way.path).await?,
        Goal::Immediate | Goal::Time(_) | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => {
            way.path.last().map(|last| last.start(shelf.size))
        }
    };
    let Settled { goal, told, end, note } = settled;
    let course = Course { start: base.start, end, timeline: way.followed, floor };
    Ok(Plan { goal, timeline: told, course, path: way.path, archived, note })
}

/// Reads what the decision about a goal needs to know of the WAL itself.
async fn seen(supply: Supply<'_>, way: &Way, goal: &Goal) -> Result<Seen, ActionError> {
    let newest_commit = match goal {
        Goal::Time(_) => newest(supply, way).await?,
        Goal::Newest | Goal::Immediate | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => None,
    };
    let last = way.path.last().filter(|_| way.depends_on_last_record(goal, supply.shelf.size));
    let last_record = match last {
        Some(last) => Some(supply.scan(*last).await?.last_position()),
        None => None,
    };
    Ok(Seen { newest_commit, last_record })
}

/// The newest commit on a way. What is to be rescued may also fill a hole before what the archive has.
async fn newest(supply: Supply<'_>, way: &Way) -> Result<Option<Timestamp>, ActionError> {
    let readable: Vec<SegmentName> = way.path.iter().copied().filter(|name| supply.archived.contains(name)).collect();
    let archived = supply.shelf.newest_commit(&readable, way.bound).await?;
    // A commit to be rescued counts up to the bound only, which is told by position and not by time.
    Ok(match way.bound {
        None => supply.aside.tail.newest_commit_on(&way.path).max(archived),
        Some(_) => archived,
    })
}

/// The backup as decisions see it.
pub(crate) fn base(marker: &Marker) -> Base {
    Base { timeline: marker.timeline, start: marker.start, stop: marker.stop, ended_at: marker.ended_at }
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
    let facts = manifest.cluster().map_err(|error| crate::actions::postgres::stores::archive::broken(&error))?;
    let stores = stores.iter().map(|store| (store.as_ref(), Keys::none())).collect();
    let shelf = Shelf { stores, prefix, system_id: facts.system_id, size: facts.segment_size };
    let mut archive = shelf.view().await?;
    archive.aside.extend(facts.segments());
    let ended_at = manifest.stopped_at;
    let base = Base { timeline: facts.timeline, start: facts.start_lsn, stop: facts.stop_lsn, ended_at };
    Ok(archive.reach(archive.latest(base), base).hole.map(|hole| hole.first))
}
