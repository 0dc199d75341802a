//! The live server that a copy is made beside: what it committed lately is in the copy only once it is archived.
//!
//! A segment reaches the archive when it is full or `archive_timeout` old. So where the archive ends before the wanted
//! moment, the server is made to finish its segment, and the copy waits until the archive has it; where that cannot be,
//! it is an error or a warning, never a copy that lacks commits without a word.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::foresight::{self, Lookout};
use super::replay_plan::ReplayPlan;
use crate::action::{ActionError, CheckContext, DatabaseRef, Findings, ReadStore, Surroundings};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::restore::recovery_target::RecoveryTarget;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::facts::{ServerFacts, archives};
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::actions::postgres::stores::target::Goal;
use crate::base::clock;
use crate::pgformat::{Lsn, SegmentName, SegmentSize, SystemId, Timeline};

/// How long its last segment may take into the archive.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(60);
/// How long it is waited before the archive is asked again.
const PAUSE: Duration = Duration::from_millis(200);
/// The header of a segment (`SizeOfXLogLongPHD`).
const HEADER_BYTES: u64 = 40;

/// Whether a copy was decided to end with the archive although its goal may lie behind it.
pub(crate) fn may_lead_on(
    cluster: &Cluster,
    recovery_target: &RecoveryTarget,
    plan: &Result<ReplayPlan, ActionError>,
) -> bool {
    let beside = cluster.side.is_some() && !cluster.entry.scratch && !cluster.entry.is_managed();
    beside && recovery_target.goal != Goal::Immediate && plan.as_ref().map_or(true, |plan| plan.goal == Goal::Newest)
}

/// How the server stands, in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Front {
    timeline: Timeline,
    /// What it has written so far ends here.
    end: Lsn,
    size: SegmentSize,
}

/// A copy that is about to be recovered, and the server it is made beside.
pub(crate) struct Original<'a> {
    context: &'a RecoveryContext<'a>,
    marker: &'a Marker,
    recovery_target: &'a RecoveryTarget,
    cluster: Cluster,
}

impl<'a> Original<'a> {
    /// The server of the copy's database.
    ///
    /// # Errors
    /// Fails when the inventory has no such database.
    pub(crate) fn of(
        context: &'a RecoveryContext<'a>,
        marker: &'a Marker,
        recovery_target: &'a RecoveryTarget,
    ) -> Result<Self, ActionError> {
        let cluster = named(&context.cluster.name, &context.cx.about)?;
        Ok(Self { context, marker, recovery_target, cluster })
    }

    /// Has all that the server committed until now archived. `end` is what the archive leads to; `None` where it does not
    /// lead to the goal at all, which is told in its own words when that stays so.
    ///
    /// # Errors
    /// Fails when commits before the wanted moment may be missing in the archive, and when it is cancelled.
    pub(crate) async fn catch_up(&self, end: Option<Lsn>) -> Result<(), ActionError> {
        let maintenance_db = MaintenanceDb::own(&self.cluster, self.context.cx.about.secrets.as_ref());
        let opened = match maintenance_db {
            Ok(maintenance_db) => maintenance_db.open().await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(session) => self.finish(session, end).await,
            Err(error) => self.unasked(error, end).await,
        }
    }

    /// Has a server that answers finish its segment, and waits until the archive has it.
    async fn finish(&self, mut session: Session, end: Option<Lsn>) -> Result<(), ActionError> {
        let facts = ServerFacts::of(&mut session).await?;
        if SystemId(facts.system_id) != self.marker.system_id {
            return Ok(());
        }
        if facts.in_recovery {
            let why = "the live server is a standby, and only its primary can finish a segment".to_owned();
            return self.uncertain(why, end);
        }
        let front = front(&mut session, self.marker.segment_size).await?;
        if self.recovery_target.timeline.is_some_and(|wanted| wanted != front.timeline) {
            return Ok(());
        }
        let (front, why) = match switched(&mut session).await {
            Ok(written) => {
                let front = Front { end: written, ..front };
                (front, self.late(front, &facts, end).await?)
            }
            Err(error) => {
                let why = format!("the live server was not made to finish its segment: {}", error.in_full());
                (front, Some(why))
            }
        };
        match (why, end) {
            (None, _) => Ok(()),
            (Some(_), Some(end)) if end >= front.end => Ok(()),
            (Some(why), _) => self.lacking(&why, (Some(front.end), end)),
        }
    }

    /// Waits for the segment that was finished; says why the archive does not get it.
    async fn late(&self, front: Front, facts: &ServerFacts, end: Option<Lsn>) -> Result<Option<String>, ActionError> {
        if !archives(&facts.archiving) && self.context.location.is_none() {
            return Ok(Some("the live server archives no WAL".to_owned()));
        }
        let missing = self.archived(front, end).await?;
        if missing.is_none() {
            let message = format!("the live server's WAL is archived up to {}", front.end);
            self.context.cx.reporter.note(message, json!({ "lsn": front.end.to_string() }));
        }
        let within = ARCHIVED_WITHIN.as_secs();
        Ok(missing.map(|name| format!("segment `{name}` did not reach the archive within {within}s")))
    }

    /// Waits until the archive has all segments up to the one that was finished; gives the one that does not come.
    async fn archived(&self, front: Front, end: Option<Lsn>) -> Result<Option<SegmentName>, ActionError> {
        let (size, wal_archive, started) = (front.size, self.context.wal_archive(self.marker), clock::monotonic());
        let last = size.number_of(Lsn(front.end.0.saturating_sub(1)));
        let first = end.map_or(last, |end| size.number_of(end).min(last));
        // What lies before its fork bears the names of the timelines that it came from, and was not written by it.
        let path = wal_archive.view().await?.path(front.timeline);
        for name in (first..=last).map(|number| path.name(number)).filter(|name| name.timeline() == front.timeline) {
            while !wal_archive.holds(name).await? {
                if started.elapsed() > ARCHIVED_WITHIN {
                    return Ok(Some(name));
                }
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = self.context.cx.cancel.cancelled() => {
                        return Err(ActionError::cancelled("cancelled while the live server's WAL was waited for"));
                    }
                }
            }
        }
        Ok(None)
    }

    /// A server that takes no session is down, or lets nobody in: then only its own `pg_wal` tells what it has.
    async fn unasked(&self, error: ActionError, end: Option<Lsn>) -> Result<(), ActionError> {
        let (about, files) = (&self.context.cx.about, self.context.cx.host.read_files());
        let alive = !live::signs(&self.cluster, files.as_ref()).await?.is_empty();
        let stores = self.context.stores().map(|store| Arc::clone(store) as Arc<dyn ReadStore>);
        let look = Lookout { cluster: &self.cluster, run: &about.run, stores: stores.collect(), files };
        let remnant = foresight::remnant(&look).await.ok().flatten();
        let remnant = remnant.filter(|remnant| remnant.system_id == self.marker.system_id);
        match remnant {
            Some(remnant) if remnant.newest.is_empty() => Ok(()),
            Some(remnant) => {
                let names: Vec<String> = remnant.newest.keys().map(ToString::to_string).collect();
                let why = format!("commits of `{}` are only in the server's own `pg_wal`", names.join("`, `"));
                self.lacking(&why, (None, end))
            }
            None if alive => self.lacking(&format!("the live server was not asked: {}", error.in_full()), (None, end)),
            None => self.uncertain(format!("no live server was asked: {}", error.in_full()), end),
        }
    }

    /// Commits are missing that belong into the copy: where a moment was wanted that is an error, and where the newest state
    /// was, a warning.
    fn lacking(&self, why: &str, (live, end): (Option<Lsn>, Option<Lsn>)) -> Result<(), ActionError> {
        let reaches = |at: Option<Lsn>, words: &str| at.map(|at| format!(" {words} {at}")).unwrap_or_default();
        let (written, archived) = (reaches(live, "up to"), reaches(end, "up to"));
        let fact = format!(
            "the live server has written WAL{written}, and the archive has it{archived}: what was committed last would be \
             missing in the copy ({why})"
        );
        let wants_newest = self.recovery_target.goal == Goal::Newest;
        if wants_newest || end.is_none() {
            self.context.cx.reporter.note(format!("warning: {fact}"), json!({ "lacking": true }));
            return Ok(());
        }
        let help = format!(
            "`runbook wal status {}` says what keeps the archive; or copy without a moment: the newest archived state, with \
             this as a warning",
            self.cluster.name
        );
        Err(ActionError::retryable(fact).help(help))
    }

    /// Nobody can tell whether commits are missing.
    fn uncertain(&self, why: String, end: Option<Lsn>) -> Result<(), ActionError> {
        if end.is_some() {
            let message = format!("warning: whether the archive has all that was committed is not known ({why})");
            self.context.cx.reporter.note(message, json!({ "lacking": null }));
        }
        Ok(())
    }
}

/// What a check can tell of it: nothing that the live server would have to do is left to the moment when it counts.
///
/// # Errors
/// Fails when the inventory has no such database.
pub(crate) async fn foretell(
    database: &DatabaseRef,
    recovery_target: &RecoveryTarget,
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    let cluster = named(database.as_str(), &cx.about)?;
    if recovery_target.goal == Goal::Immediate || cluster.is_scratch() || cluster.entry.is_managed() {
        return Ok(findings);
    }
    let maintenance_db = MaintenanceDb::own(&cluster, cx.about.secrets.as_ref())?;
    // One that is down has nothing to finish; what it left is looked at when the copy is made.
    let Ok(mut session) = maintenance_db.open().await else { return Ok(findings) };
    let may = session.value("SELECT has_function_privilege('pg_catalog.pg_switch_wal()', 'EXECUTE')").await;
    Ok(match may.as_deref() {
        Ok("t") => findings.pass(
            "where the archive ends before the wanted moment, the live server finishes its WAL segment and the copy waits for it",
        ),
        Ok(_) => findings.warn(
            format!("the role `{}` may not have the live server finish its WAL segment", cluster.user),
            "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO it; else what was committed last is waited for in vain",
        ),
        Err(_) => findings,
    })
}

fn named(database: &str, about: &Surroundings) -> Result<Cluster, ActionError> {
    Cluster::of(&DatabaseRef(database.to_owned()), &about.inventory, &about.scratch)
}

/// Has a primary finish its segment, and gives where what it has written ends. Where the segment in use is still empty it
/// finishes none (manual, `pg_switch_wal`).
async fn switched(session: &mut Session) -> Result<Lsn, ActionError> {
    let text = session.value("SELECT pg_switch_wal()").await?;
    text.parse().map_err(|_| ActionError::fatal(format!("`{text}` is no position")))
}

/// Where a primary stands now. Behind the header of an empty segment nothing is written yet.
async fn front(session: &mut Session, size: SegmentSize) -> Result<Front, ActionError> {
    let asked = "SELECT pg_current_wal_insert_lsn(), substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)";
    let table = session.query(asked).await?;
    let strange = || ActionError::fatal("the live server's position makes no sense");
    let end: Lsn = table.at(0, 0).and_then(|text| text.parse().ok()).ok_or_else(strange)?;
    let timeline = table.at(0, 1).and_then(|text| u32::from_str_radix(text, 16).ok()).ok_or_else(strange)?;
    let begun = end.0 % size.bytes();
    let end = if begun <= HEADER_BYTES { Lsn(end.0 - begun) } else { end };
    Ok(Front { timeline: Timeline(timeline), end, size })
}
