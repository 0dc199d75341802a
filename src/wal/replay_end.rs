//! Where the replay of a way ends, by what its WAL tells: decided here for who looks ahead and for the recovery itself.

use super::database_drop::DatabaseDrop;
use super::half_dropped::{Halt, half_dropped};
use super::{CommitTimes, Stop, WalError};
use crate::catalog::recovery::{Edge, Goal, Refusal, Seen, Settled, Way};
use crate::pgformat::{Commit, Lsn, SegmentName};

/// What is asked of a replay.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The goal.
    pub goal: &'a Goal,
    /// What the way is judged by: the goal, or the position of a transaction's end or of a restore point.
    pub place: &'a Goal,
    /// Where such a record begins, where the goal is one and that is known.
    pub at: Option<Lsn>,
    /// Whether what happened at the goal is replayed.
    pub edge: Edge,
}

/// Where a replay ends.
#[derive(Debug, Clone)]
pub struct ReplayEnd {
    /// What the server is told.
    pub settled: Settled,
    /// With a time as goal: the newest commit that was read on the way.
    pub newest_commit: Option<Commit>,
    /// Where replay to a time stops.
    pub stop: Option<Stop>,
}

/// Decides where the replay of a way ends. `readable` are those of its segments that are looked through: what came with
/// the backup alone holds nothing that a goal could lie behind.
///
/// # Errors
/// Fails when a segment cannot be read. Refuses what [`Way::settle`] refuses, and a goal inside the drop of a database: that
/// one would be left behind without its files.
pub async fn replay_end(
    commit_times: &CommitTimes<'_>,
    (way, readable): (&Way, &[SegmentName]),
    asked: Asked<'_>,
) -> Result<Result<ReplayEnd, Refusal>, WalError> {
    let newest_commit = match asked.goal {
        Goal::Time(_) => commit_times.newest_commit_before(readable, way.bound.unwrap_or(Lsn(u64::MAX))).await?,
        Goal::Newest | Goal::Immediate | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => None,
    };
    let last_record = last_record(commit_times, (way, readable), asked.place).await?;
    let seen = Seen { newest_commit: newest_commit.map(|commit| commit.at), last_record };
    let mut settled = match way.settle(asked.place, asked.edge, seen) {
        Ok(settled) => settled,
        Err(why) => return Ok(Err(why)),
    };
    if settled.goal == *asked.place {
        settled.goal = asked.goal.clone();
    }
    let stop = match &settled.goal {
        Goal::Time(at) => commit_times.stop_for(readable, (*at, asked.edge)).await?,
        Goal::Newest | Goal::Immediate | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => None,
    };
    let database_drop = match halt(&settled.goal, &asked, stop) {
        Some(halt) => half_dropped(commit_times, readable, halt).await?,
        None => None,
    };
    Ok(match database_drop {
        None => Ok(ReplayEnd { settled, newest_commit, stop }),
        Some((DatabaseDrop { database, xid, before }, name)) => {
            // Where the WAL ends before the time that was asked for, that time says more than its end.
            let goal = if settled.goal == Goal::Newest { asked.goal.clone() } else { settled.goal };
            Err(Refusal::HalfDropped { goal, database, name, xid, before, timeline: way.followed })
        }
    })
}

/// Finds where the last record of a way begins, where that decides whether a position is reached.
async fn last_record(
    commit_times: &CommitTimes<'_>,
    (way, readable): (&Way, &[SegmentName]),
    place: &Goal,
) -> Result<Option<Lsn>, WalError> {
    let last = way.path.last().copied().filter(|_| way.depends_on_last_record(place, commit_times.size()));
    match last.filter(|last| readable.contains(last) || commit_times.lies_beside(*last)) {
        Some(last) => Ok(Some(commit_times.scan(last).await?.last_position())),
        None => Ok(None),
    }
}

/// The position at which a replay ends before the end of its WAL; for a time behind all commits, that end.
fn halt(settled: &Goal, asked: &Asked<'_>, stop: Option<Stop>) -> Option<Halt> {
    match (settled, asked.goal) {
        // The commit behind the time is the first record that is left out.
        (Goal::Time(_), _) => stop.map(|stop| Halt { at: stop.next.lsn, edge: Edge::Excluded }),
        // Nothing ended behind that time: who asked for it may mean to be before what had only begun.
        (Goal::Newest, Goal::Time(_)) => Some(Halt { at: Lsn(u64::MAX), edge: Edge::Excluded }),
        (Goal::Lsn(at), _) => Some(Halt { at: *at, edge: asked.edge }),
        (Goal::Xid(_), _) => asked.at.map(|at| Halt { at, edge: asked.edge }),
        // A restore point is always replayed.
        (Goal::Name(_), _) => asked.at.map(|at| Halt { at, edge: Edge::Included }),
        (Goal::Newest | Goal::Immediate, _) => None,
    }
}
