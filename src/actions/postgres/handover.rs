//! Whether a finished segment was archived: where our own archiving puts it, else by what the server's archiver says.

use std::sync::Arc;
use std::time::Duration;

use super::archive::{self, Shelf, keys};
use super::connect::Session;
use super::facts::{ServerFacts, archives};
use super::layout::Cluster;
use crate::action::{ActionError, RunContext, Store};
use crate::base::clock;
use crate::pgformat::{SegmentName, SegmentSize, SystemId};

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The last file that the archiver's command took.
const LAST_ARCHIVED: &str = "SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver";

/// What became of a finished segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handover {
    /// It is in the archive.
    Archived,
    /// It was not there in time.
    Late,
    /// The server archives nothing, or is thrown away.
    None,
}

/// A server's archive as one finished segment is looked for in it.
pub(super) struct Handovers<'a> {
    cluster: &'a Cluster,
    cx: &'a RunContext,
    facts: &'a ServerFacts,
}

impl<'a> Handovers<'a> {
    pub(super) fn of(cluster: &'a Cluster, cx: &'a RunContext, facts: &'a ServerFacts) -> Self {
        Self { cluster, cx, facts }
    }

    /// Waits until a segment was archived.
    ///
    /// # Errors
    /// Fails when the server or a store gives no answer, and when it is cancelled.
    pub(super) async fn wait(
        &self,
        session: &mut Session,
        segment: SegmentName,
        within: Duration,
    ) -> Result<Handover, ActionError> {
        if !archives(&self.facts.archiving) || self.cluster.is_scratch() {
            return Ok(Handover::None);
        }
        let stores = match self.facts.archiving.command.contains(" wal push ") && self.cluster.archive().is_ok() {
            true => archive::opened(self.cluster, |name| self.cx.store(name))?,
            false => Vec::new(),
        };
        let started = clock::monotonic();
        loop {
            let is_there = match stores.is_empty() {
                true => taken(session, segment).await?,
                false => self.shelf(&stores)?.holds(segment).await?,
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

    fn shelf<'s>(&'s self, stores: &'s [Arc<dyn Store>]) -> Result<Shelf<'s>, ActionError> {
        let (_, prefix) = self.cluster.archive()?;
        let stores = stores.iter().map(|store| (store.as_read(), keys(&self.cx.about, store.name()))).collect();
        Ok(Shelf { stores, prefix, system_id: SystemId(self.facts.system_id), size: size(self.facts)? })
    }
}

/// The size of a server's segments.
///
/// # Errors
/// Fails when what it told makes no sense.
pub(super) fn size(facts: &ServerFacts) -> Result<SegmentSize, ActionError> {
    let size = u32::try_from(facts.wal_segment_bytes).ok().and_then(SegmentSize::new);
    size.ok_or_else(|| ActionError::fatal("the server's segment size makes no sense"))
}

/// Tells whether the archiver's command took a segment, or a later one of its timeline. A history or a label of a backup
/// begins with no or with its own segment.
///
/// # Errors
/// Fails as the server does.
pub(super) async fn taken(session: &mut Session, segment: SegmentName) -> Result<bool, ActionError> {
    let last = session.value(LAST_ARCHIVED).await?;
    let last = last.get(..24).and_then(|name| name.parse::<SegmentName>().ok());
    Ok(last.is_some_and(|last| last.timeline() == segment.timeline() && last >= segment))
}
