//! Follows a recovery until the server is open on a new timeline, or waits where it is to wait (facts 2.4).
//!
//! `pg_isready` proves nothing: it says yes during replay, and shortly before a recovery dies. Open
//! means: `pg_is_in_recovery()` is false, `recovery.signal` is gone, the timeline is a new one, and
//! the postmaster is the process that was started. A server that is to wait at a target is paused there;
//! at the end of the archive it is one that asks for more WAL in the last segment there is.
//!
//! The session that looks sits where it is in nobody's way, and is opened anew whenever replay ends it: what becomes of
//! one database on the way says nothing of the recovery.

use std::time::Duration;

use crate::action::{ActionError, ReadFiles, RunContext, Waits};
use crate::actions::postgres::cluster::live::{self, PidFile};
use crate::actions::postgres::cluster::server::Server;
use crate::actions::postgres::cluster::service_manager::Runs;
use crate::actions::postgres::cluster::settings::{RECOVERY_SIGNAL, STANDBY_SIGNAL};
use crate::actions::postgres::restore::marker::Course;
use crate::actions::postgres::restore::recovery_target::Ending;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::identity_check;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::base::{Timestamp, clock};
use crate::event::{ErrorClass, Progress};
use crate::pgformat::{Lsn, SegmentName, Timeline};

const TICK: Duration = Duration::from_millis(100);

/// A course, and what becomes of the server at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Awaited {
    /// The course.
    pub(crate) course: Course,
    /// What becomes of the server.
    pub(crate) ending: Ending,
    /// Whether the server was told a target.
    pub(crate) to: Told,
}

/// What the server was told of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// A target, at which it pauses or opens.
    Target,
    /// Nothing: it goes to the end of the archive.
    Nothing,
    /// To open where it is, though it is paused.
    Promotion,
}

/// Where a recovery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The new timeline; the one that is replayed when the server waits.
    pub(crate) timeline: Timeline,
    /// What the server waits for; `None` when it is open.
    pub(crate) waits: Option<Waits>,
    /// Where replay is, while the server waits.
    pub(crate) replayed: Option<Lsn>,
    /// The newest recovered commit; `None` when replay saw none.
    pub(crate) newest_commit: Option<Timestamp>,
}

const STATE: &str = "SELECT pg_is_in_recovery(), \
 CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()::text END, \
 to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
 CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END, \
 CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END, \
 (SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup')";

/// How often it is looked where a server listens that takes no session.
const LOOKED_EVERY: Duration = Duration::from_secs(5);

/// After how long without a further record a replay that is to open has ended: the server writes its checkpoint.
const ENDED_AFTER: Duration = Duration::from_secs(2);

/// After how long a server that still asks for WAL is told to lack it.
const LACKS_AFTER: Duration = Duration::from_secs(30);

/// What a startup process waits for that has replayed all WAL there is.
const OUT_OF_WAL: [&str; 2] = ["RecoveryRetrieveRetryInterval", "RecoveryWalStream"];

/// Waits until the server is open on a new timeline, or waits as it was told to.
///
/// # Errors
/// Fails when the server ends, pauses or opens against its orders, with the last lines of its log; when cancelled,
/// after the server was stopped.
pub(crate) async fn follow(server: &Server<'_>, awaited: Awaited, cx: &RunContext) -> Result<Arrival, ActionError> {
    let files = cx.host.read_files();
    let maintenance_db = MaintenanceDb::common(server.cluster, cx.about.secrets.as_ref())?;
    let mut watch = Watch { started: clock::monotonic(), alive: false, looked: None, stood: None, lacks_told: false };
    let mut session: Option<Session> = None;
    loop {
        if cx.cancel.is_cancelled() {
            drop(session);
            server.stop(cx.host.as_ref()).await?;
            return Err(ActionError::cancelled(
                "the recovery was cancelled and its server stopped; run the step again to go on",
            ));
        }
        watch.look(server, files.as_ref(), cx).await?;
        if session.is_none() {
            // It would be waited for at a place where it never comes, while it opens at another one.
            if watch.looks_where()
                && let Some(fact) = identity_check::listens_elsewhere(server.cluster, files.as_ref()).await
            {
                server.stop(cx.host.as_ref()).await?;
                return Err(ActionError::fatal(format!("{}; it was stopped", fact.what)).help(fact.help));
            }
            session = enter(&maintenance_db, server, cx).await?;
        }
        if let Some(open) = &mut session {
            match arrived((open, server), awaited, &mut watch, cx).await {
                Ok(Some(arrival)) => return Ok(arrival),
                Ok(None) => {}
                Err(error) if error.info().class == ErrorClass::Retryable => session = None,
                Err(error) => return Err(error),
            }
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Watches over the postmaster's life.
struct Watch {
    started: std::time::Instant,
    alive: bool,
    /// When it was looked where it listens.
    looked: Option<std::time::Instant>,
    /// Where replay was when it last went on, and since when.
    stood: Option<(Lsn, std::time::Instant)>,
    /// Whether it was said that it does not get the WAL it waits for.
    lacks_told: bool,
}

impl Watch {
    /// Whether it is time to look where it listens: that goes through all processes of the machine.
    fn looks_where(&mut self) -> bool {
        let is_time = self.looked.is_none_or(|at| at.elapsed() >= LOOKED_EVERY);
        if is_time {
            self.looked = Some(clock::monotonic());
        }
        is_time
    }

    /// For how long replay has stood where it is.
    fn stands(&mut self, replayed: Lsn) -> Duration {
        match self.stood.filter(|(at, _)| *at == replayed) {
            Some((_, since)) => since.elapsed(),
            None => {
                self.stood = Some((replayed, clock::monotonic()));
                Duration::ZERO
            }
        }
    }

    async fn look(&mut self, server: &Server<'_>, files: &dyn ReadFiles, cx: &RunContext) -> Result<(), ActionError> {
        let alive = lives(server, files);
        if alive {
            self.alive = true;
            return Ok(());
        }
        let within = server.cluster.service_manager().appears_within();
        if !self.alive && self.started.elapsed() < within {
            return Ok(());
        }
        let tail = server.last_words(cx.host.as_read()).await;
        let reason = tail.iter().rev().find(|line| line.contains("FATAL") || line.contains("PANIC")).cloned();
        let fact = reason.map_or_else(String::new, |line| format!(": {}", line.trim()));
        Err(ActionError::fatal(format!("the server ended during recovery{fact}")).process(None, tail))
    }
}

/// Whether the postmaster is there. The number of one in a container is another process's here.
fn lives(server: &Server<'_>, files: &dyn ReadFiles) -> bool {
    let pgdata = &server.cluster.pgdata;
    match server.cluster.service_manager().runs() {
        Runs::Here => PidFile::read(files, pgdata).is_some_and(|file| live::exists(file.pid, files)),
        Runs::InContainer => !live::processes(pgdata, files).is_empty(),
    }
}

/// Opens a session; `None` while the server takes none and may later.
async fn enter(
    maintenance_db: &MaintenanceDb,
    server: &Server<'_>,
    cx: &RunContext,
) -> Result<Option<Session>, ActionError> {
    let shut = match maintenance_db.enter().await {
        Ok(session) => return Ok(Some(session)),
        Err(shut) => shut,
    };
    // A server that has ended its recovery makes no database any more.
    let files = cx.host.read_files();
    let is_gone = |signal: &str| matches!(files.facts(&server.cluster.pgdata.join(signal)), Ok(None));
    let is_over = || [RECOVERY_SIGNAL, STANDBY_SIGNAL].into_iter().all(is_gone);
    if !shut.may_pass() || shut.is_without_database() && is_over() {
        return Err(shut.error);
    }
    // A server that lacks memory or room says so, and may never come to it.
    cx.reporter.progress(Progress::Doing { text: format!("waiting for a consistent state: {}", shut.error) });
    Ok(None)
}

/// Looks once. A server that found the end of the archive and is to wait there replays nothing more then.
async fn arrived(
    (session, server): (&mut Session, &Server<'_>),
    awaited: Awaited,
    watch: &mut Watch,
    cx: &RunContext,
) -> Result<Option<Arrival>, ActionError> {
    let seen = Seen::of(session).await?;
    let arrival = seen.judge(server, awaited, cx)?;
    let stands = seen.replayed.map_or(Duration::ZERO, |replayed| watch.stands(replayed));
    if arrival.is_none() && seen.is_at_its_checkpoint(awaited) && stands > ENDED_AFTER {
        let text = "all WAL is replayed: the server writes its checkpoint before it opens".to_owned();
        cx.reporter.progress(Progress::Doing { text });
    }
    // A server that is to wait at the end asks again and again for what it does not get.
    if arrival.is_none() && seen.lacks_wal(awaited.course) && stands > LACKS_AFTER {
        let at = seen.replayed.unwrap_or_default();
        let text = format!("the server waits at {at} for WAL that the archive had: its log says why");
        if !std::mem::replace(&mut watch.lacks_told, true) {
            let tail = server.log_tail(cx.host.read_files().as_ref());
            cx.reporter.note(format!("warning: {text}"), serde_json::json!({ "log": tail }));
        }
        cx.reporter.progress(Progress::Doing { text });
    }
    if arrival.is_some() && !seen.paused && awaited.ending == Ending::Pause && awaited.to == Told::Nothing {
        session.look("SELECT pg_wal_replay_pause()").await?;
    }
    Ok(arrival)
}

/// One look at the server.
struct Seen {
    open: bool,
    replayed: Option<Lsn>,
    newest_commit: Option<Timestamp>,
    paused: bool,
    segment: Option<SegmentName>,
    startup: Option<String>,
}

impl Seen {
    async fn of(session: &mut Session) -> Result<Self, ActionError> {
        let table = session.look(STATE).await?;
        Ok(Self {
            open: table.at(0, 0) == Some("f"),
            replayed: table.at(0, 1).and_then(|text| text.parse().ok()),
            newest_commit: table.at(0, 2).and_then(|text| text.parse().ok()),
            paused: table.at(0, 3) == Some("t"),
            segment: table.at(0, 4).and_then(|text| text.parse().ok()),
            startup: table.at(0, 5).map(ToOwned::to_owned),
        })
    }

    fn judge(&self, server: &Server<'_>, awaited: Awaited, cx: &RunContext) -> Result<Option<Arrival>, ActionError> {
        let files = cx.host.read_files();
        let wrong = |fact: String| Err(ActionError::fatal(fact).process(None, server.log_tail(files.as_ref())));
        let course = awaited.course;
        if !self.open {
            let done = self.replayed.map_or(0, |lsn| lsn.bytes_since(course.start));
            let total = course.end.map(|end| end.bytes_since(course.start).max(done));
            cx.reporter.progress(Progress::Units { done, total, unit: "bytes" });
            return match (self.paused, awaited.ending, awaited.to) {
                (true, Ending::Pause, _) => Ok(Some(self.waiting(Waits::Paused, course))),
                (true, Ending::Promote, Told::Promotion) => Ok(None),
                // Nothing of ours pauses it: whoever follows it says so.
                (true, Ending::Promote | Ending::Standby, _) => Ok(Some(self.waiting(Waits::Paused, course))),
                (false, Ending::Pause, Told::Nothing) if self.ran_out(course) => {
                    Ok(Some(self.waiting(Waits::Paused, course)))
                }
                (false, Ending::Standby, _) if self.ran_out(course) => Ok(Some(self.waiting(Waits::Standby, course))),
                (false, Ending::Promote | Ending::Pause | Ending::Standby, _) => Ok(None),
            };
        }
        if awaited.ending != Ending::Promote {
            return wrong("the server opened instead of waiting".to_owned());
        }
        let signal = server.cluster.pgdata.join(RECOVERY_SIGNAL);
        let waiting = matches!(files.facts(&signal), Ok(Some(_)));
        let Some(segment) = self.segment.filter(|_| !waiting) else { return Ok(None) };
        if segment.timeline() <= course.timeline {
            return wrong(format!("the server opened on timeline {} instead of a new one", segment.timeline()));
        }
        let (timeline, newest_commit) = (segment.timeline(), self.newest_commit);
        Ok(Some(Arrival { timeline, newest_commit, waits: None, replayed: None }))
    }

    /// Whether a server that is to open has replayed what there was, and does not wait for more: as long as its checkpoint
    /// takes it says nothing (facts 2.10.16).
    fn is_at_its_checkpoint(&self, awaited: Awaited) -> bool {
        let is_past = |floor: Lsn| self.replayed.is_some_and(|replayed| replayed >= floor);
        let waits = self.startup.as_deref().is_some_and(|event| OUT_OF_WAL.contains(&event));
        !self.open
            && awaited.ending == Ending::Promote
            && !waits
            && awaited.course.floor.or(awaited.course.end).is_some_and(is_past)
    }

    /// Whether it asks for WAL though it has not replayed all that there was.
    fn lacks_wal(&self, course: Course) -> bool {
        let is_short = course.floor.is_some_and(|floor| self.replayed.is_some_and(|replayed| replayed < floor));
        !self.open && is_short && self.startup.as_deref().is_some_and(|event| OUT_OF_WAL.contains(&event))
    }

    /// Whether all WAL of the archive is replayed.
    fn ran_out(&self, course: Course) -> bool {
        let in_last = course.floor.is_none_or(|floor| self.replayed.is_some_and(|replayed| replayed >= floor));
        in_last && self.startup.as_deref().is_some_and(|event| OUT_OF_WAL.contains(&event))
    }

    fn waiting(&self, waits: Waits, course: Course) -> Arrival {
        let (newest_commit, replayed) = (self.newest_commit, self.replayed);
        Arrival { timeline: course.timeline, newest_commit, waits: Some(waits), replayed }
    }
}

#[cfg(test)]
mod tests {
    use super::{Awaited, Course, Ending, Lsn, Seen, Timeline, Told};

    #[test]
    fn a_server_that_is_to_open_is_at_its_checkpoint_when_it_is_past_its_last_record_and_waits_for_nothing() {
        let course = Course {
            start: Lsn(100),
            end: None,
            timeline: Timeline(1),
            floor: Some(Lsn(900)),
            promoted_at: None,
            lost_since: None,
        };
        let awaited = Awaited { course, ending: Ending::Promote, to: Told::Nothing };
        let seen = |replayed, startup: Option<&str>| Seen {
            open: false,
            replayed: Some(Lsn(replayed)),
            newest_commit: None,
            paused: false,
            segment: None,
            startup: startup.map(str::to_owned),
        };
        assert!(seen(900, Some("CheckpointDone")).is_at_its_checkpoint(awaited));
        assert!(seen(900, None).is_at_its_checkpoint(awaited));
        assert!(!seen(899, None).is_at_its_checkpoint(awaited));
        assert!(seen(899, Some("RecoveryRetrieveRetryInterval")).lacks_wal(course));
        assert!(!seen(900, Some("RecoveryRetrieveRetryInterval")).lacks_wal(course));
        assert!(!seen(899, None).lacks_wal(course));
        assert!(!seen(900, Some("RecoveryRetrieveRetryInterval")).is_at_its_checkpoint(awaited));
        assert!(!seen(900, None).is_at_its_checkpoint(Awaited { ending: Ending::Pause, ..awaited }));
        assert!(!Seen { open: true, ..seen(900, None) }.is_at_its_checkpoint(awaited));
    }
}
