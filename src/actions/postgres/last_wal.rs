//! The last WAL of a base backup on its way into the archive: a wait that has an end (facts 2.10.18).

use std::time::Duration;

use serde_json::json;

use super::archive;
use super::connect::Endpoint;
use super::layout::Cluster;
use crate::action::{ActionError, ReadStore, RunContext};
use crate::base::clock;
use crate::catalog::{Manifest, PostgresFacts, wal_objects};
use crate::pgformat::{SegmentName, WalFileName};

/// How long it is waited before the store is asked again: often at first, since a segment takes an instant as a rule.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How long it may take.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(60);
/// How long stores that are not needed may be later than those that are.
const LAG: Duration = Duration::from_secs(5);

/// Where a segment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whereabouts {
    /// The segment.
    pub(super) segment: SegmentName,
    /// The stores that have it.
    pub(super) there: Vec<String>,
    /// Those of its cluster's WAL that lack it.
    pub(super) lacking: Vec<String>,
}

impl Whereabouts {
    /// What is worth knowing of a segment that some stores have and others lack; nothing else.
    pub(super) fn apart(&self) -> Option<String> {
        if self.there.is_empty() || self.lacking.is_empty() {
            return None;
        }
        let names = |stores: &[String]| stores.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let (there, lacking) = (names(&self.there), names(&self.lacking));
        Some(format!("segment `{}` is in {there} and not in {lacking}", self.segment))
    }
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
pub(super) async fn wait(manifest: &Manifest, cx: &RunContext, cluster: &Cluster) -> Result<(), ActionError> {
    let Some(last) = whereabouts(manifest, ARCHIVED_WITHIN, cx, cluster).await? else { return Ok(()) };
    let segment = last.segment;
    let message = match last.there.is_empty() {
        true => format!(
            "segment `{segment}` did not reach the archive within 60s: the backup restores on its own, but not beyond its end"
        ),
        false => match last.apart() {
            Some(apart) => {
                format!("warning: {apart}: what only one store has is lost with it; see `runbook wal status`")
            }
            None => return Ok(()),
        },
    };
    cx.reporter.note(message, json!({ "segment": segment.to_string(), "lacking": last.lacking }));
    Ok(())
}

/// Waits until the last segment of the backup is in as many stores of its cluster's WAL as the inventory wants, and a
/// little longer for the others. Tells where it is in the end; `None` for a backup without WAL.
///
/// # Errors
/// Fails when the database's own store gives no answer, and when it is cancelled.
pub(super) async fn whereabouts(
    manifest: &Manifest,
    within: Duration,
    cx: &RunContext,
    cluster: &Cluster,
) -> Result<Option<Whereabouts>, ActionError> {
    let facts = manifest.cluster().map_err(|error| archive::broken(&error))?;
    let Some(last) = facts.segments().pop() else { return Ok(None) };
    let started = clock::monotonic();
    let (mut enough_since, mut pause) = (None, FIRST_PAUSE);
    loop {
        let found = look(last, facts, cx, cluster).await?;
        let wanted = cluster.entry.wal_at_least.unwrap_or(found.there.len() + found.lacking.len());
        if found.there.len() >= wanted {
            enough_since.get_or_insert_with(clock::monotonic);
        }
        let is_late = enough_since.is_some_and(|since| since.elapsed() > LAG);
        if found.lacking.is_empty() || is_late || started.elapsed() > within {
            return Ok(Some(found));
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = cx.cancel.cancelled() => return Err(ActionError::cancelled("the backup was cancelled before its manifest")),
        }
    }
}

/// Looks where a segment is. One of the further stores that gives no answer lacks it, as far as anybody can tell.
async fn look(
    segment: SegmentName,
    facts: &PostgresFacts,
    cx: &RunContext,
    cluster: &Cluster,
) -> Result<Whereabouts, ActionError> {
    let (own, prefix) = cluster.archive()?;
    let mut found = Whereabouts { segment, there: Vec::new(), lacking: Vec::new() };
    for name in std::iter::once(own).chain(cluster.further()) {
        let held = match cx.store(name) {
            Ok(store) => holds(store.as_read(), (prefix, segment), facts).await,
            Err(error) => Err(error),
        };
        match held {
            Ok(true) => found.there.push(name.to_owned()),
            Err(error) if name == own => return Err(error),
            Ok(false) | Err(_) => found.lacking.push(name.to_owned()),
        }
    }
    Ok(found)
}

/// Tells whether every segment of a backup is in the archive: in any of its stores.
///
/// # Errors
/// Fails when the database's own store gives no answer.
pub(super) async fn is_archived(manifest: &Manifest, cx: &RunContext, cluster: &Cluster) -> Result<bool, ActionError> {
    let facts = manifest.cluster().map_err(|error| archive::broken(&error))?;
    for segment in facts.segments() {
        if look(segment, facts, cx, cluster).await?.there.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tells whether a store has a segment of a cluster.
///
/// # Errors
/// Fails when it gives no answer.
async fn holds(
    store: &dyn ReadStore,
    (prefix, segment): (&str, SegmentName),
    facts: &PostgresFacts,
) -> Result<bool, ActionError> {
    let name = WalFileName::Segment(segment);
    let objects = wal_objects(store, prefix, facts.system_id, name).await;
    objects.map(|objects| !objects.is_empty()).map_err(|error| archive::broken(&error))
}
