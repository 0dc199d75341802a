//! Makes the plan of a recovery, or finds out why there is none.

use std::collections::BTreeSet;

use serde::Serialize;

use super::super::change_search::{Sighting, Wanted};
use super::super::{Asked, LostBeside, ReplayEnd, Stop, UnarchivedSegments as _, WalError, replay_end};
use super::{ClusterView, Hunt, LookError, Recoverable, ToRetrieve, readable};
use crate::base::Timestamp;
use crate::catalog::recovery::{
    Choice, Condition, Edge, Goal, Interval, Lane, PassedOver, Refusal, Settled, TablespaceSize, choose, lanes,
    without_epoch,
};
use crate::pgformat::{Commit, Lsn, SegmentName, SystemId, Timeline, WalFileName};

/// How many segments a recovery has at the same time besides those that it has replayed: the one under replay, as the
/// server's `RECOVERYXLOG`; the next, on its way there; the last of the old timeline, copied into the new; and the one that
/// the checkpoint at the end of the recovery goes on into.
pub const BESIDE_REPLAY: u64 = 4;

/// What came of it.
pub enum Planned {
    /// It can be done.
    Possible(Box<Plan>),
    /// It cannot.
    Impossible(Impossible),
}

/// How a goal is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The cluster.
    pub system_id: SystemId,
    /// What the server is told, and why it may differ from what was asked.
    pub settled: Settled,
    /// The backup.
    pub backup: ChosenBackup,
    /// What is replayed.
    pub replay: Replay,
    /// Where replay stops, where that could be read.
    pub stop: Option<Stop>,
    /// The newest commit that the archive has along the timeline: what comes after the stop is given up.
    pub newest_commit: Option<Commit>,
    /// When the newest commit was made that there is along it, in the archive or at the server alone.
    pub newest_at: Option<Timestamp>,
    /// The timelines that were begun after the one that is followed, and not given up: what was committed on them is given up as a whole.
    pub later: Vec<Timeline>,
    /// What was committed on others while the one that is followed was written to as well, of a recovery to the newest state.
    pub beside: Vec<LostBeside>,
    /// Newer backups that were passed over.
    pub passed_over: Vec<PassedOver>,
    /// What of the backup must be retrieved before it can be read.
    pub retrieval: Option<ToRetrieve>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// Other timelines of which is not known whether they have newer commits, each with the reason.
    pub unread: Vec<String>,
    /// Why the recovery will be refused as things stand: the server's own WAL breaks off although it had gone on.
    pub tear: Option<String>,
}

/// The backup to begin with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChosenBackup {
    /// Its id.
    pub id: String,
    /// Its kind: it says what restores it.
    pub kind: String,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Itself and what it rests on, the full one first.
    pub chain: Vec<String>,
    /// What a restore reads.
    pub stored_bytes: u64,
    /// What a restore writes.
    pub plain_bytes: u64,
    /// What of that goes into tablespaces outside the data directory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tablespaces: Vec<TablespaceSize>,
}

/// The WAL to replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// The timeline that is followed.
    pub timeline: Timeline,
    /// Where it begins.
    pub from: Lsn,
    /// Where it ends at most.
    pub to: Lsn,
    /// The first segment.
    pub first: String,
    /// The last one.
    pub last: String,
    /// How many.
    pub segments: u64,
    /// Their size.
    pub bytes: u64,
    /// What is fetched of them; those that came with the backup are not.
    pub stored_bytes: u64,
}

/// Why there is no way.
pub struct Impossible {
    /// The reason.
    pub why: Refusal,
    /// What each backup lacks, newest first.
    pub passed_over: Vec<PassedOver>,
    /// What can be recovered instead: each timeline with its intervals.
    pub instead: Vec<(Timeline, Interval)>,
    /// Where the reason is a hole: the last position before it that a recovery can end at, where that could be read.
    pub before_hole: Option<(Timeline, Lsn)>,
}

/// Plans a recovery of the cluster that archives now, or else of an older one, to a goal with or without what happened
/// there.
///
/// # Errors
/// Fails when the store gives no answer or WAL cannot be read.
pub async fn plan(
    mut found: Recoverable,
    (goal, edge): (&Goal, Edge),
    wanted: Option<Timeline>,
) -> Result<Planned, LookError> {
    let mut refused = None;
    for mut cluster in std::mem::take(&mut found.clusters) {
        match of_cluster(&found, &mut cluster, (goal, edge), wanted).await? {
            Planned::Possible(plan) => return Ok(Planned::Possible(plan)),
            Planned::Impossible(why) => refused = refused.or(Some(why)),
        }
    }
    let none = || Impossible {
        why: Refusal::NoBackup(goal.clone()),
        passed_over: Vec::new(),
        instead: Vec::new(),
        before_hole: None,
    };
    Ok(Planned::Impossible(refused.unwrap_or_else(none)))
}

/// A segment that turns out to be damaged on the way is a hole: then the way is looked for anew.
async fn of_cluster(
    found: &Recoverable,
    cluster: &mut ClusterView,
    asked: (&Goal, Edge),
    wanted: Option<Timeline>,
) -> Result<Planned, LookError> {
    loop {
        match attempt(found, cluster, asked, wanted).await {
            Err(LookError::Wal(WalError::Damaged { name: WalFileName::Segment(name), what })) => {
                let segment = cluster.archive.segments.get_mut(&name);
                match segment.filter(|segment| segment.condition == Condition::Whole) {
                    Some(segment) => segment.condition = Condition::Damaged(what),
                    None => return Err(WalError::Damaged { name: WalFileName::Segment(name), what }.into()),
                }
            }
            other => return other,
        }
    }
}

async fn attempt(
    found: &Recoverable,
    cluster: &mut ClusterView,
    (goal, edge): (&Goal, Edge),
    wanted: Option<Timeline>,
) -> Result<Planned, LookError> {
    if matches!(goal, Goal::Time(_)) {
        found.commit_times(cluster.system_id, cluster.archive.size).date(&mut cluster.archive).await?;
        found.remnant.iter().for_each(|remnant| remnant.lives_in(cluster));
    }
    if let (Some(why), None) = (torn(cluster, goal), wanted) {
        return Ok(Planned::Impossible(impossible(cluster, why, Vec::new())));
    }
    if *goal == Goal::Newest && !cluster.archive.branches.is_empty() {
        let start = cluster.backups.iter().map(|backup| backup.base.start).min().unwrap_or_default();
        found.commit_times(cluster.system_id, cluster.archive.size).date_ends(&mut cluster.archive, start).await?;
        found.remnant.iter().for_each(|remnant| remnant.seen_by(cluster));
    }
    let sighted = match sighted(found, cluster, goal, wanted).await? {
        Ok(sighted) => sighted,
        Err(why) => return Ok(Planned::Impossible(impossible(cluster, why, Vec::new()))),
    };
    if let (Goal::Xid(_) | Goal::Name(_), None) = (goal, &sighted) {
        return Ok(Planned::Impossible(impossible(cluster, Refusal::NotFound(goal.clone()), Vec::new())));
    }
    // What has a position is reached as any position; the server is told its name all the same.
    let (place, timeline) = match sighted {
        Some((timeline, lsn)) => (Goal::Lsn(lsn), Some(timeline)),
        None => (goal.clone(), wanted),
    };
    let (choices, mut passed_over) = choose(&cluster.archive, &cluster.backups, &place, timeline);
    let mut first_refusal = None;
    for choice in choices {
        match settle((found, cluster), &choice, (goal, &place), edge).await? {
            Ok(mut plan) => {
                passed_over.retain(|one| newer(cluster, &one.id, choice.backup.base.ended_at));
                plan.passed_over = passed_over;
                plan.retrieval = found.to_retrieve(&plan.backup.chain).await?;
                return Ok(Planned::Possible(Box::new(plan)));
            }
            // An older backup leads into the same drop.
            Err(why @ Refusal::HalfDropped { .. }) => {
                return Ok(Planned::Impossible(impossible(cluster, why, passed_over)));
            }
            Err(why) => {
                first_refusal.get_or_insert_with(|| why.clone());
                passed_over.push(PassedOver { id: choice.backup.id.clone(), why });
            }
        }
    }
    let is_ambiguous = |one: &&PassedOver| {
        matches!(
            one.why,
            Refusal::Several(_) | Refusal::Outlived { .. } | Refusal::Unread { .. } | Refusal::HistoryLost { .. }
        )
    };
    let is_left = |one: &&PassedOver| matches!(one.why, Refusal::Left { .. });
    let ambiguous = passed_over.iter().find(is_ambiguous).or_else(|| passed_over.iter().find(is_left));
    let ambiguous = ambiguous.map(|one| one.why.clone());
    let only = passed_over.first().filter(|_| passed_over.len() == 1).map(|one| one.why.clone());
    let why = ambiguous.or(first_refusal).or(only).unwrap_or_else(|| Refusal::NoBackup(goal.clone()));
    let before_hole = before_hole((found, cluster), &why).await;
    Ok(Planned::Impossible(Impossible { before_hole, ..impossible(cluster, why, passed_over) }))
}

/// Refuses a time that lies on several timelines on which was written at once: the newest backup was taken on one of them, and
/// which one that is says nothing of which is meant.
fn torn(cluster: &ClusterView, goal: &Goal) -> Option<Refusal> {
    let Goal::Time(at) = goal else { return None };
    let before = cluster.backups.iter().filter(|backup| backup.fault.is_none() && backup.base.ended_at <= *at);
    let at_once = before.filter(|backup| cluster.archive.went_on_beside(*at, backup.base));
    let mut refusals = at_once.filter_map(|backup| cluster.archive.timeline(goal, backup.base, None).err());
    refusals.find(|why| matches!(why, Refusal::Several(_)))
}

fn newer(cluster: &ClusterView, id: &str, than: Timestamp) -> bool {
    cluster.backups.iter().any(|backup| backup.id == id && backup.base.ended_at > than)
}

fn impossible(cluster: &ClusterView, why: Refusal, passed_over: Vec<PassedOver>) -> Impossible {
    let all = lanes(&cluster.archive, &cluster.backups);
    let of_lane = |lane: Lane| lane.intervals.into_iter().map(move |interval| (lane.timeline, interval));
    Impossible { why, passed_over, instead: all.into_iter().flat_map(of_lane).collect(), before_hole: None }
}

/// The last position before a hole at which a server can stop, where a backup leads to it.
async fn before_hole((found, cluster): (&Recoverable, &ClusterView), why: &Refusal) -> Option<(Timeline, Lsn)> {
    let Refusal::Hole { last: Some(last), .. } = why else { return None };
    let (commit_times, beyond) = (found.commit_times(cluster.system_id, cluster.archive.size), found.beyond(cluster));
    let scan = commit_times.with(&beyond).scan(*last).await.ok()?;
    Some((last.timeline(), scan.last_record?)).filter(|place| is_reached(cluster, *place))
}

/// Whether a recovery to a position is possible: one before the end of every backup, inside of which the hole lies, is not.
fn is_reached(cluster: &ClusterView, (timeline, lsn): (Timeline, Lsn)) -> bool {
    let (choices, _) = choose(&cluster.archive, &cluster.backups, &Goal::Lsn(lsn), Some(timeline));
    !choices.is_empty()
}

/// Finds a transaction's commit or a restore point, along the newest timeline first; refuses a transaction of which no timeline
/// has a commit of its own.
async fn sighted(
    found: &Recoverable,
    cluster: &ClusterView,
    goal: &Goal,
    wanted: Option<Timeline>,
) -> Result<Result<Option<(Timeline, Lsn)>, Refusal>, LookError> {
    let search = match goal {
        Goal::Xid(xid) => Wanted::Transaction(without_epoch(*xid)),
        Goal::Name(name) => Wanted::RestorePoint(name.clone()),
        Goal::Newest | Goal::Immediate | Goal::Time(_) | Goal::Lsn(_) => return Ok(Ok(None)),
    };
    let mut refused = None;
    let all = cluster.archive.segments.keys().chain(&cluster.archive.aside);
    let timelines: BTreeSet<Timeline> = all.map(|name| name.timeline()).collect();
    let newest_first = timelines.into_iter().rev().filter(|one| wanted.is_none_or(|wanted| wanted == *one));
    for timeline in newest_first {
        let mut hunt = Hunt::of(search.clone(), cluster.archive.size);
        hunt.along((found, cluster), &searched(found, cluster, timeline)).await?;
        if let Some(sighting) = hunt.found(None).first() {
            if let Some(why) = no_commit(goal, sighting) {
                refused = refused.or(Some(why));
                continue;
            }
            let history = cluster.archive.history(timeline);
            let own = history.map_or(timeline, |history| history.timeline_at(sighting.lsn));
            return Ok(Ok(Some((own, sighting.lsn))));
        }
    }
    Ok(refused.map_or(Ok(None), Err))
}

/// Why the end of a transaction is no place to recover to.
fn no_commit(goal: &Goal, sighting: &Sighting) -> Option<Refusal> {
    let (Goal::Xid(xid), Some(of)) = (goal, sighting.xid) else { return None };
    Refusal::of_end(*xid, of, sighting.committed)
}

/// What of a timeline's path is worth searching: from the first segment that a recovery can begin with.
fn searched(found: &Recoverable, cluster: &ClusterView, timeline: Timeline) -> Vec<SegmentName> {
    let (size, path) = (cluster.archive.size, cluster.archive.path(timeline));
    let first = cluster.backups.iter().map(|backup| size.number_of(backup.base.start)).min().unwrap_or_default();
    let left = found.remnant.iter().filter(|remnant| remnant.system_id == cluster.system_id);
    let left = left.flat_map(|remnant| remnant.segments.keys().copied()).filter(|name| path.holds(*name));
    let mut all = readable(cluster, timeline);
    all.extend(left);
    all.retain(|name| name.number(size) >= first);
    all.sort_by_key(|name| name.number(size));
    all.dedup();
    all
}

async fn settle(
    (found, cluster): (&Recoverable, &ClusterView),
    choice: &Choice<'_>,
    (goal, place): (&Goal, &Goal),
    edge: Edge,
) -> Result<Result<Plan, Refusal>, LookError> {
    let (archive, way) = (&cluster.archive, &choice.way);
    let (commit_times, beyond) = (found.commit_times(cluster.system_id, archive.size), found.beyond(cluster));
    let readable: Vec<SegmentName> =
        way.path.iter().copied().filter(|name| archive.holds(*name) || beyond.has(*name)).collect();
    let at = match place {
        Goal::Lsn(at) => Some(*at),
        Goal::Newest | Goal::Immediate | Goal::Time(_) | Goal::Name(_) | Goal::Xid(_) => None,
    };
    let asked = Asked { goal, place, at, edge };
    let end = replay_end(&commit_times.clone().with(&beyond), (way, &readable), asked).await?;
    let ReplayEnd { settled, newest_commit, stop } = match end {
        Ok(end) => end,
        Err(why) => return Ok(Err(why)),
    };
    let archived: Vec<SegmentName> = readable.iter().copied().filter(|name| archive.holds(*name)).collect();
    let left = readable.len() - archived.len();
    let begun: Vec<SegmentName> = archived.iter().copied().filter(|name| beyond.has(*name)).collect();
    let newest_commit = match goal {
        Goal::Immediate => None,
        Goal::Time(_) if left == 0 && begun.is_empty() => newest_commit,
        Goal::Newest | Goal::Time(_) | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => {
            commit_times.newest_commit_before(&archived, way.bound.unwrap_or(Lsn(u64::MAX))).await?
        }
    };
    let newest_at = match beyond.remnant {
        Some(remnant) => remnant.newest_commit(newest_commit, &way.path),
        None => newest_commit.map(|commit| commit.at),
    };
    let beside = match goal {
        Goal::Newest => commit_times.with(&beyond).lost_beside(archive, way.followed, way.base).await,
        Goal::Immediate | Goal::Time(_) | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => Vec::new(),
    };
    let inside = way.path.len() - readable.len();
    let embedded = (inside > 0).then(|| format!("{inside} segments are not in the archive but came with the backup"));
    let tear = beyond.remnant.and_then(|left| left.tear.as_ref());
    let tear = tear.and_then(|tear| tear.note((place, &settled.goal), (archive, way.followed)));
    let rescued = (left > 0).then(|| format!("{left} segments are not in the archive yet; the server still has them"));
    let begun = begun.iter().map(|name| {
        format!("the archive has only the beginning of `{name}`; the server still has what was written in it since")
    });
    Ok(Ok(Plan {
        notes: settled.note.iter().cloned().chain(embedded).chain(rescued).chain(begun).collect(),
        unread: archive.unknown_beside(way.base, way.followed),
        tear,
        newest_at,
        later: later(cluster, way.followed, &beside),
        beside,
        ..of(cluster, choice, (settled, stop), newest_commit)
    }))
}

/// The timelines that the archive knows and that were begun after one, without those that are told by themselves.
fn later(cluster: &ClusterView, followed: Timeline, beside: &[LostBeside]) -> Vec<Timeline> {
    let archive = &cluster.archive;
    let is_told = |timeline: &Timeline| beside.iter().any(|one| one.timeline == *timeline);
    let begun = archive.branches.keys().copied().filter(|timeline| *timeline > followed && !is_told(timeline));
    begun.filter(|timeline| !archive.given_up.contains_key(timeline)).collect()
}

/// The plan of a settled goal.
fn of(
    cluster: &ClusterView,
    choice: &Choice<'_>,
    (settled, stop): (Settled, Option<Stop>),
    newest_commit: Option<Commit>,
) -> Plan {
    let (way, backup) = (&choice.way, choice.backup);
    let path = match stop.and_then(|stop| way.path.iter().position(|name| *name == stop.segment)) {
        Some(last) => &way.path[..=last],
        None => &way.path[..],
    };
    let to = stop.map(|stop| stop.next.lsn).or(settled.end).or(way.end).unwrap_or(backup.base.stop);
    Plan {
        system_id: cluster.system_id,
        replay: replay(cluster, choice, path, to),
        backup: ChosenBackup {
            id: backup.id.clone(),
            kind: backup.kind.clone(),
            ended_at: backup.base.ended_at,
            chain: backup.chain.clone(),
            stored_bytes: backup.stored_bytes,
            plain_bytes: backup.plain_bytes,
            tablespaces: backup.tablespaces.clone(),
        },
        settled,
        stop,
        newest_commit,
        newest_at: None,
        later: Vec::new(),
        beside: Vec::new(),
        passed_over: Vec::new(),
        retrieval: None,
        notes: Vec::new(),
        unread: Vec::new(),
        tear: None,
    }
}

fn replay(cluster: &ClusterView, choice: &Choice<'_>, path: &[SegmentName], to: Lsn) -> Replay {
    let stored = |name: &SegmentName| cluster.archive.segments.get(name).map(|segment| segment.stored_bytes);
    let told = |name: Option<&SegmentName>| name.map(ToString::to_string).unwrap_or_default();
    Replay {
        timeline: choice.way.followed,
        from: choice.backup.base.start,
        first: told(path.first()),
        last: told(path.last()),
        segments: path.len() as u64,
        bytes: path.len() as u64 * cluster.archive.size.bytes(),
        stored_bytes: path.iter().filter_map(stored).sum(),
        to,
    }
}

impl Plan {
    /// What must be free: the data, at most all of the WAL beside it, and the segments that a recovery has besides those:
    /// the one under replay, and those that the new timeline and the checkpoint at its end begin.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let segment = self.replay.bytes.checked_div(self.replay.segments).unwrap_or_default();
        let wal = self.replay.bytes.saturating_add(BESIDE_REPLAY * segment);
        self.backup.plain_bytes.saturating_add(wal)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;
    use crate::catalog::recovery::{Archive, Base, BaseBackup, Segment};
    use crate::pgformat::SegmentSize;

    #[test]
    fn no_position_is_named_before_a_hole_that_lies_inside_every_backup() {
        let (system_id, size) = (SystemId(7), SegmentSize::DEFAULT);
        let (start, stop) = (Lsn(2 << 24), Lsn((3 << 24) + 256));
        let base = Base { timeline: Timeline(1), start, stop, ended_at: "2026-01-28T10:00:00Z".parse().unwrap() };
        let backup = BaseBackup {
            id: "one".to_owned(),
            kind: "postgres_base".to_owned(),
            system_id,
            base,
            embedded: BTreeSet::new(),
            chain: vec!["one".to_owned()],
            stored_bytes: 1,
            plain_bytes: 1,
            tablespaces: Vec::new(),
            fault: None,
        };
        let with = |numbers: &[u64]| {
            let mut archive = Archive::empty(size);
            for number in numbers {
                let name = SegmentName::new(Timeline(1), *number, size);
                archive.segments.insert(name, Segment::whole(size.bytes()));
            }
            ClusterView { system_id, archive, backups: vec![backup.clone()] }
        };
        let inside = with(&[2, 4]);
        assert!(!is_reached(&inside, (Timeline(1), Lsn((2 << 24) + 4096))));
        let behind = with(&[2, 3, 5]);
        assert!(is_reached(&behind, (Timeline(1), Lsn((3 << 24) + 4096))));
    }
}
