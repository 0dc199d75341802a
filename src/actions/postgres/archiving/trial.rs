//! Proves archiving as the server does it: a finished segment reaches every store that must have it.

use std::sync::Arc;
use std::time::Duration;

use crate::action::{ActionError, RunContext, Store};
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::facts::ServerFacts;
use crate::actions::postgres::stores::archive::{WalArchive, keys};
use crate::actions::postgres::stores::handover;
use crate::actions::postgres::stores::handover::switch;
use crate::base::clock;
use crate::base::units::Span;
use crate::event::Progress;
use crate::pgformat::{SegmentName, SystemId};

const TICK: Duration = Duration::from_millis(100);
/// How long a segment that the archiver is done with may take to be seen in the stores before another one is finished; doubled
/// each time, so that a store that is gone costs few segments.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What the server's archiver says of itself.
const ARCHIVER: &str = "SELECT coalesce(last_failed_wal, ''), failed_count FROM pg_stat_archiver";

/// Finishes a segment and waits until it is in the stores and the server's archiver is done with it: what was pushed ahead of its
/// turn proves nothing as long as an earlier one fails. A segment that the archiver is done with and a store has not went to the
/// command of before, which the archiver gives up between two segments only: another one is finished then.
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
    let wal_archive = WalArchive {
        stores: stores.iter().map(|store| (store.as_read(), keys(&cx.about, store.name()))).collect(),
        prefix,
        system_id: SystemId(facts.system_id),
        size,
    };
    let started = clock::monotonic();
    let mut patience = AGAIN_AFTER;
    loop {
        let segment = switch(session, (current.timeline(), size)).await?;
        cx.reporter.progress(Progress::Doing { text: format!("waiting for `{segment}` in the archive") });
        let finished = clock::monotonic();
        loop {
            // The archiver is asked first: what it is done with and a store has not afterwards went elsewhere, or is owed.
            let taken = handover::taken(session, segment).await?;
            let lacking = wal_archive.lacking(segment).await;
            if taken && lacking.len() == 0 {
                return Ok(segment);
            }
            if started.elapsed() > within {
                let what = match (lacking.without.first(), lacking.silent.first()) {
                    (Some(store), _) => format!("`{segment}` did not reach store `{store}`"),
                    (None, Some((store, why))) => {
                        format!("store `{store}` does not say whether it has `{segment}`: {}", why.in_full())
                    }
                    (None, None) => format!("the server does not take `{segment}` for archived"),
                };
                return Err(late(session, &what, within).await);
            }
            if taken && finished.elapsed() > patience {
                break;
            }
            pause(cx).await?;
        }
        patience = patience.saturating_mul(2);
    }
}

async fn pause(cx: &RunContext) -> Result<(), ActionError> {
    tokio::select! {
        () = tokio::time::sleep(TICK) => Ok(()),
        () = cx.cancel.cancelled() => {
            Err(ActionError::cancelled("cancelled while archiving was being proven; the settings are changed"))
        }
    }
}

async fn late(session: &mut Session, what: &str, within: Duration) -> ActionError {
    let told = session.query(ARCHIVER).await.ok();
    let failed = told.as_ref().and_then(|told| told.at(0, 0)).filter(|name| !name.is_empty());
    let words = match failed {
        Some(failed) => format!("; the archiver failed with `{failed}`"),
        // A command that ends with a code above 125 is not counted.
        None => "; the archiver counts no failure".to_owned(),
    };
    let fact = format!("the settings are changed, but {what} within {}{words}", Span(within));
    ActionError::fatal(fact).help("look at the server's log: it tells why `archive_command` fails")
}
