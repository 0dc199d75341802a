//! `postgres.start`: starts the server and proves that it takes sessions.

use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::giving_up;
use crate::action::{
    Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings, Idempotency,
    Late, ParamFault, PlanContext, ReadFiles, RunContext, Surroundings,
};
use crate::actions::postgres::cluster::container::ServerHost;
use crate::actions::postgres::cluster::ha_manager;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::placement::Placement;
use crate::actions::postgres::cluster::server::{Server, major, with_programs};
use crate::actions::postgres::cluster::service_manager::{self, Runs};
use crate::actions::postgres::restore::dismantled;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::session::startup;
use crate::base::Timestamp;
use crate::base::units::Span;
use crate::pgformat::ControlFile;

/// What a base backup has and a server that runs has not (manual, "Making a Base Backup Using the Low Level API").
const BACKUP_LABEL: &str = "backup_label";

/// How long a server may take until it takes sessions, where nobody says otherwise: crash recovery included.
const WITHIN: Duration = Duration::from_secs(600);

/// Starts a server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start;

/// The arguments of `postgres.start`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// How long it may take until it takes sessions, crash recovery included. Default `10m`.
    #[serde(default)]
    pub within: Option<Span>,
    /// `stopped`: only a server that a step has stopped, which `stopped` tells, and whose data no recovery has replaced
    /// since; of a step that was cut off, `pg_control` tells whether a server ran. Else it is started in any case.
    #[serde(default)]
    pub only_if: Option<StartIf>,
    /// The output `stopped` of that step, for `only_if: stopped`.
    #[serde(default)]
    pub stopped: Option<Late<bool>>,
}

/// What must be true before a server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartIf {
    /// A `postgres.stop` of the same run stopped it: it ran before.
    Stopped,
}

impl StartParams {
    /// Says why the server is left as it is; `None` where it is to be started.
    fn leaves(
        &self,
        cluster: &Cluster,
        files: &dyn ReadFiles,
        about: &Surroundings,
    ) -> Result<Option<String>, ActionError> {
        let is_known = match (self.only_if, &self.stopped) {
            (None, _) => return Ok(None),
            (Some(StartIf::Stopped), Some(stopped)) if *stopped.get()? => true,
            (Some(StartIf::Stopped), Some(_)) => {
                left_standing(cluster, files, about)?;
                return Ok(Some("that step stopped no server, so none is started".to_owned()));
            }
            (Some(StartIf::Stopped), None) => false,
        };
        let place = cluster.pgdata.display();
        match replaced(cluster, about, files)? {
            Some(marker) => {
                let fact = format!(
                    "the server that was stopped is not started: `{place}` was replaced by run `{}`, whose recovery has not ended",
                    marker.run
                );
                Err(ActionError::fatal(fact).help(ways_out(cluster, (&marker, ""), files)))
            }
            None if dismantled::is_one(files, &cluster.pgdata) => {
                let fact =
                    format!("the server that was stopped is not started: `{place}` was taken apart for a restore");
                Err(ActionError::fatal(fact).help(recover_it(cluster)))
            }
            None if major(files, &cluster.pgdata).is_err() && is_known => {
                let fact = format!("the server that was stopped is not started: `{place}` holds no data any more");
                let help =
                    format!("`runbook status {}` lists what lies beside it; {}", cluster.name, recover_it(cluster));
                Err(ActionError::fatal(fact).help(help))
            }
            None if major(files, &cluster.pgdata).is_err() => Ok(Some(format!("`{place}` holds no data"))),
            None if half_restored(cluster, files) => {
                let fact = format!(
                    "the server that was stopped is not started: a restore has written over its data in `{place}`, and nothing \
                     was recovered yet"
                );
                Err(ActionError::fatal(fact).help(recover_it(cluster)))
            }
            None if is_known => Ok(None),
            None => idle(cluster, files, about.began_at),
        }
    }
}

/// Says why no server is started after a step that was cut off, by what the data itself tells: a server that ran when the
/// run began wrote into `pg_control` when it shut down.
///
/// # Errors
/// Fails when the data does not tell it.
fn idle(cluster: &Cluster, files: &dyn ReadFiles, began_at: Timestamp) -> Result<Option<String>, ActionError> {
    let control = files.read(&cluster.pgdata.join(ControlFile::PATH), 1 << 20).ok();
    let control = control.and_then(|bytes| ControlFile::parse(&bytes).ok());
    match control {
        // The server's time has whole seconds.
        Some(control) if control.written_at.as_second() >= began_at.as_second() => Ok(None),
        Some(control) if control.state.is_clean() => {
            Ok(Some(format!("no server ran when the run began: the last one shut down at {}", control.written_at)))
        }
        Some(_) | None => {
            let start = cluster.service_manager().start_by_hand(&with_programs(cluster, files));
            Err(ActionError::fatal("whether the step stopped the server is not known")
                .help(format!("if the server ran before that step, start it: `{start}`")))
        }
    }
}

/// The outputs of `postgres.start`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StartOutput {
    /// Whether it was started; `false` when it ran already. Its undo is `postgres.stop` with `only_if: started`.
    pub started: bool,
    /// Whether it is in recovery: a standby, which takes no writes.
    pub in_recovery: bool,
    /// Whether it serves the data it had: no recovery has put other data into its place, or is about to.
    #[serde(default)]
    pub original: bool,
    /// Why there was nothing to do, where it was not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing_to_do: Option<String>,
}

impl Action for Start {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.start",
        summary: "Starts a PostgreSQL server and proves that it takes sessions.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example { title: "After maintenance", with: "{ database: orders }" },
            Example {
                title: "As the `undo` of a `postgres.stop`: only if it ran, and its data is still its own",
                with: "{ database: orders, only_if: stopped, stopped: '{{ steps.down.stopped }}' }",
            },
            Example { title: "A large one that may have to recover", with: "{ database: orders, within: 1h }" },
        ],
    };
    type Params = StartParams;
    type Output = StartOutput;

    fn effects(&self, params: &StartParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        if params.stopped.is_some() && params.only_if.is_none() {
            return Err(vec![ParamFault::new("/stopped", "`stopped` goes with `only_if: stopped`")]);
        }
        service_manager::effects(&params.database, cx)
    }

    fn by_hand(&self, params: &StartParams, cx: &PlanContext<'_>) -> Vec<String> {
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch);
        cluster.map(|cluster| vec![cluster.service_manager().start_by_hand(&cluster)]).unwrap_or_default()
    }

    async fn check(&self, params: &StartParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let files = cx.host.read_files();
        let findings = Findings::default();
        if cx.ahead {
            // What cannot start it is found out before a step stops it.
            if major(files.as_ref(), &cluster.pgdata).is_ok() {
                Server::of(&cluster, cx.host.as_ref())?.verify(cx.host.as_ref()).await?;
            }
            return Ok(findings.pending("the data directory is looked at when the step starts"));
        }
        if live::settled(&cluster, files.as_ref()).await {
            return Ok(findings.pass("the server runs already"));
        }
        if let Some(why) = params.leaves(&cluster, files.as_ref(), &cx.about)? {
            return Ok(findings.pass(why));
        }
        if let Some((fact, help)) = unfit(&cluster, files.as_ref()).await? {
            return Ok(findings.refuse(fact, help));
        }
        if let Some(fact) = ha_manager::in_charge(&cluster, cx.host.as_ref()).await? {
            return Ok(findings.refuse(fact.what, fact.help));
        }
        let version = major(files.as_ref(), &cluster.pgdata)?;
        let server = Server::of(&cluster, cx.host.as_ref())?;
        match cluster.service_manager().runs() {
            Runs::Here => server.programs.verify(&version, cx.host.as_ref()).await?,
            Runs::InContainer => drop(ServerHost::seen(&cluster, cx.host.as_ref()).await?),
        }
        Ok(findings.pass(format!("the server of PostgreSQL {version} does not run and can be started")))
    }

    async fn run(&self, params: &StartParams, cx: &RunContext) -> Result<StartOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let files = cx.host.files();
        let within = params.within.map_or(WITHIN, |span| span.0);
        let runs = live::settled(&cluster, files.as_ref()).await;
        if !runs && let Some(why) = params.leaves(&cluster, files.as_ref(), &cx.about)? {
            cx.reporter
                .note(format!("the server of `{}` is not started: {why}", cluster.name), serde_json::Value::Null);
            return Ok(StartOutput { started: false, in_recovery: false, original: false, nothing_to_do: Some(why) });
        }
        if !runs && let Some((fact, help)) = unfit(&cluster, files.as_ref()).await? {
            return Err(ActionError::fatal(fact).help(help));
        }
        major(files.as_ref(), &cluster.pgdata)?;
        let server = Server::of(&cluster, cx.host.as_read())?;
        if !runs {
            server.verify(cx.host.as_read()).await?;
            ha_manager::refuse(&cluster, cx.host.as_read()).await?;
            live::clear_zombie_lock(&cluster, files.as_ref()).map_err(|error| {
                ActionError::retryable("the lock of a dead server cannot be removed").because(&error)
            })?;
            server.start(cx.host.as_ref()).await?;
            server.tell_log(cx);
        }
        let in_recovery = startup::answers(&server, within, cx).await?;
        let recovery = replaced(&cluster, &cx.about, files.as_ref())?;
        let unfinished = recovery.as_ref().filter(|marker| runs && params.only_if.is_some() && !marker.has_opened());
        if let Some(marker) = unfinished {
            return Err(not_back(&cluster, (marker, in_recovery), files.as_ref()));
        }
        let nothing_to_do = runs.then(|| runs_already(&cluster, files.as_ref())).transpose()?;
        Ok(StartOutput { started: !runs, in_recovery, original: recovery.is_none(), nothing_to_do })
    }
}

/// Why the old data is not back, though a server runs in its place: it is that of a recovery which has not ended.
fn not_back(cluster: &Cluster, (marker, in_recovery): (&Marker, bool), files: &dyn ReadFiles) -> ActionError {
    let (place, run, kept) = (cluster.pgdata.display(), &marker.run, cluster.kept(files, &marker.run));
    let reached = marker.waits.map(|waiting| {
        let newest = waiting.newest_commit.map(|at| format!(", with the newest commit of {at}")).unwrap_or_default();
        format!(" at {}{newest}", waiting.reached)
    });
    let stands = match in_recovery {
        true => format!("waits in recovery, read-only{}", reached.unwrap_or_default()),
        false => "takes sessions".to_owned(),
    };
    let old = lies_in(&kept, files);
    let fact = format!(
        "the old data is not back: `{place}` was replaced by run `{run}`, whose recovery has not ended, and its \
         server {stands}{old}"
    );
    let stop = cluster.service_manager().stop_by_hand(cluster);
    let stop = format!("{{ test ! -e {place}/postmaster.pid || {stop}; }} && ");
    ActionError::fatal(fact).help(ways_out(cluster, (marker, &stop), files))
}

/// Where the old data was moved to.
fn lies_in(kept: &Path, files: &dyn ReadFiles) -> String {
    match files.facts(kept) {
        Ok(Some(_)) => format!("; the old data lies in `{}`", kept.display()),
        Ok(None) | Err(_) => String::new(),
    }
}

/// Refuses to call it nothing where no server ran before, and the run has put something else into the place of its data, or
/// taken it away: none of that is undone. What another run left there is none of its doing.
fn left_standing(cluster: &Cluster, files: &dyn ReadFiles, about: &Surroundings) -> Result<(), ActionError> {
    let (place, runs) = (cluster.pgdata.display(), [&about.run, &about.steps_of]);
    let told = |what: String| ActionError::fatal(format!("no server ran before, so none is started, but {what}"));
    let marker = Marker::read(files, &cluster.pgdata)?.filter(|marker| runs.contains(&&marker.run));
    if let Some(marker) = marker.filter(|marker| !marker.has_opened()) {
        let old = lies_in(&cluster.kept(files, &marker.run), files);
        let what = format!("`{place}` was replaced by run `{}`, whose recovery has not ended{old}", marker.run);
        return Err(told(what).help(ways_out(cluster, (&marker, ""), files)));
    }
    if runs.iter().any(|run| dismantled::is_of(files, &cluster.pgdata, run)) {
        return Err(told(format!("`{place}` was taken apart for a restore")).help(recover_it(cluster)));
    }
    let is_there = |path: &Path| matches!(files.facts(path), Ok(Some(_)));
    let moved = runs.map(|run| cluster.kept(files, run)).into_iter().find(|kept| is_there(kept));
    match moved.filter(|_| major(files, &cluster.pgdata).is_err()) {
        Some(kept) => Err(told(format!("`{place}` holds no data any more{}", lies_in(&kept, files)))
            .help(format!("resume that run, or {}", recover_it(cluster)))),
        None => Ok(()),
    }
}

/// The recovery that has put other data into the place of what a run found there. One of another run that has opened is what
/// this one found; to an undo its own run is the one that it undoes.
fn replaced(cluster: &Cluster, about: &Surroundings, files: &dyn ReadFiles) -> Result<Option<Marker>, ActionError> {
    let is_own = |marker: &Marker| [&about.run, &about.steps_of].contains(&&marker.run);
    let marker = Marker::read(files, &cluster.pgdata)?;
    Ok(marker.filter(|marker| is_own(marker) || !marker.has_opened()))
}

/// What is said of a server that runs: whoever undoes a recovery hears that its data stays.
fn runs_already(cluster: &Cluster, files: &dyn ReadFiles) -> Result<String, ActionError> {
    let marker = Marker::read(files, &cluster.pgdata)?;
    Ok(match marker.filter(Marker::has_opened) {
        Some(marker) => format!(
            "the server runs already, on the data that the recovery of run `{}` put in place; that stays as it is",
            marker.run
        ),
        None => "the server runs already".to_owned(),
    })
}

/// Whether a restore in place was cut off, or its recovery never began: a server that shut down leaves its `pg_control` and no
/// `backup_label`. Started now it would open at the end of the backup, on the old timeline, without what came after.
fn half_restored(cluster: &Cluster, files: &dyn ReadFiles) -> bool {
    let is_there = |name: &str| matches!(files.facts(&cluster.pgdata.join(name)), Ok(Some(_)));
    is_there(BACKUP_LABEL) || !is_there(ControlFile::PATH)
}

fn recover_it(cluster: &Cluster) -> String {
    format!("recover it: `runbook restore {}`", cluster.name)
}

/// What is left to do where a recovery has replaced the data and did not come to its end; `stop` comes before anything is moved.
fn ways_out(cluster: &Cluster, (marker, stop): (&Marker, &str), files: &dyn ReadFiles) -> String {
    let (name, place, kept) = (&cluster.name, cluster.pgdata.display(), cluster.kept(files, &marker.run));
    let again = recover_it(cluster);
    let is_there = files.facts(&kept).is_ok_and(|facts| facts.is_some());
    // What lies in tablespaces was moved with it, each in its own place.
    let is_all = files.list(&kept.join("pg_tblspc")).is_ok_and(|links| links.is_empty());
    // Inside a mount point the kept data would go with what it is to take the place of.
    let is_beside = cluster.placement(files) == Placement::Beside;
    match is_there && is_all && is_beside {
        true => {
            let kept = kept.display();
            let start = cluster.service_manager().start_by_hand(&with_programs(cluster, files));
            // Else the archive holds it for the newest one, and takes no more of the old server. It comes last: what a silent
            // store keeps from being noted must not keep the server down.
            let opened = giving_up::opened(files, &cluster.pgdata, marker).filter(|_| cluster.archive().is_ok());
            let known = opened.filter(|one| marker.given_up.is_none_or(|given_up| given_up.timeline != *one));
            let last = known.map(|one| format!(" && runbook wal give-up {name} --timeline {one}")).unwrap_or_default();
            let aside = cluster.placement(files).abandoned(&cluster.pgdata, &marker.run);
            let aside = aside.display();
            // Typed twice it touches nothing the second time, and where it stopped half-way it goes on. Who may not look into
            // that folder starts nothing: there what is recovered lies in its place still.
            let swap = format!("{{ test ! -e {place} || mv {place} {aside}; }} && mv {kept} {place}");
            let is_back = format!("test -d {aside} && test ! -e {kept}");
            let take_back = format!("test -d {kept} && {stop}{swap}; {is_back} && {start}{last}");
            format!("{again}; or take the old data back: `{take_back}`")
        }
        false => again,
    }
}

/// Says what must not be started, or cannot be.
async fn unfit(cluster: &Cluster, files: &dyn ReadFiles) -> Result<Option<(String, String)>, ActionError> {
    let place = cluster.pgdata.display();
    if cluster.is_scratch() {
        let help = "a throw-away server is started by `postgres.recover` or `postgres.side_instance`";
        return Ok(Some((format!("`{place}` belongs to a throw-away server that does not run"), help.to_owned())));
    }
    if let Some(marker) = Marker::read(files, &cluster.pgdata)?.filter(|marker| !marker.has_opened()) {
        let fact = format!("`{place}` is in the middle of the recovery of run `{}`", marker.run);
        let help = "resume that run: started now, the server could open without what is still to be replayed";
        return Ok(Some((fact, help.to_owned())));
    }
    let signs = live::signs(cluster, files).await?;
    if let Some(sign) = signs.first() {
        let help = "stop it, or correct `port` and `socket` of the database";
        return Ok(Some((format!("another server is in the way: {sign}"), help.to_owned())));
    }
    Ok(cluster.misconfigured(files).map(|fact| (fact.what, fact.help)))
}
