//! Decides, before anything is touched, where a recovery ends and along which timeline.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::outside_writes::Passage;
use super::rescue::Tail;
use super::target_search;
use super::wal_source::{UnarchivedWal, WalSource};
use crate::action::{ActionError, ReadStore};
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::marker::{Course, Marker};
use crate::actions::postgres::restore::recovery_target::{Ending, RecoveryTarget};
use crate::actions::postgres::stores::archive::{WalArchive, unread};
use crate::base::clock;
use crate::catalog::recovery::{Archive, Base, Condition, Fault, Goal, Refusal, Settled, Way};
use crate::catalog::{GivenUp, Manifest};
use crate::pgformat::{Lsn, SegmentName, Timeline, WalFileName};
use crate::wal::{Asked, CommitTimes, Keys, WalError, replay_end};

/// How long WAL may take to arrive that later WAL overtook.
const ARRIVED_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A decided plan.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReplayPlan {
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
    /// Later timelines without a history file: a promoted server must not take their numbers.
    pub(crate) taken: Vec<Timeline>,
    /// What is worth knowing about the decision.
    pub(crate) notes: Vec<String>,
}

impl ReplayPlan {
    /// The last segment of the way that the archive has: with it a fetch is tried out.
    pub(crate) fn probe_segment(&self) -> Option<SegmentName> {
        self.path.iter().rev().copied().find(|name| self.archived.contains(name))
    }

    /// The first segment of the way that the archive has.
    pub(crate) fn first(&self) -> Option<SegmentName> {
        self.path.iter().copied().find(|name| self.archived.contains(name))
    }

    /// The WAL of the way.
    pub(crate) fn wal_source<'a>(&'a self, wal_archive: &'a WalArchive<'a>, aside: UnarchivedWal<'a>) -> WalSource<'a> {
        WalSource { wal_archive, archived: &self.archived, aside }
    }

    /// The WAL of the way, to be looked through.
    pub(crate) fn passage<'a>(&'a self, wal_archive: &'a WalArchive<'a>, aside: UnarchivedWal<'a>) -> Passage<'a> {
        Passage { wal_source: self.wal_source(wal_archive, aside), plan: self, segment_cache: None }
    }
}

/// Decides the course of a recovery as [`decide`] does. Of an archive that a live server still writes to, a hole that is
/// only seconds old is looked at again: several segments are stored at once, and one may be there before another that it
/// follows.
///
/// # Errors
/// Fails as [`decide`].
pub(crate) async fn settled(
    context: &RecoveryContext<'_>,
    marker: &Marker,
    aside: UnarchivedWal<'_>,
    recovery_target: &RecoveryTarget,
) -> Result<ReplayPlan, ActionError> {
    let (wal_archive, began, mut noted) = (context.wal_archive(marker), clock::monotonic(), None);
    loop {
        let decided = decide(&wal_archive, marker, aside, recovery_target).await;
        // What a lost server wrote comes from nobody any more.
        let may_change = decided.is_err() && context.cluster.is_scratch() && began.elapsed() < ARRIVED_WITHIN;
        let arriving = if may_change { arriving(&wal_archive, base(marker), aside).await } else { None };
        let Some((missing, next)) = arriving else { return decided };
        if noted != Some(missing) {
            let message = format!("`{missing}` is not in the archive, and `{next}` only just is: looking again");
            context.cx.reporter.note(message, serde_json::json!({ "missing": missing.to_string() }));
            noted = Some(missing);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = context.cx.cancel.cancelled() => return decided,
        }
    }
}

/// Finds the end of the first hole of the archive and the segment behind it, where that one came a moment ago, by the
/// store's clock.
async fn arriving(
    wal_archive: &WalArchive<'_>,
    base: Base,
    aside: UnarchivedWal<'_>,
) -> Option<(SegmentName, SegmentName)> {
    let mut archive = wal_archive.view().await.ok()?;
    archive.aside.extend(aside.embedded);
    let hole = archive.reach(archive.latest(base), base).hole.filter(|hole| hole.fault == Fault::Missing)?;
    let next = hole.last.next(wal_archive.size);
    let came_at = wal_archive.names().await.ok()?.get(&WalFileName::Segment(next)).copied()?;
    (clock::between(came_at, clock::now()) < ARRIVED_WITHIN).then_some((hole.last, next))
}

/// Decides the course of a recovery. A segment that turns out to be damaged is a hole, and then the way is looked for anew: a
/// target before it can be had all the same.
///
/// # Errors
/// Fails when the goal lies before the backup's end, before where a recovery waits, behind a hole of the archive, inside the
/// drop of a database, or on several timelines, and when the old server's own WAL breaks off before it. Nothing was touched then.
async fn decide(
    wal_archive: &WalArchive<'_>,
    marker: &Marker,
    aside: UnarchivedWal<'_>,
    recovery_target: &RecoveryTarget,
) -> Result<ReplayPlan, ActionError> {
    let (base, goal) = (base(marker), &recovery_target.goal);
    let mut archive = wal_archive.view().await?;
    archive.reachable(goal, base)?;
    archive.aside.extend(aside.embedded);
    archive.aside.extend(aside.tail.segments());
    archive.branches.extend(aside.tail.branches.clone());
    if let Some(GivenUp { timeline, until }) = aside.tail.given_up {
        archive.give_up(timeline, until);
    }
    let reached = marker.waits.map(|waiting| waiting.reached);
    let searched = target_search::Searched { wal_archive, archive: &archive, aside, base, reached };
    let found = target_search::timeline(&searched, goal, recovery_target.timeline).await?;
    // Also for one that was named: what its children copied of it ends where they were promoted. And where the backup leads
    // to one alone: it may have been left for another.
    if matches!(goal, Goal::Time(_)) && !(archive.given_up.is_empty() && archive.branches.is_empty()) {
        wal_archive.date(&mut archive).await?;
        aside.tail.lives_in(&mut archive);
    }
    // Also for one that was named: what another one got beside it is lost all the same.
    if *goal == Goal::Newest && !archive.branches.is_empty() {
        wal_archive.date_ends(&mut archive, base.start).await?;
        aside.tail.seen_by(&mut archive);
    }
    // The way as the archive has it: the server reads ahead of what it replays.
    let mut before: Option<(Way, BTreeSet<SegmentName>)> = None;
    loop {
        let way = archive.way(goal, base, found.timeline)?;
        let archived: BTreeSet<SegmentName> = way.path.iter().copied().filter(|name| archive.holds(*name)).collect();
        let wal_source = WalSource { wal_archive, archived: &archived, aside };
        match ends((wal_source, &way), recovery_target, found.at).await {
            Ok(settled) => {
                let settled = settled?;
                refuse_torn(&archive, &way, aside.tail, (goal, &settled.goal))?;
                let as_it_was = before.filter(|(first, _)| first.followed == way.followed);
                let (way, archived) = as_it_was.unwrap_or((way, archived.clone()));
                let course = course(WalSource { archived: &archived, ..wal_source }, &way, &settled).await?;
                let beside = match settled.goal {
                    Goal::Newest => commit_times(&wal_source).lost_beside(&archive, way.followed, base).await,
                    Goal::Immediate | Goal::Time(_) | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => Vec::new(),
                };
                let lost_since = beside.iter().map(|lost| lost.begin.earliest()).min();
                let course = Course { promoted_at: archive.last_promotion(way.followed), lost_since, ..course };
                let Settled { goal, told, note, .. } = settled;
                let unknown =
                    archive.unknown_beside(base, way.followed).into_iter().map(|fact| format!("warning: {fact}"));
                // A standby takes no number: it follows the archive.
                let taken = match recovery_target.ending {
                    Ending::Promote | Ending::Pause => archive.taken_numbers(way.followed),
                    Ending::Standby => Vec::new(),
                };
                let lost = beside.iter().map(|lost| format!("warning: {}", lost.words(way.followed)));
                let notes = note.into_iter().chain(unknown).chain(lost).collect();
                // A server that is told `latest` would go for the last number of which it finds anything.
                let timeline = told.or_else(|| (!taken.is_empty()).then_some(way.followed));
                return Ok(ReplayPlan { goal, timeline, course, path: way.path, archived, taken, notes });
            }
            Err(error) if !has_become_a_hole(&mut archive, &error) => return Err(unread(&error)),
            Err(_) => before = before.or(Some((way, archived))),
        }
    }
}

/// The times of the WAL that is there.
fn commit_times<'a>(wal_source: &'a WalSource<'a>) -> CommitTimes<'a> {
    wal_source.wal_archive.commit_times().with(wal_source)
}

/// Decides where replay of a way ends, as who looked ahead did.
async fn ends(
    (wal_source, way): (WalSource<'_>, &Way),
    recovery_target: &RecoveryTarget,
    at: Option<Lsn>,
) -> Result<Result<Settled, Refusal>, WalError> {
    let RecoveryTarget { goal, edge, .. } = recovery_target;
    let rescued = |name: &SegmentName| wal_source.aside.tail.path_of(*name).is_some();
    let looked_through = |name: &SegmentName| wal_source.archived.contains(name) || rescued(name);
    let readable: Vec<SegmentName> = way.path.iter().copied().filter(looked_through).collect();
    let end =
        replay_end(&commit_times(&wal_source), (way, &readable), Asked { goal, place: goal, at, edge: *edge }).await?;
    Ok(end.map(|end| end.settled))
}

/// Takes a segment of an archive for a hole whose content turned out to be damaged.
fn has_become_a_hole(archive: &mut Archive, error: &WalError) -> bool {
    let WalError::Damaged { name: WalFileName::Segment(name), what } = error else { return false };
    let segment = archive.segments.get_mut(name).filter(|segment| segment.condition == Condition::Whole);
    segment.map(|segment| segment.condition = Condition::Damaged(what.clone())).is_some()
}

/// Refuses old WAL that is torn where the target needs it: it costs nothing where it is not on the way, or the archive has what
/// follows it.
fn refuse_torn(archive: &Archive, way: &Way, tail: &Tail, (asked, told): (&Goal, &Goal)) -> Result<(), ActionError> {
    let path = archive.path(way.followed);
    let counts = |latest: SegmentName| path.holds(latest) && !archive.holds(latest);
    match &tail.torn {
        Some(torn) if counts(torn.latest) => tail.leads_to(asked, told),
        Some(_) | None => Ok(()),
    }
}

/// What a replay is measured against.
async fn course(wal_source: WalSource<'_>, way: &Way, settled: &Settled) -> Result<Course, ActionError> {
    let floor = match settled.goal {
        Goal::Newest => wal_source.end(&way.path).await?,
        Goal::Immediate | Goal::Time(_) | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => {
            way.path.last().map(|last| last.start(wal_source.wal_archive.size))
        }
    };
    Ok(Course {
        start: way.base.start,
        end: settled.end,
        timeline: way.followed,
        floor,
        promoted_at: None,
        lost_since: None,
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
    let wal_archive = WalArchive { stores, prefix, system_id: facts.system_id, size: facts.segment_size };
    let mut archive = wal_archive.view().await?;
    archive.aside.extend(facts.segments());
    let ended_at = manifest.stopped_at;
    let base = Base { timeline: facts.timeline, start: facts.start_lsn, stop: facts.stop_lsn, ended_at };
    Ok(archive.reach(archive.latest(base), base).hole.map(|hole| hole.first))
}
