//! Proves archiving as the server does it: a finished segment reaches every store that must have it.

use std::sync::Arc;
use std::time::Duration;

use super::super::archive::{Shelf, keys};
use super::super::connect::Session;
use super::super::facts::ServerFacts;
use super::super::handover;
use super::super::proof::switch;
use crate::action::{ActionError, RunContext, Store};
use crate::base::clock;
use crate::base::units::Span;
use crate::event::Progress;
use crate::pgformat::{SegmentName, SystemId};

const TICK: Duration = Duration::from_millis(100);

/// What the server's archiver says of itself.
const ARCHIVER: &str = "SELECT coalesce(last_failed_wal, ''), failed_count FROM pg_stat_archiver";

/// Finishes a segment and waits until it is in the stores.
///
/// # Errors
/// Fails when it does not get there in time; then it says what the server's archiver says.
pub(super) async fn prove(
    session: &mut Session,
    (stores, prefix): (&[Arc<dyn Store>], &str),
    (within, cx): (Duration, &RunContext),
) -> Result<SegmentName, ActionError> {
    let facts = ServerFacts::of(session).await?;
    let size = handover::size(&facts)?;
    // Not the timeline of `pg_control`: after a promotion that is the old one until the first checkpoint has ended.
    let current = session.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").await?;
    let current: SegmentName =
        current.parse().map_err(|_| ActionError::fatal(format!("the server's WAL file `{current}` makes no sense")))?;
    let segment = switch(session, (current.timeline(), size)).await?;
    cx.reporter.progress(Progress::Doing { text: format!("waiting for `{segment}` in the archive") });
    let started = clock::monotonic();
    for store in stores {
        let shelf = Shelf {
            stores: vec![(store.as_read(), keys(&cx.about, store.name()))],
            prefix,
            system_id: SystemId(facts.system_id),
            size,
        };
        while !shelf.holds(segment).await? {
            if started.elapsed() > within {
                return Err(late(session, segment, (store.name(), within)).await);
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = cx.cancel.cancelled() => {
                    return Err(ActionError::cancelled("cancelled while archiving was being proven; the settings are changed"));
                }
            }
        }
    }
    Ok(segment)
}

async fn late(session: &mut Session, segment: SegmentName, (store, within): (&str, Duration)) -> ActionError {
    let told = session.query(ARCHIVER).await.ok();
    let failed = told.as_ref().and_then(|told| told.at(0, 0)).filter(|name| !name.is_empty());
    let words = match failed {
        Some(failed) => format!("; the archiver failed with `{failed}`"),
        // A command that ends with a code above 125 is not counted.
        None => "; the archiver counts no failure".to_owned(),
    };
    let fact = format!(
        "the settings are changed, but `{segment}` did not reach store `{store}` within {}{words}",
        Span(within)
    );
    ActionError::fatal(fact).help("look at the server's log: it tells why `archive_command` fails")
}
