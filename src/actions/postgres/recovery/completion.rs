//! From the swap to the end of a recovery: the server starts, replays, and opens or waits; what was reached is
//! proven, and what a recovery leaves behind is told.

mod outcome;
mod paused;

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::attempt::Reading;
use super::giving_up;
use super::proof;
use super::reached;
use super::recover::RecoverOutput;
use super::replay::{self, Arrival, Awaited, Told};
use super::silence;
use super::slot;
use crate::action::{ActionError, FileKind, Files, REPLACING, ReadFiles, Waits};
use crate::actions::postgres::cluster::container::ServerHost;
use crate::actions::postgres::cluster::layout::MARKER;
use crate::actions::postgres::cluster::limits::{self, Configured, Short};
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::pg_control::{cannot, control};
use crate::actions::postgres::cluster::server::Server;
use crate::actions::postgres::cluster::settings;
use crate::actions::postgres::cluster::side;
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::fetching;
use crate::actions::postgres::restore::freezing;
use crate::actions::postgres::restore::marker::{Course, Marker, Opened, Waiting};
use crate::actions::postgres::restore::recovery_target::{Ending, RecoveryTarget};
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::actions::postgres::session::startup;
use crate::catalog::GivenUp;
use crate::event::ErrorClass;
use crate::pgformat::Lsn;

/// The file of an attempt that holds the outputs of a proven recovery.
const OUTPUT: &str = "recovered.json";

/// How often a replay is looked at that somebody paused.
const PAUSED_TICK: Duration = Duration::from_secs(1);

/// A recovery that ended before its engine died.
pub(crate) struct Completed;

impl Completed {
    /// Reads the outputs that an attempt left.
    pub(crate) fn read(files: &dyn ReadFiles, attempt_dir: &Path) -> Option<RecoverOutput> {
        let bytes = files.read(&attempt_dir.join(OUTPUT), 1 << 20).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// A swapped cluster on its way.
pub(crate) struct Completion<'a> {
    /// What it is worked on with.
    pub(crate) context: &'a RecoveryContext<'a>,
    /// What was staged, and how far it is.
    pub(crate) marker: Marker,
}

impl Completion<'_> {
    /// Starts the server if it does not run, follows it to its end, and proves what was reached.
    ///
    /// # Errors
    /// Fails when replay does, when the target was missed, or when archiving does not work afterwards.
    pub(crate) async fn complete(mut self, recovery_target: &RecoveryTarget) -> Result<RecoverOutput, ActionError> {
        // Started again it would open there, and take writes that no recovery follows.
        if let Some(given_up) = self.marker.given_up {
            return Err(self.stays_stopped(given_up).await);
        }
        let files = self.context.cx.host.files();
        let server = self.context.server(files.as_ref())?;
        self.start(&server, files.as_ref()).await?;
        let followed = self.follow(server, recovery_target).await;
        let arrival = silence::told(self.context, &self.marker, followed).await?;
        let at = self.seen_whole(arrival).await?;
        let arrival = self.remember(arrival, at)?;
        let mut session = self.session().await?;
        let asked = self.marker.asked.clone().unwrap_or_else(|| recovery_target.asked());
        reached::confirm((&asked, self.told(), self.course().floor), (at, arrival.newest_commit), &mut session).await?;
        match arrival.waits {
            Some(waits) => self.waits(waits, arrival, &mut session).await,
            None => self.opened(arrival, session).await,
        }
    }

    /// What is said of a server that was given up. Whoever did it may have died before every store knew.
    async fn stays_stopped(&self, given_up: GivenUp) -> ActionError {
        let timeline = given_up.timeline;
        let fact =
            format!("this recovery opened timeline {timeline} too early and gave it up: its server stays stopped");
        let lacking = giving_up::note_again(self.context, &self.marker, (given_up, &fact)).await;
        let anew = "recover anew, without `--from`";
        let help = match lacking.is_empty() {
            true => anew.to_owned(),
            false => format!(
                "{anew}, with `timeline: {}`: that timeline {timeline} is given up could not be noted everywhere: {}",
                self.course().timeline,
                lacking.join(", ")
            ),
        };
        ActionError::fatal(fact).help(help)
    }

    /// Promotes a server that waits, and ends its recovery as [`Completion::complete`] does.
    ///
    /// # Errors
    /// Fails when the server does not open, or archiving does not work afterwards.
    pub(crate) async fn promote(mut self) -> Result<RecoverOutput, ActionError> {
        if let Some(given_up) = self.marker.given_up {
            return Err(self.stays_stopped(given_up).await);
        }
        let files = self.context.cx.host.files();
        freezing::begin(self.context.cluster, self.context.cx).await;
        let server = self.context.server(files.as_ref())?;
        self.start(&server, files.as_ref()).await?;
        let session = self.session_once_up(&server).await;
        let mut session = silence::told(self.context, &self.marker, session).await?;
        if session.value("SELECT pg_is_in_recovery()").await? == "t" {
            session.query("SELECT pg_promote(false)").await?;
        }
        drop(session);
        let awaited = Awaited { course: self.course(), ending: Ending::Promote, to: Told::Promotion };
        let followed = replay::follow(&server, awaited, self.context.cx).await;
        let arrival = silence::told(self.context, &self.marker, followed).await?;
        let at = self.seen_whole(arrival).await?;
        let arrival = self.remember(arrival, at)?;
        let mut session = self.session().await?;
        // A server that waited at the end of the archive replays what came since before it opens.
        if let Some(asked) = &self.marker.asked {
            reached::confirm((asked, self.told(), self.course().floor), (at, arrival.newest_commit), &mut session)
                .await?;
        }
        // Until its first checkpoint a promoted server would recover from before the promotion (facts 2.4).
        if let Err(error) = session.query("CHECKPOINT").await {
            let message =
                format!("no checkpoint follows the promotion at once, so a crash now costs a long replay: {error}");
            self.context.cx.reporter.note(message, json!({ "causes": error.info().causes }));
        }
        self.opened(arrival, session).await
    }

    /// Gives the position that was reached. A server that was to replay everything and ended before is stopped: nobody
    /// may write into a database that lacks transactions.
    async fn seen_whole(&self, arrival: Arrival) -> Result<Lsn, ActionError> {
        let RecoveryContext { cluster, cx, .. } = self.context;
        let files = cx.host.files();
        let at = match arrival.replayed {
            Some(replayed) => replayed,
            None => proof::fork(cluster, arrival.timeline, files.as_ref())?,
        };
        let Some(floor) = self.course().floor.filter(|floor| at < *floor && !self.marker.to_target) else {
            return Ok(at);
        };
        let server = self.context.server(files.as_ref())?;
        let tail = server.log_tail(files.as_ref());
        server.stop(cx.host.as_ref()).await?;
        let fact = format!(
            "the recovery ended at {at}, though the WAL that was there leads to {floor}: what lies between did not come back, so the server was stopped"
        );
        let again = match arrival.waits {
            // It opened: by now the archive has a timeline that lacks what follows.
            None if !cluster.is_scratch() => {
                let course = self.course().timeline;
                giving_up::give_up(self.context, &self.marker, (arrival.timeline, course), &fact).await
            }
            None | Some(_) => "and recover again".to_owned(),
        };
        let help = format!(
            "`runbook wal verify` tells which segment is damaged; bring a whole copy of it back {again}; or recover to \
             {at} with `target_lsn`, to go on without the rest"
        );
        Err(ActionError::fatal(fact).process(None, tail).help(help))
    }

    /// Notes of a server that has opened what it tells only until it is started again, and gives what was noted first.
    fn remember(&mut self, arrival: Arrival, at: Lsn) -> Result<Arrival, ActionError> {
        if arrival.waits.is_some() {
            return Ok(arrival);
        }
        if let Some(opened) = self.marker.opened.filter(|opened| opened.timeline == arrival.timeline) {
            return Ok(Arrival { newest_commit: opened.newest_commit, ..arrival });
        }
        let waited = self.marker.waits.and_then(|waiting| waiting.newest_commit);
        let newest_commit = arrival.newest_commit.or(waited);
        let is_short = self.is_short(&arrival, at);
        self.marker.opened = Some(Opened { timeline: arrival.timeline, newest_commit, is_short });
        let files = self.context.cx.host.files();
        self.marker.write(files.as_ref(), &self.context.cluster.pgdata, &self.context.owner)?;
        Ok(Arrival { newest_commit, ..arrival })
    }

    async fn start(&self, server: &Server<'_>, files: &dyn Files) -> Result<(), ActionError> {
        let cluster = self.context.cluster;
        silence::leave_out(self.context, &self.marker, files)?;
        if live::settled(cluster, files).await {
            return Ok(());
        }
        live::refuse(cluster, files).await?;
        live::clear_zombie_lock(cluster, files).map_err(|error| cannot(&error))?;
        let host = self.context.cx.host.as_ref();
        ServerHost::renew(cluster, host).await?;
        server.start(host).await?;
        server.tell_log(self.context.cx);
        Ok(())
    }

    fn course(&self) -> Course {
        let base = super::replay_plan::base(&self.marker);
        let unknown = Course {
            start: base.start,
            end: None,
            timeline: base.timeline,
            floor: None,
            promoted_at: None,
            lost_since: None,
        };
        self.marker.course.unwrap_or(unknown)
    }

    fn told(&self) -> Told {
        if self.marker.to_target { Told::Target } else { Told::Nothing }
    }

    /// A session as soon as the server takes one: it may have been started a moment ago, and replays then for as long as it needs.
    async fn session_once_up(&self, server: &Server<'_>) -> Result<Session, ActionError> {
        startup::answers(server, Duration::MAX, self.context.cx).await?;
        self.session().await
    }

    async fn session(&self) -> Result<Session, ActionError> {
        MaintenanceDb::common(self.context.cluster, self.context.cx.about.secrets.as_ref())?.open().await
    }

    /// Follows the replay; settings that turn out too small on the way are raised each time: a server that replays their
    /// change pauses there, or ends. One that ended on its way to a target begins again, and reads nothing behind it.
    async fn follow(&self, mut server: Server<'_>, recovery_target: &RecoveryTarget) -> Result<Arrival, ActionError> {
        let awaited = Awaited { course: self.course(), ending: recovery_target.ending, to: self.told() };
        let files = self.context.cx.host.files();
        let (mut raised, mut paused) = (String::new(), None);
        loop {
            let followed = replay::follow(&server, awaited, self.context.cx).await;
            let doubtful = match &followed {
                Ok(arrival) => arrival.waits == Some(Waits::Paused),
                Err(error) => error.info().class != ErrorClass::Cancelled,
            };
            let short = if doubtful { self.short(&server).await } else { Vec::new() };
            let words = limits::words(&short);
            // What is set on the server's command line stays as it is, however often it is raised in a file.
            if short.is_empty() || words == raised {
                match &followed {
                    Ok(arrival) if doubtful && !short.is_empty() => return Err(self.unraised(&server, arrival, &words)),
                    Ok(arrival) if self.is_early(arrival, recovery_target, &mut paused).await? => {
                        tokio::time::sleep(PAUSED_TICK).await;
                        continue;
                    }
                    Ok(_) | Err(_) => {}
                }
                if followed.is_err() && doubtful && self.reads_less(files.as_ref()).await? {
                    self.start(&server, files.as_ref()).await?;
                    continue;
                }
                return followed;
            }
            let message = format!("the WAL raises a setting that this server has lower, so it is raised too: {words}");
            raised = words;
            self.context.cx.reporter.note(message, json!({ "settings": limits::raised(&short) }));
            if !live::signs(self.context.cluster, files.as_ref()).await?.is_empty() {
                server.stop(self.context.cx.host.as_ref()).await?;
            }
            self.raise(files.as_ref(), &short)?;
            server = self.context.server(files.as_ref())?;
            self.start(&server, files.as_ref()).await?;
        }
    }

    /// Has a server that ended on its way to a target read no further than it replays: what is damaged behind the target
    /// ends one that reads ahead. Tells whether that was news to it.
    async fn reads_less(&self, files: &dyn Files) -> Result<bool, ActionError> {
        let cluster = self.context.cluster;
        if !self.marker.to_target || !live::signs(cluster, files).await?.is_empty() {
            return Ok(false);
        }
        let told = Reading::AsReplayed.tell(self.context, files, &cluster.pgdata)?;
        if told {
            let message = "the server ended before its target: it begins again and reads no further than it replays, in case \
                           it was damage behind the target that ended it";
            self.context.cx.reporter.note(message.to_owned(), serde_json::Value::Null);
        }
        Ok(told)
    }

    async fn short(&self, server: &Server<'_>) -> Vec<Short> {
        let (context, pgdata) = (self.context, &self.context.cluster.pgdata);
        let files = context.cx.host.read_files();
        let Ok(control) = control(files.as_ref(), pgdata) else { return Vec::new() };
        if let Some(root) = context.cluster.scratch_root() {
            return side::short_of(files.as_ref(), root, control.limits);
        }
        let (cluster, owner, server_host) = (context.cluster, &context.owner, &context.server_host);
        let configured = Configured { cluster, owner, programs: &server.programs, server_host, pgdata };
        configured.short_of(control.limits, context.cx.host.as_read()).await
    }

    fn raise(&self, files: &dyn Files, short: &[Short]) -> Result<(), ActionError> {
        // A throw-away server has its settings from `pg_control`, which tells by now what the WAL needs.
        if let Some(side) = self.context.side(files, &self.context.cluster.pgdata)? {
            return side.write(files, &self.context.owner).map_err(|error| cannot(&error));
        }
        let auto = self.context.cluster.pgdata.join(settings::FILE);
        let bytes = files.read(&auto, 1 << 24).map_err(|error| cannot(&error))?;
        let text = settings::within_block(&settings::text_of(&bytes), &limits::raised(short));
        self.context.write(files, &auto, &text).map_err(|error| cannot(&error))
    }

    /// The server waits: what it waits for is written down, and everything it needs stays.
    async fn waits(
        mut self,
        waits: Waits,
        arrival: Arrival,
        session: &mut Session,
    ) -> Result<RecoverOutput, ActionError> {
        let files = self.context.cx.host.files();
        let reached = arrival.replayed.unwrap_or(self.marker.stop);
        let newest_commit = arrival.newest_commit;
        self.marker.waits = Some(Waiting { waits, reached, newest_commit });
        self.marker.write(files.as_ref(), &self.context.cluster.pgdata, &self.context.owner)?;
        let prepared = reached::prepared(session).await?;
        let output = self.output(files.as_ref(), arrival, reached);
        let output = RecoverOutput { prepared, ..output };
        let now = arrival.newest_commit.map_or_else(String::new, |at| format!(", newest commit {at}"));
        let words = match waits {
            Waits::Paused => "the server waits at its target and can be read; promote it, go on, or start earlier",
            Waits::Standby => "the server is a standby that follows the archive",
        };
        self.context.cx.reporter.note(format!("{words} ({reached}{now})"), json!({ "reached": reached.to_string() }));
        self.keep(files.as_ref(), &output)?;
        Ok(output)
    }

    /// The server is open: leftovers go, the archive is proven, slots come back.
    async fn opened(&self, arrival: Arrival, mut session: Session) -> Result<RecoverOutput, ActionError> {
        let RecoveryContext { cluster, cx, .. } = self.context;
        let files = cx.host.files();
        self.clean(files.as_ref())?;
        let prepared = reached::prepared(&mut session).await?;
        if !prepared.is_empty() {
            let message = format!("prepared transactions are open and hold their locks: {}", prepared.join(", "));
            cx.reporter.note(message, json!({ "prepared": prepared }));
        }
        let claim = proof::Claim {
            cluster,
            wal_archive: self.context.wal_archive(&self.marker),
            marker: &self.marker,
            timeline: arrival.timeline,
            cx,
        };
        let proven = proof::prove(&claim).await.map_err(|error| self.unproven(error))?;
        self.note_shortfall(&arrival, proven.fork);
        let slots = if cluster.is_scratch() {
            Vec::new()
        } else {
            slot::restore(self.context, &self.marker, &mut session).await
        };
        let standbys = if cluster.is_scratch() { Vec::new() } else { slot::standbys(self.context, &self.marker).await };
        let subscriptions = slot::subscriptions(self.context, &mut session).await;
        let waits_for_standby = self.held_up(&mut session).await?;
        let emptied = self.emptied().await;
        let output = self.output(files.as_ref(), arrival, proven.fork);
        let archived = proven.segment.map(|segment| segment.to_string());
        let output =
            RecoverOutput { archived, slots, standbys, subscriptions, prepared, emptied, waits_for_standby, ..output };
        self.keep(files.as_ref(), &output)?;
        files.remove_file(&cluster.pgdata.join(MARKER)).map_err(|error| cannot(&error))?;
        Ok(output)
    }

    /// What is to be done about an open server that does not archive: the data is right, so nothing is restored again.
    fn unproven(&self, error: ActionError) -> ActionError {
        let RecoveryContext { cluster, cx, .. } = self.context;
        if cluster.is_scratch() || error.info().class == ErrorClass::Cancelled {
            return error;
        }
        let before = error.info().help.clone().map_or_else(String::new, |help| format!("{help}; "));
        let (name, again) = (&cluster.name, silence::again(cx));
        error.help(format!(
            "{before}`runbook run setup-archiving -p database={name}` has it archive and proves that; then {again}"
        ))
    }

    /// Writes the outputs down before the step is: an engine that dies in between finds them.
    fn keep(&self, files: &dyn Files, output: &RecoverOutput) -> Result<(), ActionError> {
        let text = serde_json::to_vec(output)
            .map_err(|error| ActionError::fatal("the outputs cannot be written").because(&error))?;
        files.replace(&self.context.cx.attempt_dir.join(OUTPUT), &text, 0o600).map_err(|error| cannot(&error))
    }

    /// Removes the recovery's settings and leftovers from the open server.
    fn clean(&self, files: &dyn Files) -> Result<(), ActionError> {
        let RecoveryContext { cluster, owner, .. } = self.context;
        let auto = cluster.pgdata.join(settings::FILE);
        let bytes = files.read(&auto, 1 << 24).map_err(|error| cannot(&error))?;
        let text = settings::text_of(&bytes);
        let cleaned = settings::without_block(&text);
        if cleaned != text {
            let cleaned = settings::bytes_of(&cleaned);
            files.replace_for(&auto, &cleaned, 0o600, owner.ids()).map_err(|error| cannot(&error))?;
        }
        // Also when somebody wrote it by hand.
        files.chown(&auto, owner.uid, owner.gid).map_err(|error| cannot(&error))?;
        fetching::clear(self.context, &self.marker.run, files).map_err(|error| cannot(&error))?;
        // The server cannot read what a killed engine left, and takes no base backup then.
        for left in files.list(&cluster.pgdata).map_err(|error| cannot(&error))? {
            if left.facts.kind == FileKind::File && left.name.to_string_lossy().starts_with(REPLACING) {
                files.remove_file(&cluster.pgdata.join(&left.name)).map_err(|error| cannot(&error))?;
            }
        }
        for name in ["backup_label.old", "tablespace_map.old"] {
            let path = cluster.pgdata.join(name);
            if matches!(files.facts(&path), Ok(Some(_))) {
                files.remove_file(&path).map_err(|error| cannot(&error))?;
            }
        }
        Ok(())
    }
}
