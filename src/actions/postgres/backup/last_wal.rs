//! The last WAL of a base backup on its way into the archive: a wait that has an end (facts 2.10.18).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::action::{ActionError, RunContext};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::actions::postgres::stores::{archive, other_history};
use crate::base::{Digest, clock};
use crate::catalog::{self, Manifest, PostgresFacts, WalListing};
use crate::event::ErrorClass;
use crate::pgformat::{SegmentName, SystemId};

/// How long it is waited before the store is asked again: often at first, since a segment takes an instant as a rule.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How long it may take.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(60);
/// How long stores that are not needed may be later than those that are.
const LAG: Duration = Duration::from_secs(5);

/// Where a segment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whereabouts {
    /// The segment.
    pub(crate) segment: SegmentName,
    /// The stores that have it.
    pub(crate) there: Vec<String>,
    /// Those of its cluster's WAL that lack it.
    pub(crate) lacking: Vec<String>,
}

impl Whereabouts {
    /// What is worth knowing of a segment that some stores have and others lack; nothing else.
    pub(crate) fn apart(&self) -> Option<String> {
        if self.there.is_empty() || self.lacking.is_empty() {
            return None;
        }
        let names = |stores: &[String]| stores.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let (there, lacking) = (names(&self.there), names(&self.lacking));
        Some(format!("segment `{}` is in {there} and not in {lacking}", self.segment))
    }
}

/// The finished segments of WAL that a server sent with its backup.
pub(crate) struct OwnWal {
    /// SHA-256 of the bytes of each.
    pub(crate) segments: BTreeMap<SegmentName, Digest>,
    /// The cluster.
    pub(crate) system_id: SystemId,
}

impl OwnWal {
    /// Demands that the archive has no other content under the names of these segments. A store that gives no answer, or none
    /// in time, says nothing here: whoever waits for the last WAL hears of it.
    ///
    /// # Errors
    /// Fails with the first segment that another server has archived.
    pub(crate) async fn demand_unrivalled(&self, cx: &RunContext, cluster: &Cluster) -> Result<(), ActionError> {
        let (own, prefix) = cluster.archive()?;
        for name in std::iter::once(own).chain(cluster.further()) {
            let Ok(store) = cx.store(name) else { continue };
            let looked = other_history::found(store.as_read(), (prefix, self.system_id), &self.segments);
            let looked = tokio::time::timeout(ARCHIVED_WITHIN, looked);
            if let Some(Ok(Ok(Some(found)))) = cx.cancel.run_until_cancelled(looked).await {
                return Err(found.of_server((&cluster.name, prefix)));
            }
        }
        Ok(())
    }
}

/// Has the primary finish its segment: a standby cannot, and an idle primary would not.
pub(crate) async fn switch(primary: &MaintenanceDb, cx: &RunContext) {
    let switched = async { primary.open().await?.query("SELECT pg_switch_wal()").await };
    if let Err(error) = switched.await {
        let message = format!("the primary was not made to finish its WAL segment: {error}");
        cx.reporter.note(message, serde_json::Value::Null);
    }
}

/// Waits until all WAL of a committed backup is in the archive; says so when it is not, and when nobody knows: the backup
/// carries a copy of its own in any case, and nothing that was stored is thrown away for it. A cancel ends the wait alone.
pub(crate) async fn wait(manifest: &Manifest, cx: &RunContext, cluster: &Cluster) {
    let seen = cx.cancel.run_until_cancelled(whereabouts(manifest, ARCHIVED_WITHIN, cx, cluster)).await;
    let least = match seen {
        Some(Ok(None)) => return,
        Some(Ok(Some(least))) => least,
        Some(Err(error)) if error.info().class != ErrorClass::Cancelled => {
            let message = format!(
                "whether its WAL reached the archive is not known ({}): the backup restores on its own",
                error.in_full()
            );
            cx.reporter.note(message, json!({ "causes": error.info().causes }));
            return;
        }
        Some(Err(_)) | None => {
            let message = "the step was told to end before all WAL of the backup was seen in the archive: the backup is \
                           kept, and restores on its own";
            cx.reporter.note(message.to_owned(), serde_json::Value::Null);
            return;
        }
    };
    let segment = least.segment;
    let message = match least.there.is_empty() {
        true => format!(
            "segment `{segment}` did not reach the archive within 60s: the backup restores on its own, but not beyond its end"
        ),
        false => match least.apart() {
            Some(apart) => {
                format!("warning: {apart}: what only one store has is lost with it; see `runbook wal status`")
            }
            None => return,
        },
    };
    cx.reporter.note(message, json!({ "segment": segment.to_string(), "lacking": least.lacking }));
}

/// Waits until every segment of the backup is in as many stores of its cluster's WAL as the inventory wants, and a
/// little longer for the others: segments are archived several at a time, so the last may be there before the first.
/// Tells of the one that is in the fewest stores in the end; `None` for a backup without WAL.
///
/// # Errors
/// Fails when the database's own store gives no answer, and when it is cancelled.
pub(crate) async fn whereabouts(
    manifest: &Manifest,
    within: Duration,
    cx: &RunContext,
    cluster: &Cluster,
) -> Result<Option<Whereabouts>, ActionError> {
    let facts = manifest.cluster().map_err(|error| archive::broken(&error))?;
    let started = clock::monotonic();
    let (mut enough_since, mut pause) = (None, FIRST_PAUSE);
    loop {
        let all = look(facts, cx, cluster).await?;
        let Some(found) = all.into_iter().min_by_key(|found| found.there.len()) else { return Ok(None) };
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

/// Looks where each segment of a backup is, whole as far as a listing can tell. One of the further stores that gives no
/// answer lacks it, as far as anybody can tell.
async fn look(facts: &PostgresFacts, cx: &RunContext, cluster: &Cluster) -> Result<Vec<Whereabouts>, ActionError> {
    let (own, prefix) = cluster.archive()?;
    let segments = facts.segments();
    let nowhere = |segment: &SegmentName| Whereabouts { segment: *segment, there: Vec::new(), lacking: Vec::new() };
    let mut found: Vec<Whereabouts> = segments.iter().map(nowhere).collect();
    for name in std::iter::once(own).chain(cluster.further()) {
        let listed = match cx.store(name) {
            Ok(store) => catalog::wal_listing_of(store.as_read(), prefix, facts.system_id, &segments)
                .await
                .map_err(|error| archive::broken(&error)),
            Err(error) => Err(error),
        };
        let listing = match listed {
            Ok(listing) => listing,
            Err(error) if name == own => return Err(error),
            Err(_) => WalListing::default(),
        };
        for one in &mut found {
            let stores =
                if listing.is_whole(one.segment, facts.segment_size) { &mut one.there } else { &mut one.lacking };
            stores.push(name.to_owned());
        }
    }
    Ok(found)
}

/// Tells whether every segment of a backup was seen in the archive, in any of its stores; without an answer, or the time to
/// wait for one, none was.
pub(crate) async fn is_archived(manifest: &Manifest, cx: &RunContext, cluster: &Cluster) -> bool {
    let Ok(facts) = manifest.cluster() else { return false };
    let seen = cx.cancel.run_until_cancelled(look(facts, cx, cluster)).await;
    seen.is_some_and(|seen| seen.is_ok_and(|all| all.iter().all(|one| !one.there.is_empty())))
}
