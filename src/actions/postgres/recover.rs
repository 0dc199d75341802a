//! `postgres.recover`: swaps, rescues, replays and promotes.
//!
//! Every phase finds out from the disk what an earlier attempt did, so that the step can be run again
//! after it was cut off anywhere. Before the swap nothing live is touched; after it the old data is
//! kept and named. In order:
//!
//! 1. refuse a live server;
//! 2. push what the old `pg_wal` holds beyond the archive;
//! 3. decide target and timeline;
//! 4. write the recovery's settings into the staged folder;
//! 5. swap by rename;
//! 6. start the server and follow the replay;
//! 7. remove the settings;
//! 8. prove the archive and archiving on the new timeline.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::archive::Shelf;
use super::attempt::{Attempted, Recovering};
use super::by_hand;
use super::layout::Cluster;
use super::marker::{self, Marker};
use super::owner::Owner;
use super::{live, outlook, server};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, InstanceHandle, Interrupted, Late, ParamFault, PlanContext, Recovery, RunContext, StagedHandle,
    Target,
};
use crate::base::Timestamp;
use crate::catalog::recovery::Goal;
use crate::event::Coverage;
use crate::language::inventory::Via;
use crate::pgformat::{Lsn, Timeline};
use crate::wal::Keys;

/// Recovers a staged backup.
#[derive(Debug, Clone)]
pub struct Recover {
    /// Our own program, which the server calls to fetch WAL.
    program: PathBuf,
}

impl Recover {
    /// An action whose servers fetch WAL with `program wal fetch`.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }
}

impl Default for Recover {
    /// Servers call the program that runs now.
    fn default() -> Self {
        Self::new(std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/runbook")))
    }
}

/// The arguments of `postgres.recover`. At most one target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// The staged backup, as `postgres.restore_base` gave it.
    pub staged: Late<StagedHandle>,
    /// A point in time with offset; the last commit not after it is the last one there is.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub target_time: Option<Timestamp>,
    /// A position, included.
    #[serde(default)]
    pub target_lsn: Option<String>,
    /// A restore point made with `pg_create_restore_point`.
    #[serde(default)]
    pub target_name: Option<String>,
    /// A transaction, its commit included.
    #[serde(default)]
    pub target_xid: Option<u64>,
    /// The timeline to follow; default: the one that was live at the target, the latest without target.
    #[serde(default)]
    pub timeline: Option<u32>,
}

/// The outputs of `postgres.recover`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecoverOutput {
    /// The running server.
    pub instance: InstanceHandle,
    /// Where replay ended: the position at which the new timeline began.
    pub recovered_to_lsn: String,
    /// The newest recovered commit, by the primary's clock; null when replay saw none.
    #[schemars(with = "Option<String>")]
    pub recovered_to_time: Option<Timestamp>,
    /// The new timeline.
    pub timeline: u32,
    /// The last position the old server is known to have flushed; null when its `pg_wal` was lost.
    pub last_flushed_lsn: Option<String>,
    /// What the loss figure rests on.
    pub loss: RecoverLoss,
    /// Where the old data is kept; null when there was none.
    pub kept: Option<PathBuf>,
}

/// What is known about loss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecoverLoss {
    /// `to_last_flushed`: all that was known to be flushed, or all up to the chosen target, is there.
    #[schemars(with = "String")]
    pub coverage: Coverage,
    /// The newest commit known to be recovered, else the end of the backup.
    #[schemars(with = "Option<String>")]
    pub newest_commit_at: Option<Timestamp>,
}

impl RecoverParams {
    /// The one target, the end of the archive without any.
    pub(crate) fn goal(&self) -> Result<Goal, ParamFault> {
        let mut goals = Vec::new();
        goals.extend(self.target_time.map(Goal::Time));
        if let Some(text) = &self.target_lsn {
            let lsn: Lsn = text.parse().map_err(|_| {
                ParamFault::new("/target_lsn", format!("`{text}` is no position; write for example `16/B374D848`"))
            })?;
            goals.push(Goal::Lsn(lsn));
        }
        goals.extend(self.target_name.clone().map(Goal::Name));
        goals.extend(self.target_xid.map(Goal::Xid));
        match goals.len() {
            0 => Ok(Goal::Newest),
            1 => Ok(goals.remove(0)),
            _ => Err(ParamFault::new("", "a recovery has at most one target")),
        }
    }
}

impl Action for Recover {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.recover",
        summary: "Swaps in a staged backup, rescues unarchived WAL, replays to the target and promotes.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[Example {
            title: "To a point in time",
            with: "{ database: orders, staged: '{{ steps.stage.staged }}', target_time: '2026-01-28T14:30:00Z' }",
        }],
    };
    type Params = RecoverParams;
    type Output = RecoverOutput;

    fn effects(&self, params: &RecoverParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let fault = |error: &ActionError| vec![ParamFault::new("/database", error.to_string())];
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).map_err(|error| fault(&error))?;
        let (store, prefix) = cluster.archive().map_err(|error| fault(&error))?;
        params.goal().map_err(|fault| vec![fault])?;
        let archive = Target::Store { name: store.to_owned(), prefix: prefix.to_owned() };
        let database = Target::Database { name: cluster.name.clone() };
        if cluster.is_scratch() {
            let effects = Effects::of(EffectClass::Destroy).target(Access::Read, archive);
            return Ok(effects.target(Access::Destroy, database));
        }
        Ok(Effects::of(EffectClass::Destroy).target(Access::Write, archive).target(Access::Destroy, database))
    }

    fn by_hand(&self, params: &RecoverParams, cx: &PlanContext<'_>) -> Vec<String> {
        by_hand::recover(params, cx).unwrap_or_default()
    }

    async fn check(&self, params: &RecoverParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let files = cx.host.read_files();
        let owner = Owner::of(&cluster, cx.host.as_ref())?;
        let mut findings = Findings::default();
        if cx.host.find_program(&self.program.to_string_lossy()).is_none() {
            let fact = format!("`{}` cannot be run, so the server could fetch no WAL", self.program.display());
            return Ok(findings.refuse(fact, "install runbook where the server's user can run it"));
        }
        if let Some(fact) = barred(&self.program, &owner, cx.host.as_ref()).await {
            return Ok(findings
                .refuse(fact, "install runbook where the server's user can run it (`/usr/local/bin`, mode 0755)"));
        }
        if params.timeline == Some(0) {
            return Ok(findings.refuse("there is no timeline 0", "leave `timeline` out, or name one"));
        }
        if cx.ahead {
            let findings = findings.pending("the server is looked at when the step starts");
            let sentence = outlook::sentence(&cluster, params.target_time, cx).await?;
            return Ok(sentence.into_iter().fold(findings, Findings::pass));
        }
        let ours = Marker::read(files.as_ref(), &cluster.pgdata)?.is_some_and(|marker| marker.run == cx.about.run);
        let signs = live::signs(&cluster, files.as_ref()).await?;
        if !signs.is_empty() && !ours {
            let words: Vec<String> = signs.iter().map(ToString::to_string).collect();
            findings = findings
                .refuse(format!("the server is alive: {}", words.join("; ")), "stop it first (`postgres.stop`)");
            return Ok(findings);
        }
        let (store_name, prefix) = cluster.archive()?;
        if let Some(marker) = marker::staged(files.as_ref(), &cluster, &cx.about.run)? {
            let store = cx.store(store_name)?;
            let goal = params.goal().map_err(|fault| ActionError::fatal(fault.message))?;
            let (system_id, size) = (marker.system_id, marker.segment_size);
            let shelf = Shelf { store: store.as_ref(), prefix, system_id, size, keys: Keys::none() };
            shelf.view().await?.reachable(&goal, super::course::base(&marker))?;
            let staged = cluster.staged(&cx.about.run);
            let version = server::major(files.as_ref(), &staged)?;
            server::Programs::of(&cluster, &version, cx.host.as_ref())?.verify(&version, cx.host.as_ref()).await?;
            if let Some(fact) = no_config(files.as_ref(), &cluster, &staged) {
                return Ok(findings.refuse(fact, "add `options: \"-c config_file=…\"` under `via: { pg_ctl: … }`"));
            }
        }
        Ok(findings.pass("no server is alive, and the program that fetches WAL is there"))
    }

    async fn run(&self, params: &RecoverParams, cx: &RunContext) -> Result<RecoverOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let goal = params.goal().map_err(|fault| ActionError::fatal(fault.message))?;
        let handle = params.staged.get()?;
        if handle.database != cluster.name || handle.dir != cluster.staged(&cx.about.run) {
            let fact = format!("`{}` is not where this run stages database `{}`", handle.dir.display(), cluster.name);
            return Err(ActionError::fatal(fact));
        }
        let (store_name, prefix) = cluster.archive()?;
        let recovering = Recovering {
            cluster: &cluster,
            owner: Owner::of(&cluster, cx.host.as_ref())?,
            store: cx.store(store_name)?,
            prefix,
            program: &self.program,
            goal,
            timeline: params.timeline.map(Timeline),
            cx,
        };
        recovering.run().await
    }

    /// Adopts a recovery that was proven before the engine died; every other one goes on where it was, one
    /// whose marker is still there included.
    async fn recover(
        &self,
        params: &RecoverParams,
        cut: &Interrupted,
        cx: &CheckContext,
    ) -> Result<Recovery<RecoverOutput>, ActionError> {
        let files = cx.host.read_files();
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        if Marker::read(files.as_ref(), &cluster.pgdata)?.is_some_and(|marker| marker.run == cx.about.run) {
            return Ok(Recovery::Rerun);
        }
        Ok(Attempted::read(files.as_ref(), &cut.attempt_dir).map_or(Recovery::Rerun, Recovery::Adopt))
    }

    async fn remove(&self, _: &str, data: &serde_json::Value, cx: &RunContext) -> Result<(), ActionError> {
        super::scratch::remove(data, cx).await
    }
}

/// Says when the server's user may not run the program that the server is to fetch WAL with: found out
/// after the swap, it would end the recovery.
pub(crate) async fn barred(program: &std::path::Path, owner: &Owner, host: &dyn crate::action::ReadHost) -> Option<String> {
    let user = owner.become_user.clone()?;
    let tried = host.probe(owner.command(program.to_string_lossy()).args(["--version"])).await;
    let why = match tried {
        Ok(output) if output.success() => return None,
        Ok(output) => format!("it ended with {:?}", output.exit_code.unwrap_or(-1)),
        Err(error) => std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string),
    };
    Some(format!(
        "the server's user `{user}` cannot run `{}`, so the server could fetch no WAL: {why}",
        program.display()
    ))
}

/// Says when `pg_ctl` would find no configuration: some systems keep it outside the data directory.
pub(crate) fn no_config(
    files: &dyn crate::action::ReadFiles,
    cluster: &Cluster,
    pgdata: &std::path::Path,
) -> Option<String> {
    let Via::PgCtl(settings) = &cluster.via else { return None };
    let elsewhere = settings.options.as_deref().is_some_and(|options| options.contains("config_file"));
    let here = matches!(files.facts(&pgdata.join("postgresql.conf")), Ok(Some(_)));
    if here || elsewhere || cluster.is_scratch() {
        return None;
    }
    Some("the backup holds no `postgresql.conf`: its server keeps it outside the data directory".to_owned())
}
