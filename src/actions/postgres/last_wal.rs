//! The last WAL of a base backup on its way into the archive: a wait that has an end (facts 2.10.18).

use std::time::Duration;

use super::archive::{self, Shelf};
use super::connect::Endpoint;
use crate::action::{ActionError, ReadStore, RunContext};
use crate::base::clock;
use crate::catalog::{Manifest, PostgresFacts};
use crate::pgformat::SegmentName;
use crate::wal::Keys;

/// How long it is waited before the store is asked again: often at first, since a segment takes an instant as a rule.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How long it may take.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(60);

/// The archive of a backup's cluster.
pub(super) fn shelf<'a>(facts: &PostgresFacts, store: &'a dyn ReadStore, prefix: &'a str) -> Shelf<'a> {
    Shelf { stores: vec![(store, Keys::none())], prefix, system_id: facts.system_id, size: facts.segment_size }
}

/// Has the primary finish its segment: a standby cannot, and an idle primary would not.
pub(super) async fn switch(primary: &Endpoint, cx: &RunContext) {
    let switched = async { primary.open().await?.query("SELECT pg_switch_wal()").await };
    if let Err(error) = switched.await {
        let message = format!("the primary was not made to finish its WAL segment: {error}");
        cx.reporter.note(message, serde_json::Value::Null);
    }
}

/// Waits until all WAL of the backup is in the archive; says so when it is not.
///
/// # Errors
/// Fails when the store gives no answer, and when it is cancelled.
pub(super) async fn wait(manifest: &Manifest, cx: &RunContext, place: (&str, &str)) -> Result<(), ActionError> {
    if let Some(last) = missing(manifest, ARCHIVED_WITHIN, cx, place).await? {
        let message = format!(
            "segment `{last}` did not reach the archive within 60s: the backup restores on its own, but not beyond its end"
        );
        cx.reporter.note(message, serde_json::json!({ "segment": last.to_string() }));
    }
    Ok(())
}

/// Waits until all WAL of the backup is in the archive; gives its last segment when that is not there in time.
///
/// # Errors
/// Fails when the store gives no answer, and when it is cancelled.
pub(super) async fn missing(
    manifest: &Manifest,
    within: Duration,
    cx: &RunContext,
    (store, prefix): (&str, &str),
) -> Result<Option<SegmentName>, ActionError> {
    let facts = manifest.cluster().map_err(|error| archive::broken(&error))?;
    let Some(last) = facts.segments().pop() else { return Ok(None) };
    let store = cx.store(store)?;
    let shelf = shelf(facts, store.as_read(), prefix);
    let (started, mut pause) = (clock::monotonic(), FIRST_PAUSE);
    while !shelf.holds(last).await? {
        if started.elapsed() > within {
            return Ok(Some(last));
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = cx.cancel.cancelled() => return Err(ActionError::cancelled("the backup was cancelled before its manifest")),
        }
    }
    Ok(None)
}
