//! Whether a finished segment was archived: where our own archiving puts it, else by what the server's archiver says.

use std::sync::Arc;
use std::time::Duration;

use super::archive::{self, WalArchive, keys};
use crate::action::{ActionError, RunContext, Store};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::facts::{ServerFacts, archives};
use crate::base::clock;
use crate::pgformat::{Lsn, SegmentName, SegmentSize, SystemId, Timeline};
use crate::wal::Invocation;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The last file that the archiver's command took.
const LAST_ARCHIVED: &str = "SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver";

/// What became of a finished segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handover {
    /// It is in the archive.
    Archived,
    /// It was not there in time.
    Late,
    /// The server archives nothing, or is thrown away.
    None,
}

/// A server's archive as one finished segment is looked for in it.
pub(crate) struct Handovers<'a> {
    cluster: &'a Cluster,
    cx: &'a RunContext,
    facts: &'a ServerFacts,
}

impl<'a> Handovers<'a> {
    pub(crate) fn of(cluster: &'a Cluster, cx: &'a RunContext, facts: &'a ServerFacts) -> Self {
        Self { cluster, cx, facts }
    }

    /// Waits until a segment was archived.
    ///
    /// # Errors
    /// Fails when the server or a store gives no answer, and when it is cancelled.
    pub(crate) async fn wait(
        &self,
        session: &mut Session,
        segment: SegmentName,
        within: Duration,
    ) -> Result<Handover, ActionError> {
        if !archives(&self.facts.archiving) || self.cluster.is_scratch() {
            return Ok(Handover::None);
        }
        let is_ours = Invocation::of(&self.facts.archiving.command).is_some();
        let stores = match is_ours && self.cluster.archive().is_ok() {
            true => archive::opened(self.cluster, |name| self.cx.store(name))?,
            false => Vec::new(),
        };
        let started = clock::monotonic();
        loop {
            let is_there = match stores.is_empty() {
                true => taken(session, segment).await?,
                false => self.wal_archive(&stores)?.holds(segment).await?,
            };
            if is_there {
                return Ok(Handover::Archived);
            }
            if started.elapsed() > within {
                return Ok(Handover::Late);
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.cx.cancel.cancelled() => {
                    return Err(ActionError::cancelled(format!("cancelled while `{segment}` was on its way to the archive")));
                }
            }
        }
    }

    fn wal_archive<'s>(&'s self, stores: &'s [Arc<dyn Store>]) -> Result<WalArchive<'s>, ActionError> {
        let (_, prefix) = self.cluster.archive()?;
        let stores = stores.iter().map(|store| (store.as_read(), keys(&self.cx.about, store.name()))).collect();
        Ok(WalArchive { stores, prefix, system_id: SystemId(self.facts.system_id), size: size(self.facts)? })
    }
}

/// The size of a server's segments.
///
/// # Errors
/// Fails when what it told makes no sense.
pub(crate) fn size(facts: &ServerFacts) -> Result<SegmentSize, ActionError> {
    let size = u32::try_from(facts.wal_segment_bytes).ok().and_then(SegmentSize::new);
    size.ok_or_else(|| ActionError::fatal("the server's segment size makes no sense"))
}

/// Tells whether the archiver's command took a segment, or a later one of its timeline. A history or a label of a backup
/// begins with no or with its own segment.
///
/// # Errors
/// Fails as the server does.
pub(crate) async fn taken(session: &mut Session, segment: SegmentName) -> Result<bool, ActionError> {
    let last = session.value(LAST_ARCHIVED).await?;
    let last = last.get(..24).and_then(|name| name.parse::<SegmentName>().ok());
    Ok(last.is_some_and(|last| last.timeline() == segment.timeline() && last >= segment))
}

/// Writes a commit and finishes its segment: an idle server would never switch by itself.
///
/// The segment is the one that `pg_switch_wal` says it finished. The commit without a change of its own is not flushed, so
/// `pg_current_wal_lsn` may still name the segment before. It is computed here: at a boundary `pg_walfile_name` answers
/// otherwise before PostgreSQL 17 than since.
pub(crate) async fn switch(
    session: &mut Session,
    (timeline, size): (Timeline, SegmentSize),
) -> Result<SegmentName, ActionError> {
    session.query("BEGIN; SELECT txid_current(); COMMIT").await?;
    let text = session.value("SELECT pg_switch_wal()").await?;
    let end: Lsn =
        text.parse().map_err(|_| ActionError::fatal(format!("the server's position `{text}` makes no sense")))?;
    Ok(SegmentName::new(timeline, size.number_of(Lsn(end.0.saturating_sub(1))), size))
}
