//! `postgres.side_instance`: a backup, recovered to a moment, beside the live database and cut off from the world.
//!
//! It is the place to look at yesterday's data, to compare, to take a table or an export out of. What isolates it
//! is [`crate::actions::postgres::cluster::side`]; how it is restored is what `postgres.restore_base` and `postgres.recover` do. It is removed
//! at the end of the run, also of a real one, and by `runbook reap` after a crash.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::record::{KIND, Record};
use super::side_dump;
use super::side_instance_by_hand;
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, DatabaseRef, EffectClass, Effects, Example,
    Findings, Idempotency, InstanceHandle, Interrupted, Late, ParamFault, PlanContext, Recovery, RunContext, Target,
};
use crate::actions::postgres::cluster::by_hand;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::owner::{self, Owner};
use crate::actions::postgres::cluster::scratch;
use crate::actions::postgres::cluster::scratch_settings::{self, Priority, ScratchSettings};
use crate::actions::postgres::cluster::service_manager::Wish;
use crate::actions::postgres::cluster::wal_location::WalLocation;
use crate::actions::postgres::recovery::archive_access;
use crate::actions::postgres::recovery::attempt::Recovering;
use crate::actions::postgres::recovery::forecast::RecoveryForecast;
use crate::actions::postgres::recovery::moment;
use crate::actions::postgres::recovery::original;
use crate::actions::postgres::recovery::recover::{Landmark, RecoverLoss, RecoverParams, TargetSpec};
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::existing::Existing;
use crate::actions::postgres::restore::marker::{self, Marker};
use crate::actions::postgres::restore::restore_base;
use crate::actions::postgres::restore::spare;
use crate::actions::postgres::session::subscription;
use crate::actions::postgres::stores::archive;
use crate::actions::postgres::stores::target::Goal;
use crate::base::Timestamp;
use crate::base::units::ByteSize;
use crate::catalog::{KIND_POSTGRES_BASE, KIND_POSTGRES_DUMP};

/// The outputs of an attempt whose instance is ready.
const READY: &str = "side.json";
/// The name of a side instance that nobody named.
const DEFAULT_NAME: &str = "copy";

/// Restores a backup beside the live database.
#[derive(Debug, Clone)]
pub struct SideInstance {
    /// Our own program, which the server calls to fetch WAL.
    program: PathBuf,
}

impl SideInstance {
    /// An action whose servers fetch WAL with `program wal fetch`.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }
}

impl Default for SideInstance {
    /// Servers call the program that runs now.
    fn default() -> Self {
        Self::new(std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/runbook")))
    }
}

/// The arguments of `postgres.side_instance`. At most one target; without one, all that is archived.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SideInstanceParams {
    /// The database of the inventory that the backup is of.
    pub database: DatabaseRef,
    /// The base backup or the dump, as `backup.find` gave it. A dump is of one moment and takes no target.
    pub backup: Late<BackupHandle>,
    /// What this instance is called, where a run has several of one database. Default `copy`.
    #[serde(default)]
    pub name: Option<String>,
    /// Where replay ends.
    #[serde(flatten)]
    pub target: TargetSpec,
    /// WAL that another program archived is read where it lies, beside the database's own archive. It is *unproven*: each
    /// file counts as far as its own content proves it.
    #[serde(default)]
    pub wal_location: Option<WalLocation>,
    /// Libraries to preload; default none. One that acts by itself, such as `pg_cron`, is refused.
    #[serde(default)]
    pub preload: Vec<String>,
    /// Its shared memory. Default `32MB`.
    #[serde(default)]
    pub shared_buffers: Option<ByteSize>,
    /// How much address space each of its processes may take; default: no limit.
    #[serde(default)]
    pub memory: Option<ByteSize>,
    /// How much of the machine it takes: `low` (default) lets everything else go first.
    #[serde(default)]
    pub priority: Priority,
}

/// The outputs of `postgres.side_instance`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SideInstanceOutput {
    /// The instance: `postgres.query`, `postgres.check`, `postgres.export` and `postgres.restore_table` take it.
    pub instance: InstanceHandle,
    /// What opens a session with it by hand.
    #[serde(default)]
    pub session: String,
    /// Where replay ended; null for a dump.
    pub recovered_to_lsn: Option<String>,
    /// The newest recovered commit, by the primary's clock, or the moment of the dump; null when replay saw none.
    #[schemars(with = "Option<String>")]
    pub recovered_to_time: Option<Timestamp>,
    /// All that was committed before this moment is in it: the newest recovered commit, or the start of the backup where that is
    /// later; the moment of a dump. Null where none is known.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub as_of: Option<Timestamp>,
    /// The databases within it that hold users' data.
    pub databases: Vec<String>,
    /// Libraries that its original preloads and it does not.
    pub not_preloaded: Vec<String>,
    /// What the loss figure of rows that are brought back from it rests on; absent for a dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<RecoverLoss>,
}

impl SideInstanceParams {
    /// Where it lies and how it is housed. Follows from the arguments and the run alone.
    fn place(&self, cluster: Cluster, scratch: &Path) -> Result<Cluster, ActionError> {
        let side = cluster.side_named(self.name.as_deref().unwrap_or(DEFAULT_NAME), scratch)?;
        let scratch_settings = ScratchSettings {
            preload: self.preload.clone(),
            shared_buffers: self.shared_buffers,
            memory: self.memory,
            priority: self.priority,
        };
        Ok(Cluster { scratch_settings, ..side })
    }

    /// The same wish as `postgres.recover` takes it.
    pub(crate) fn recovery(&self) -> RecoverParams {
        RecoverParams {
            database: self.database.clone(),
            staged: Some(Late::Pending("the staged copy".to_owned())),
            instance: None,
            target: self.target.clone(),
            action: None,
            wal_location: self.wal_location.clone(),
        }
    }

    fn faults(&self) -> Vec<ParamFault> {
        let mut faults: Vec<ParamFault> = self.recovery().recovery_target().err().into_iter().collect();
        if let Some(acting) = self.preload.iter().find(|library| scratch_settings::acts(library)) {
            let fact = format!("`{acting}` acts by itself when it is preloaded: a copy of a database must not");
            faults.push(ParamFault::new("/preload", fact));
        }
        if self.shared_buffers.is_some_and(|size| size.0 < 128 << 10) {
            faults.push(ParamFault::new("/shared_buffers", "a server wants 128 kB at least"));
        }
        if self.memory.is_some_and(|size| size.0 < 256 << 20) {
            faults.push(ParamFault::new("/memory", "a server's processes want 256 MiB at least"));
        }
        faults
    }
}

impl Action for SideInstance {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.side_instance",
        summary: "Restores a backup to a moment beside the live database, isolated, until the end of the run.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "As it was before a mistake",
                with: "{ database: orders, backup: '{{ steps.choose.backup }}', target_time: '2026-01-28T14:30:00Z' }",
            },
            Example {
                title: "Two copies, of which one may take more memory",
                with: "{ database: orders, backup: '{{ steps.choose.backup }}', name: newest, shared_buffers: 1GiB, memory: 8GiB }",
            },
        ],
    };
    type Params = SideInstanceParams;
    type Output = SideInstanceOutput;

    fn effects(&self, params: &SideInstanceParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let fault = |error: &ActionError| vec![ParamFault::new("/database", error.to_string())];
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).map_err(|error| fault(&error))?;
        if !cluster.is_managed() {
            cluster.within_reach(Wish::Copy)?;
        }
        let (store, prefix) = cluster.archive().map_err(|error| fault(&error))?;
        let archive = Target::Store { name: store.to_owned(), prefix: prefix.to_owned() };
        let faults = params.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let side =
            params.place(cluster, cx.scratch).map_err(|error| vec![ParamFault::new("/name", error.to_string())])?;
        let folder = side.pgdata.parent().unwrap_or(&side.pgdata).to_owned();
        let effects = Effects::of(EffectClass::Write).target(Access::Read, archive);
        // Where the archive ends too early its server is made to finish a segment, as for a base backup.
        let effects = effects.target(Access::Read, Target::Database { name: side.name.clone() });
        let effects = spare::read(&side, archive::read(&side, effects));
        let effects = params.wal_location.iter().fold(effects, |effects, WalLocation { store, prefix }| {
            effects.target(Access::Read, Target::Store { name: store.0.clone(), prefix: prefix.clone() })
        });
        Ok(effects.target(Access::Write, Target::Path { host: cx.host.to_owned(), path: folder }))
    }

    fn by_hand(&self, params: &SideInstanceParams, cx: &PlanContext<'_>) -> Vec<String> {
        side_instance_by_hand::lines(params, cx).unwrap_or_default()
    }

    async fn check(&self, params: &SideInstanceParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let mut findings = Findings::default();
        if let Some(Err((fact, help))) = cx.foreseen.of(&params.backup).map(|handle| openable(&cluster, &handle)) {
            return Ok(findings.refuse(fact, help));
        }
        let side = params.place(cluster, &cx.about.scratch)?;
        let is_dump = match cx.foreseen.of(&params.backup) {
            Some(handle) => handle.kind == KIND_POSTGRES_DUMP,
            // A managed server has no other backups.
            None => side.entry.is_managed(),
        };
        if !is_dump && let Some((fact, help)) = self.unfetched(&side, cx).await? {
            return Ok(findings.refuse(fact, help));
        }
        for program in side.scratch_settings.unkept(cx.host.as_ref()) {
            let fact = format!("`{program}` is not installed, so the side instance runs without that limit");
            findings = findings.warn(fact, "install the system's `coreutils` and `util-linux`");
        }
        if let Some(handle) = cx.foreseen.of(&params.backup) {
            cx.foreseen.tell(KIND, &handle.kind);
        }
        if let Ok(recovery_target) = params.recovery().recovery_target()
            && !is_dump
        {
            findings = original::foretell(&params.database, &recovery_target, cx, findings).await?;
        }
        match cx.foreseen.of(&params.backup) {
            Some(handle) if handle.kind == KIND_POSTGRES_DUMP => side_dump::judge(&side, &handle, cx, findings).await,
            Some(handle) => {
                let findings = restore_base::fits(&side, (&handle, Existing::KeepBeside), cx, findings).await?;
                way(params, (&side, handle), cx, findings).await
            }
            None => restore_base::any_readable(&side, cx, findings.pending("the backup is not chosen yet")).await,
        }
    }

    async fn run(&self, params: &SideInstanceParams, cx: &RunContext) -> Result<SideInstanceOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        openable(&cluster, params.backup.get()?).map_err(|(fact, help)| ActionError::fatal(fact).help(help))?;
        let side = params.place(cluster, &cx.about.scratch)?;
        let files = cx.host.files();
        let kind = &params.backup.get()?.kind;
        let record = Record { step: cx.step.to_string(), kind: Some(kind.clone()) };
        claim(&side, &record, cx).await?;
        let output = match kind == KIND_POSTGRES_DUMP {
            true => loaded(params, (&side, &record), cx).await?,
            false => self.restored(params, &side, cx).await?,
        };
        let text = serde_json::to_vec(&output)
            .map_err(|error| ActionError::fatal("the outputs cannot be written").because(&error))?;
        files
            .replace(&cx.attempt_dir.join(READY), &text, 0o600)
            .map_err(|error| ActionError::retryable("the outputs cannot be written").because(&error))?;
        Ok(output)
    }

    /// Adopts an instance that was ready and still runs; any other attempt goes on where it was, or anew.
    async fn recover(
        &self,
        params: &SideInstanceParams,
        cut: &Interrupted,
        cx: &CheckContext,
    ) -> Result<Recovery<SideInstanceOutput>, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let side = params.place(cluster, &cx.about.scratch)?;
        let files = cx.host.read_files();
        let Ok(bytes) = files.read(&cut.attempt_dir.join(READY), 1 << 20) else { return Ok(Recovery::Rerun) };
        let Ok(output) = serde_json::from_slice(&bytes) else { return Ok(Recovery::Rerun) };
        Ok(match live::settled(&side, files.as_ref()).await {
            true => Recovery::Adopt(output),
            false => Recovery::Rerun,
        })
    }

    async fn remove(&self, _: &str, data: &serde_json::Value, cx: &RunContext) -> Result<(), ActionError> {
        scratch::remove(data, cx).await
    }
}

impl SideInstance {
    /// Why the server of a base backup could fetch no WAL, and what to do about it. That of a dump fetches none.
    async fn unfetched(&self, side: &Cluster, cx: &CheckContext) -> Result<Option<(String, String)>, ActionError> {
        if cx.host.find_program(&self.program.to_string_lossy()).is_none() {
            let fact = format!("`{}` cannot be run, so the server could fetch no WAL", self.program.display());
            return Ok(Some((fact, "install runbook where the server's user can run it".to_owned())));
        }
        let owner = Owner::of(side, cx.host.as_ref())?;
        if let Some(fact) = owner::barred(&self.program, &owner, cx.host.as_ref()).await {
            let help = "install runbook where the server's user can run it (`/usr/local/bin`, mode 0755)";
            return Ok(Some((fact, help.to_owned())));
        }
        let refused = archive_access::refused(side, cx).await?;
        Ok(refused.map(|fact| (fact.what, fact.help)))
    }

    /// Stages a base backup, recovers it and opens it.
    async fn restored(
        &self,
        params: &SideInstanceParams,
        side: &Cluster,
        cx: &RunContext,
    ) -> Result<SideInstanceOutput, ActionError> {
        let files = cx.host.read_files();
        let run = &cx.about.run;
        let begun = marker::staged(files.as_ref(), side, run)?.is_some()
            || Marker::read(files.as_ref(), &side.pgdata)?.is_some_and(|marker| marker.run == *run);
        if !begun {
            spare::stage_whole(side, params.backup.get()?, Existing::KeepBeside, cx).await?;
        }
        let staged = side.staged(files.as_ref(), run);
        let folder = if matches!(files.facts(&staged), Ok(Some(_))) { &staged } else { &side.pgdata };
        let mut not_preloaded = scratch_settings::preloaded(files.as_ref(), folder);
        not_preloaded.retain(|library| !side.scratch_settings.preload.contains(library));
        let recovery_target = params.recovery().recovery_target().map_err(|fault| ActionError::fatal(fault.message))?;
        let recovered = {
            let context = RecoveryContext::on(side, &self.program, cx).await?.reading(params.wal_location.clone())?;
            Recovering { context, recovery_target }.run().await?
        };
        if !not_preloaded.is_empty() {
            let message = format!("the side instance does not preload {}", not_preloaded.join(", "));
            cx.reporter.note(message, serde_json::json!({ "not_preloaded": not_preloaded }));
        }
        let (databases, session) = cut_off(side, cx).await?;
        Ok(SideInstanceOutput {
            databases,
            session,
            instance: recovered.instance,
            recovered_to_lsn: Some(recovered.recovered_to_lsn),
            recovered_to_time: recovered.recovered_to_time,
            as_of: recovered.as_of,
            not_preloaded,
            loss: Some(recovered.loss),
        })
    }
}

/// Judges whether the archive leads from the backup to the target, before anything is staged. What the live server still has
/// to archive is counted: it is waited for.
async fn way(
    params: &SideInstanceParams,
    (side, handle): (&Cluster, BackupHandle),
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    let Ok(recovery_target) = params.recovery().recovery_target() else { return Ok(findings) };
    let findings = moment::judged(Some(&recovery_target.goal), cx, findings);
    if findings.refused() || handle.kind != KIND_POSTGRES_BASE {
        return Ok(findings);
    }
    let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
    let place = (&cluster, params.wal_location.as_ref());
    RecoveryForecast::beside(place, side, handle).told(&recovery_target, cx, findings).await
}

/// Restores a dump into an empty server.
async fn loaded(
    params: &SideInstanceParams,
    (side, record): (&Cluster, &Record),
    cx: &RunContext,
) -> Result<SideInstanceOutput, ActionError> {
    let handle = params.backup.get()?;
    let recovery = params.recovery();
    let landmark = matches!(recovery.target.landmark, Some(Landmark::Latest | Landmark::Here));
    let goal = recovery.recovery_target().map_err(|fault| ActionError::fatal(fault.message))?.goal;
    if landmark || !matches!(goal, Goal::Newest | Goal::Immediate) || params.target.timeline.is_some() {
        let fact = format!("backup `{}` is a dump: it is of one moment, and no WAL leads on from it", handle.id);
        return Err(ActionError::fatal(fact).help("leave the target out, or choose a base backup"));
    }
    let restored = side_dump::load(side, handle, cx).await?;
    record.write(side, cx.host.files().as_ref())?;
    let (databases, session) = cut_off(side, cx).await?;
    Ok(SideInstanceOutput {
        databases,
        session,
        instance: side.instance(),
        recovered_to_lsn: None,
        recovered_to_time: Some(restored.taken_at),
        as_of: Some(restored.taken_at),
        not_preloaded: Vec::new(),
        loss: None,
    })
}

/// Takes the place of the instance for this step. What an earlier attempt left without its marker is removed.
async fn claim(side: &Cluster, record: &Record, cx: &RunContext) -> Result<(), ActionError> {
    let files = cx.host.files();
    let files = files.as_ref();
    let root = side.pgdata.parent().unwrap_or(&side.pgdata).to_owned();
    let cannot = |error: crate::action::HostError| {
        ActionError::retryable(format!("`{}` cannot be made", root.display())).because(&error)
    };
    let label = side.side.clone().unwrap_or_default();
    if let Some(Record { step, .. }) = Record::of(side, files)
        && step != record.step
    {
        let fact = format!("step `{step}` of this run has a side instance `{label}` of `{}` already", side.name);
        return Err(ActionError::fatal(fact).help("give this one a `name` of its own"));
    }
    let run = &cx.about.run;
    let begun = marker::staged(files, side, run)?.is_some() || Marker::read(files, &side.pgdata)?.is_some();
    scratch::register(side, std::slice::from_ref(&root), cx).await?;
    if !begun && files.facts(&root).map_err(cannot)?.is_some() {
        let data = serde_json::json!({ "database": side.name, "side": label });
        scratch::remove(&data, cx).await?;
    }
    let owner = Owner::of(side, cx.host.as_ref())?;
    owner.make_folder(files, &root).map_err(cannot)?;
    record.write(side, files)
}

/// Cuts the open instance off from what its catalogs still name. Gives its databases, and what opens a session.
async fn cut_off(side: &Cluster, cx: &RunContext) -> Result<(Vec<String>, String), ActionError> {
    let secrets = cx.about.secrets.as_ref();
    let user = subscription::superuser(side, secrets).await?;
    let side = Cluster { user, ..side.clone() };
    let databases = subscription::disable(&side, secrets).await?;
    let own = databases.iter().find(|name| **name == side.dbname).or(databases.first());
    Ok((databases.clone(), by_hand::psql(&side, own.map_or("postgres", String::as_str))))
}

/// Refuses a base backup of a server that only sessions reach; its dumps can be opened. Gives the fact and what to do.
fn openable(cluster: &Cluster, handle: &BackupHandle) -> Result<(), (String, String)> {
    if handle.kind == KIND_POSTGRES_DUMP {
        return Ok(());
    }
    let told = |faults: Vec<ParamFault>| {
        let fault = faults.into_iter().next();
        fault.map(|fault| (fault.message, fault.help.unwrap_or_default())).unwrap_or_default()
    };
    cluster.within_reach(Wish::Copy).map_err(told)
}
