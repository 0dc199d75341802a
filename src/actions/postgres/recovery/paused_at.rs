//! Whether a replay that is paused stands at its target (facts 2.4): the server says of a pause that it is one, not whose.
//! Anybody may have called `pg_wal_replay_pause()` on the way, and whoever opens the server then loses what was still to
//! come. What the target is to be found by is in the WAL: a server stops before a record or after one
//! (`recoveryStopsBefore`, `recoveryStopsAfter` in `xlogrecovery.c`), so the records on both sides of where it stands tell.

use std::time::Duration;

use super::target_search::is_goal;
use crate::action::ActionError;
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::restore::recovery_target::{AskedTarget, Edge};
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::stores::target::Goal;
use crate::catalog::recovery::Archive;
use crate::pgformat::{Lsn, SegmentName, Timeline, TransactionEnd, WalRecord, WalWalker, Walked};

/// How long the store is waited for.
const READ_WITHIN: Duration = Duration::from_secs(60);

const TOLD: &str = "SELECT coalesce(max(setting) FILTER (WHERE name = 'recovery_target'), ''), \
 coalesce(max(setting) FILTER (WHERE name = 'recovery_target_lsn'), ''), \
 coalesce(max(setting) FILTER (WHERE name = 'recovery_target_inclusive'), '') \
 FROM pg_settings WHERE name LIKE 'recovery_target%'";

/// Where a paused replay stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PausedAt {
    /// Where the server stops for its target.
    Target,
    /// Before it.
    Before,
    /// Nobody knows, for this reason.
    Unknown(String),
}

/// A target as the server was told it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    goal: Goal,
    edge: Edge,
}

impl Told {
    /// Asks the server: in the place of what was asked for it may have been told a position.
    async fn by(session: &mut Session, asked: &AskedTarget) -> Result<Self, ActionError> {
        let table = session.query(TOLD).await?;
        let edge = if table.at(0, 2) == Some("off") { Edge::Excluded } else { Edge::Included };
        let goal = match (table.at(0, 0), table.at(0, 1).and_then(|text| text.parse().ok())) {
            (Some("immediate"), _) => Goal::Immediate,
            (_, Some(lsn)) => Goal::Lsn(lsn),
            _ => asked.goal.clone(),
        };
        Ok(Self { goal, edge })
    }

    /// Whether the record before the position tells, and not the one after it.
    fn is_stopped_after(&self) -> bool {
        match (&self.goal, self.edge) {
            (Goal::Name(_), _) | (Goal::Xid(_) | Goal::Lsn(_), Edge::Included) => true,
            (Goal::Time(_) | Goal::Newest | Goal::Immediate, _) | (Goal::Xid(_) | Goal::Lsn(_), Edge::Excluded) => {
                false
            }
        }
    }

    /// Whether a record is the one that the server stops at. One of which no sense can be made is none.
    fn is_at(&self, record: &WalRecord<'_>) -> bool {
        match &self.goal {
            Goal::Time(at) => TransactionEnd::of(record).is_some_and(|end| !self.edge.takes(end.at, *at)),
            Goal::Lsn(lsn) => record.lsn >= *lsn,
            Goal::Name(_) | Goal::Xid(_) => is_goal(record, &self.goal),
            Goal::Newest | Goal::Immediate => false,
        }
    }
}

/// Looks where a paused replay stands that was told a target.
///
/// # Errors
/// Fails when the connection is lost.
pub(super) async fn look(
    (context, marker): (&RecoveryContext<'_>, &Marker),
    (asked, timeline): (&AskedTarget, Timeline),
    at: Lsn,
    session: &mut Session,
) -> Result<PausedAt, ActionError> {
    let told = Told::by(session, asked).await?;
    // Until it is consistent a server takes no session, and then it is there.
    if told.goal == Goal::Immediate {
        return Ok(PausedAt::Target);
    }
    let sides = Sides { context, marker, at };
    let judged = tokio::time::timeout(READ_WITHIN, sides.judge(&told, timeline)).await;
    Ok(match judged {
        Ok(Ok(Some(true))) => PausedAt::Target,
        Ok(Ok(Some(false))) => PausedAt::Before,
        Ok(Ok(None)) => PausedAt::Unknown(format!("no record was found at {at}")),
        Ok(Err(error)) => PausedAt::Unknown(error.in_full()),
        Err(_) => PausedAt::Unknown("the archive gives no answer".to_owned()),
    })
}

/// The WAL on both sides of a position.
struct Sides<'a> {
    context: &'a RecoveryContext<'a>,
    marker: &'a Marker,
    at: Lsn,
}

impl Sides<'_> {
    /// Whether the record on the side that tells is the target; `None` where none is found.
    async fn judge(&self, told: &Told, timeline: Timeline) -> Result<Option<bool>, ActionError> {
        let archive = self.context.wal_archive(self.marker).view().await?;
        let size = self.marker.segment_size;
        if told.is_stopped_after() {
            let own = size.number_of(Lsn(self.at.0.saturating_sub(1)));
            // It may have begun in the segment before.
            for from in [own, own.saturating_sub(1)] {
                let mut last = None;
                self.walk((&archive, timeline), from..=own, &mut |record| {
                    if record.lsn < self.at {
                        last = Some(told.is_at(record));
                    }
                })
                .await?;
                if last.is_some() {
                    return Ok(last);
                }
            }
            return Ok(None);
        }
        let own = size.number_of(self.at);
        let mut next = None;
        for to in [own, own + 1] {
            self.walk((&archive, timeline), own..=to, &mut |record| {
                if record.lsn >= self.at && next.is_none() {
                    next = Some(told.is_at(record));
                }
            })
            .await?;
            if next.is_some() {
                break;
            }
        }
        Ok(next)
    }

    /// Walks some segments, as far as they are valid.
    async fn walk(
        &self,
        (archive, timeline): (&Archive, Timeline),
        numbers: std::ops::RangeInclusive<u64>,
        see: &mut (dyn FnMut(&WalRecord<'_>) + Send),
    ) -> Result<(), ActionError> {
        let size = self.marker.segment_size;
        let mut walker = WalWalker::new(size);
        for number in numbers {
            let name = match archive.history(timeline) {
                Some(history) => history.segment(number, size),
                None => SegmentName::new(timeline, number, size),
            };
            let bytes = self.segment(archive, name).await?;
            if walker.segment(name, &bytes, see) != Walked::ToTheEnd {
                break;
            }
        }
        Ok(())
    }

    /// A segment of the archive, else one that was laid down beside the data.
    async fn segment(&self, archive: &Archive, name: SegmentName) -> Result<Vec<u8>, ActionError> {
        if archive.holds(name) {
            return self.context.wal_archive(self.marker).segment(name).await;
        }
        let path = self.context.cluster.pgdata.join("pg_wal").join(name.to_string());
        let files = self.context.cx.host.read_files();
        files.read(&path, self.marker.segment_size.bytes()).map_err(|error| {
            ActionError::retryable(format!("segment `{name}` is neither in the archive nor beside the data"))
                .because(&error)
        })
    }
}
