//! Proves a recovery: the archive leads without a hole from the backup over the fork onto the new
//! timeline, and the server archives there (facts 2.10.1, 2.10.23).

use std::time::{Duration, Instant};

use super::recover::RecoverLoss;
use super::replay_plan;
use crate::action::{ActionError, ReadFiles, RunContext};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::facts::{ServerFacts, archives};
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::actions::postgres::stores::archive::{Lacking, WalArchive};
use crate::actions::postgres::stores::handover;
use crate::base::{Timestamp, clock};
use crate::event::{Coverage, Progress};
use crate::pgformat::{Lsn, SegmentName, Timeline, TimelineHistory};

/// How long the first segments of the new timeline may take to reach the archive.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(120);
/// How long the other stores may take when as many as must have a segment have it.
const OTHERS_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked for one segment, and for all of them.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LIST_EVERY: Duration = Duration::from_secs(1);

/// What is to be proven.
pub(crate) struct Claim<'a> {
    /// The cluster.
    pub(crate) cluster: &'a Cluster,
    /// Its archive.
    pub(crate) wal_archive: WalArchive<'a>,
    /// What was staged.
    pub(crate) marker: &'a Marker,
    /// The new timeline.
    pub(crate) timeline: Timeline,
    /// The attempt.
    pub(crate) cx: &'a RunContext,
}

/// What was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proven {
    /// The position at which the new timeline began.
    pub(crate) fork: Lsn,
    /// The segment of the new timeline that was seen in the archive; `None` for a server that archives nothing.
    pub(crate) segment: Option<SegmentName>,
}

/// Proves a recovery.
///
/// # Errors
/// Fails when the history makes no sense, archiving does not work on the new timeline, or the archive
/// has a hole. The server is open then, and the message says so.
pub(crate) async fn prove(claim: &Claim<'_>) -> Result<Proven, ActionError> {
    let fork = fork(claim.cluster, claim.timeline, claim.cx.host.read_files().as_ref())?;
    if claim.cluster.is_scratch() {
        return Ok(Proven { fork, segment: None });
    }
    let cx = claim.cx;
    let mut session = MaintenanceDb::common(claim.cluster, cx.about.secrets.as_ref())?.open().await?;
    session.query("SELECT pg_reload_conf()").await?;
    let facts = ServerFacts::of(&mut session).await?;
    if !archives(&facts.archiving) {
        cx.reporter.note(
            "the recovered server archives no WAL: nothing after this moment can be restored".to_owned(),
            serde_json::json!({ "archive_mode": facts.archiving.mode }),
        );
        return Ok(Proven { fork, segment: None });
    }
    cx.reporter.progress(Progress::Doing { text: "proving that the new timeline is archived".to_owned() });
    let segment = handover::switch(&mut session, (claim.timeline, claim.marker.segment_size)).await?;
    let started = clock::monotonic();
    let lacking = arrived(claim, &mut session, segment).await?;
    let stored = whole(claim, started).await?;
    let message =
        format!("the archive leads without a hole from the backup to `{segment}` on timeline {}", claim.timeline);
    cx.reporter.note(message, serde_json::json!({ "fork": fork.to_string(), "segments": stored }));
    if !lacking.is_empty() {
        let stores = lacking.join("`, `");
        let name = &claim.cluster.name;
        let message = format!(
            "warning: `{segment}` did not reach store `{stores}`, and `wal_at_least` of `{name}` is content with the others: \
             see why with `runbook wal status {name}`; `runbook wal mend {name}` copies what a store lacks"
        );
        cx.reporter.note(message, serde_json::json!({ "segment": segment.to_string(), "lacking": lacking }));
    }
    Ok(Proven { fork, segment: Some(segment) })
}

/// Waits until a segment is in every store that archiving goes to, and the server takes it for archived. Names the stores
/// that lack it still, where fewer are enough.
async fn arrived(claim: &Claim<'_>, session: &mut Session, segment: SegmentName) -> Result<Vec<String>, ActionError> {
    // A command that stored a segment and failed after it is tried again for ever: its server must say so, too.
    let (written, enough) = written_to(claim);
    let (started, mut enough_since) = (clock::monotonic(), None);
    loop {
        let lacking = written.lacking(segment).await;
        if written.stores.len() - lacking.len() >= enough && handover::taken(session, segment).await? {
            let since: Instant = *enough_since.get_or_insert_with(clock::monotonic);
            if lacking.len() == 0 || since.elapsed() > OTHERS_WITHIN {
                return Ok(lacking.names().into_iter().map(str::to_owned).collect());
            }
        }
        if started.elapsed() > ARCHIVED_WITHIN {
            return Err(late(session, segment, lacking).await);
        }
        pause(claim.cx, LOOK_EVERY).await?;
    }
}

/// The stores that the recovered server archives into, and how many of them must have a segment. Those that are only read
/// here get nothing; where all of them are, its own command knows which one it writes to.
fn written_to<'a>(claim: &Claim<'a>) -> (WalArchive<'a>, usize) {
    let mut written = claim.wal_archive.clone();
    let stores = &claim.cx.about.inventory.stores;
    written.stores.retain(|(store, _)| stores.get(store.name()).is_none_or(|entry| !entry.read_only));
    if written.stores.is_empty() {
        return (claim.wal_archive.clone(), 1);
    }
    let all = written.stores.len();
    let enough = claim.cluster.entry.wal_at_least.map_or(all, |count| count.min(all));
    (written, enough)
}

async fn late(session: &mut Session, segment: SegmentName, lacking: Lacking<'_>) -> ActionError {
    let silent = lacking.silent.first().map(|(store, error)| format!("; `{store}`: {}", error.in_full()));
    let lacking = lacking.names();
    let failed = session.value("SELECT coalesce(last_failed_wal, '') FROM pg_stat_archiver").await;
    let words = match (&lacking[..], failed.ok().filter(|name| !name.is_empty())) {
        ([], None) => "but the server does not take it for archived".to_owned(),
        ([], Some(failed)) => {
            format!("but the server does not take it for archived; the archiver failed with `{failed}`")
        }
        (stores, _) => {
            format!("but it did not reach store `{}`{}", stores.join("`, `"), silent.unwrap_or_default())
        }
    };
    let fact = format!("the server is open and has finished segment `{segment}`, {words} within 2m");
    ActionError::fatal(fact).help(
        "look at the server's log: it tells why `archive_command` fails; what it archives into is set by \
         `runbook run setup-archiving`, and `wal_at_least` of the database says in how many stores WAL must be",
    )
}

/// Looks until the archive leads without a hole to the end of the new timeline, and counts its segments. The server
/// stores several of them at once: one may be there before another that it follows. Nothing comes any more of what was
/// written before the fork. A store that gives no answer is not needed where the others lead there.
async fn whole(claim: &Claim<'_>, started: Instant) -> Result<usize, ActionError> {
    loop {
        let (mut archive, silent) = claim.wal_archive.view_of_those_that_answer().await?;
        let stored = archive.segments.len();
        archive.aside.extend(claim.marker.embedded());
        let reach = archive.reach(claim.timeline, replay_plan::base(claim.marker));
        let is_coming = reach.hole.as_ref().is_some_and(|hole| hole.first.timeline() == claim.timeline);
        if !is_coming || started.elapsed() > ARCHIVED_WITHIN {
            return match (reach.whole(), silent.into_iter().next()) {
                (Ok(_), _) => Ok(stored),
                (Err(_), Some(silent)) => Err(silent),
                (Err(hole), None) => Err(hole.into()),
            };
        }
        pause(claim.cx, LIST_EVERY).await?;
    }
}

async fn pause(cx: &RunContext, span: Duration) -> Result<(), ActionError> {
    let cancelled = || ActionError::cancelled("cancelled while archiving was being proven; the server is open");
    tokio::select! {
        () = tokio::time::sleep(span) => Ok(()),
        () = cx.cancel.cancelled() => Err(cancelled()),
    }
}

/// Reads where a new timeline began.
///
/// # Errors
/// Fails when its history cannot be read or makes no sense.
pub(crate) fn fork(cluster: &Cluster, timeline: Timeline, files: &dyn ReadFiles) -> Result<Lsn, ActionError> {
    let path = cluster.pgdata.join("pg_wal").join(timeline.history_file());
    let bytes = files
        .read(&path, 4 << 20)
        .map_err(|error| ActionError::fatal("the history of the new timeline cannot be read").because(&error))?;
    let history = TimelineHistory::parse(timeline, &String::from_utf8_lossy(&bytes))
        .map_err(|error| ActionError::fatal("the history of the new timeline makes no sense").because(&error))?;
    let parent = history.parent().ok_or_else(|| ActionError::fatal("the new timeline has no parent"))?;
    Ok(parent.1)
}

/// What is known about loss. `whole`: all that was flushed, or all up to the chosen target, is there.
pub(crate) fn loss(whole: bool, newest_commit: Option<Timestamp>, backup_end: Timestamp) -> RecoverLoss {
    let coverage = if whole { Coverage::ToLastFlushed } else { Coverage::NewestCommit };
    let newest_commit_at = Some(newest_commit.map_or(backup_end, |at| at.max(backup_end)));
    RecoverLoss { coverage, newest_commit_at, complete_until: None, chosen_target_at: None }
}
