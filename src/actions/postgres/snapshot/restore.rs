//! `postgres.restore_snapshot`: the content of a snapshot, copied beside the live data, with the label it needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::moment;
use super::tree::{Copied, Tree};
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, DatabaseRef, EffectClass, Effects, Example,
    Files, Findings, HostError, Idempotency, Late, ParamFault, PlanContext, ReadFiles, ReadStore, RunContext,
    StagedHandle, Target,
};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::machine;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::pg_control::control;
use crate::actions::postgres::cluster::scratch;
use crate::actions::postgres::cluster::server::{Programs, major};
use crate::actions::postgres::cluster::service_manager::Wish;
use crate::actions::postgres::restore::existing::Existing;
use crate::actions::postgres::restore::freezing;
use crate::actions::postgres::restore::stage::Stage;
use crate::actions::postgres::restore::{neighbours, obstacle};
use crate::actions::postgres::stores::archive;
use crate::actions::postgres::stores::readable::Reading;
use crate::catalog::{self, Backup, KIND_POSTGRES_SNAPSHOT, Manifest};
use crate::event::Progress;
use crate::pgformat::major_text;

/// Stages a backup by a snapshot.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreSnapshot;

/// The arguments of `postgres.restore_snapshot`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreSnapshotParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// The backup, as `backup.find` (with `kind: postgres.snapshot`) or `postgres.around_snapshot` gave it.
    pub backup: Late<BackupHandle>,
    /// The data directory within the snapshot, which is mounted here. It is only read.
    pub from: Late<PathBuf>,
    /// The folder of each tablespace within its snapshot, by the tablespace's name.
    #[serde(default)]
    pub tablespaces: BTreeMap<String, PathBuf>,
}

/// The outputs of `postgres.restore_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreSnapshotOutput {
    /// The staged backup, for `postgres.recover`.
    pub staged: StagedHandle,
    /// The bytes that were copied.
    pub size_bytes: u64,
    /// The files that were copied.
    pub files: u64,
}

impl Action for RestoreSnapshot {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.restore_snapshot",
        summary: "Copies a mounted snapshot beside the live data and adds the label that its recovery needs.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[Example {
            title: "From where an earlier step mounted it",
            with: "{ database: orders, backup: '{{ steps.choose.backup }}', from: /mnt/orders_nightly/15/main }",
        }],
    };
    type Params = RestoreSnapshotParams;
    type Output = RestoreSnapshotOutput;

    fn effects(&self, params: &RestoreSnapshotParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let fault = |error: &ActionError| vec![ParamFault::new("/database", error.to_string())];
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).map_err(|error| fault(&error))?;
        cluster.within_reach(Wish::Foreign)?;
        let (store, prefix) = cluster.archive().map_err(|error| fault(&error))?;
        if params.from.known().is_some_and(|from| !from.is_absolute()) {
            return Err(vec![ParamFault::new("/from", "the path of the data directory must be absolute")]);
        }
        let from = Target::Store { name: store.to_owned(), prefix: prefix.to_owned() };
        let effects = Effects::of(EffectClass::Write).target(Access::Read, from);
        let effects = match cluster.is_scratch() {
            true => effects,
            // The note that freezes what the recovery rests on.
            false => freezing::written(&cluster, cx.inventory, effects),
        };
        Ok(effects.target(Access::Write, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &RestoreSnapshotParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(cluster) = Cluster::of(&params.database, cx.inventory, cx.scratch) else { return Vec::new() };
        let from = params.from.shown(|from| from.display().to_string());
        let to = format!("{}.by-hand", cluster.pgdata.display());
        vec![
            command_line(["cp", "-a", &from, &to]),
            remark(&format!("in {to}: empty pg_wal, remove postmaster.pid and postmaster.opts")),
            remark(
                "put backup_label (and tablespace_map) of the backup's folder into it: without, it is silently corrupt",
            ),
        ]
    }

    async fn check(&self, params: &RestoreSnapshotParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let findings = Findings::default();
        let (Some(handle), Some(from)) = (params.backup.known(), params.from.known()) else {
            let unnamed = params.from.known().and_then(|from| unnamed(params, from, cx.host.read_files().as_ref()));
            let findings = match unnamed {
                Some(fact) => findings.refuse(fact, "say under `tablespaces` where each is in its snapshot"),
                None => findings,
            };
            return Ok(findings.pending("the backup is not chosen yet"));
        };
        let (store, prefix) = cluster.archive()?;
        let store = cx.store(store)?;
        let backup = opened((store.as_ref(), prefix), &cluster, handle).await?;
        let facts = backup.manifest.cluster().map_err(|error| archive::broken(&error))?;
        let files = cx.host.read_files();
        if cx.ahead && matches!(files.facts(from), Ok(None)) {
            return Ok(findings.pending("the snapshot is not mounted yet"));
        }
        let sources = Sources::of(params, &backup.manifest, &cluster, files.as_ref())?;
        let findings = match sources.left_links() {
            Some(told) => findings.warn(told, "bring along what they lead to yourself, if the server needs it"),
            None => findings,
        };
        let version = major_text(&facts.server_version).to_owned();
        let programs = Programs::of(&cluster, &version, cx.host.as_ref())?;
        programs.verify(&version, cx.host.as_ref()).await?;
        let findings = machine::judge(facts, &programs, cx.host.as_ref(), findings).await;
        let told = format!("`{}` was taken while the server was in the mode of backup `{}`", from.display(), handle.id);
        let findings = findings.pass(told);
        let findings = neighbours::judge((&cluster, &facts.tablespaces), &cx.about, files.as_ref(), findings);
        Ok(obstacle::judge((&cluster, &facts.tablespaces), &cx.about, files.as_ref(), findings))
    }

    async fn run(&self, params: &RestoreSnapshotParams, cx: &RunContext) -> Result<RestoreSnapshotOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let (handle, (store, prefix)) = (params.backup.get()?, cluster.archive()?);
        let store = cx.store(store)?;
        let backup = opened((store.as_read(), prefix), &cluster, handle).await?;
        let (files, owner) = (cx.host.files(), Owner::of(&cluster, cx.host.as_ref())?);
        let sources = Sources::of(params, &backup.manifest, &cluster, files.as_ref())?;
        if let Some(told) = sources.left_links() {
            cx.reporter.note(format!("warning: {told}"), serde_json::Value::Null);
        }
        let stage = Stage::plan(&cluster, &backup, handle, (files.as_ref(), &cx.about.run))?;
        sources.fit(&stage, files.as_ref())?;
        let tablespaces = &backup.manifest.cluster().map_err(|error| archive::broken(&error))?.tablespaces;
        obstacle::refuse((&cluster, tablespaces), &cx.about.run, files.as_ref())?;
        if cluster.is_scratch() {
            scratch::register(&cluster, &stage.shape.folders(), cx).await?;
        }
        // It may take hours to copy, and nothing else keeps the WAL behind it, or its label, from whoever prunes.
        freezing::begin(&cluster, cx).await;
        stage.shape.make(Existing::KeepBeside, files.as_ref(), &owner).map_err(|error| cannot(&error))?;
        cx.reporter.progress(Progress::Doing { text: "copying the snapshot".to_owned() });
        let copied = copy((sources, &stage), &owner, Arc::clone(&files), cx).await?;
        let reading = Reading { store: store.as_read(), backup: &backup, about: &cx.about };
        let object = backup.manifest.objects.iter().find(|object| object.plain_name() == "backup_label");
        let object = object.ok_or_else(|| ActionError::fatal("the backup has no `backup_label`"))?;
        let label = reading.small(object).await?;
        let path = stage.shape.dir.join("backup_label");
        files.replace_for(&path, &label, 0o600, owner.ids()).map_err(|error| cannot(&error))?;
        stage.complete(files.as_ref(), &owner)?;
        let message = format!("snapshot `{}` is staged in `{}`", handle.id, stage.shape.dir.display());
        cx.reporter.note(message, serde_json::json!({ "dir": stage.shape.dir, "files": copied.files }));
        let staged =
            StagedHandle { database: cluster.name.clone(), backup: handle.clone(), dir: stage.shape.dir.clone() };
        Ok(RestoreSnapshotOutput { staged, size_bytes: copied.bytes, files: copied.files })
    }

    async fn remove(&self, _: &str, data: &serde_json::Value, cx: &RunContext) -> Result<(), ActionError> {
        scratch::remove(data, cx).await
    }
}

/// Says that the data directory of a snapshot links to more tablespaces than were named. What cannot be read is judged
/// when the backup is known.
fn unnamed(params: &RestoreSnapshotParams, from: &Path, files: &dyn ReadFiles) -> Option<String> {
    let links = files.list(&from.join("pg_tblspc")).ok()?;
    let places = links.iter().filter_map(|link| files.read_link(&from.join("pg_tblspc").join(&link.name)).ok());
    let places: Vec<String> = places.map(|place| format!("`{}`", place.display())).collect();
    let told = |count: usize| format!("{count} tablespaces lay outside the data directory, in {}", places.join(", "));
    (places.len() > params.tablespaces.len())
        .then(|| format!("{}, and {} are named", told(places.len()), params.tablespaces.len()))
}

/// The folders that are copied.
struct Sources {
    data: PathBuf,
    /// Each tablespace's number and folder.
    tablespaces: Vec<(u32, PathBuf)>,
    /// Links of the data directory that nothing is made of in the copy.
    links: Vec<String>,
}

impl Sources {
    /// Refuses what is no snapshot of the cluster, or another one than the backup's.
    fn of(
        params: &RestoreSnapshotParams,
        manifest: &Manifest,
        cluster: &Cluster,
        files: &dyn ReadFiles,
    ) -> Result<Self, ActionError> {
        let facts = manifest.cluster().map_err(|error| archive::broken(&error))?;
        let data = params.from.get()?.clone();
        let place = |path: &Path| files.canonical(path).map_err(|error| cannot(&error));
        if place(&data)? == place(&cluster.pgdata)? {
            let fact = format!("`{}` is the live data directory, no snapshot of it", data.display());
            return Err(ActionError::fatal(fact).help("mount the snapshot elsewhere and name that folder"));
        }
        let (version, control) = (major(files, &data)?, control(files, &data)?);
        let theirs = control.system_id;
        let wanted = major_text(&facts.server_version);
        if version != wanted || theirs != facts.system_id {
            let fact = format!("`{}` holds cluster {theirs} of PostgreSQL {version}", data.display());
            return Err(ActionError::fatal(format!(
                "{fact}, the backup is of cluster {} of {wanted}",
                facts.system_id
            ))
            .help("name the data directory within the right snapshot"));
        }
        if let Some(fact) = moment::apart((&data, &control), facts, files).map_err(|error| cannot(&error))? {
            let place = manifest.snapshot.as_ref().map(|snapshot| format!(", which is `{}`", snapshot.place));
            return Err(ActionError::fatal(fact).help(format!(
                "mount the snapshot of backup `{}`{}",
                manifest.id,
                place.unwrap_or_default()
            )));
        }
        let links = Tree::Data.left_links(&data, files).map_err(|error| cannot(&error))?;
        let mut tablespaces = Vec::new();
        for tablespace in &facts.tablespaces {
            let folder = params.tablespaces.get(&tablespace.name).ok_or_else(|| {
                let fact = format!(
                    "tablespace `{}` lay in `{}`, outside the data directory",
                    tablespace.name, tablespace.location
                );
                ActionError::fatal(fact).help("say under `tablespaces` where it is in its snapshot")
            })?;
            if files.facts(folder).map_err(|error| cannot(&error))?.is_none() {
                return Err(ActionError::fatal(format!(
                    "`{}` of tablespace `{}` is not there",
                    folder.display(),
                    tablespace.name
                )));
            }
            if place(folder)? == place(Path::new(&tablespace.location))? {
                let fact =
                    format!("`{}` is the live tablespace `{}`, no snapshot of it", folder.display(), tablespace.name);
                return Err(ActionError::fatal(fact).help("mount the snapshot elsewhere and name that folder"));
            }
            tablespaces.push((tablespace.oid, folder.clone()));
        }
        Ok(Self { data, tablespaces, links })
    }

    /// Names the links that are not copied.
    fn left_links(&self) -> Option<String> {
        let named = self.links.iter().map(|link| format!("`{link}`")).collect::<Vec<_>>().join(", ");
        (!named.is_empty()).then(|| format!("links of the snapshot's data directory are not copied: {named}"))
    }

    /// Refuses what has no room.
    fn fit(&self, stage: &Stage, files: &dyn ReadFiles) -> Result<(), ActionError> {
        let mut wanted: Vec<(PathBuf, u64)> = Vec::new();
        let size = |tree: Tree, from: &Path| tree.size_bytes(from, files).map_err(|error| cannot(&error));
        wanted.push((stage.shape.dir.clone(), size(Tree::Data, &self.data)?));
        for (oid, folder) in &self.tablespaces {
            if let Some(link) = stage.shape.links.iter().find(|link| link.tablespace() == Some(*oid)) {
                wanted.push((link.staged.clone(), size(Tree::Tablespace, folder)?));
            }
        }
        for (place, bytes) in wanted {
            let free = files.space(&place).map_err(|error| cannot(&error))?.free_bytes;
            if free < bytes {
                let fact = format!("`{}` has {free} bytes free, the snapshot needs {bytes}", place.display());
                return Err(ActionError::fatal(fact).help("free some space; nothing was written"));
            }
        }
        Ok(())
    }
}

/// Copies on a thread of its own, which ends soon after a cancel, or when nobody waits for it any more: until then nobody may
/// have the staged folder.
async fn copy(
    (sources, stage): (Sources, &Stage),
    owner: &Owner,
    files: Arc<dyn Files>,
    cx: &RunContext,
) -> Result<Copied, ActionError> {
    let (shape, owner, cancel) = (stage.shape.clone(), owner.clone(), cx.cancel.child_token());
    let _ends_with_us = cancel.clone().drop_guard();
    let copying = tokio::task::spawn_blocking(move || {
        let with = (files.as_ref(), &cancel);
        let mut copied = Tree::Data.copy((&sources.data, &shape.dir), &owner, with)?;
        for (oid, folder) in &sources.tablespaces {
            let Some(link) = shape.links.iter().find(|link| link.tablespace() == Some(*oid)) else { continue };
            let more = Tree::Tablespace.copy((folder, &link.staged), &owner, with)?;
            copied = Copied { files: copied.files + more.files, bytes: copied.bytes + more.bytes };
        }
        Ok(copied)
    });
    let copied = copying.await.map_err(|error| ActionError::fatal("copying the snapshot panicked").because(&error))?;
    copied.map_err(|error: HostError| match cx.cancel.is_cancelled() {
        true => ActionError::cancelled("copying the snapshot was cancelled; only the staged folder was written"),
        false => cannot(&error),
    })
}

async fn opened(
    (store, prefix): (&dyn ReadStore, &str),
    cluster: &Cluster,
    handle: &BackupHandle,
) -> Result<Backup, ActionError> {
    if handle.database != cluster.name || handle.kind != KIND_POSTGRES_SNAPSHOT || handle.store != store.name() {
        let fact = format!("backup `{}` is a `{}` of database `{}`", handle.id, handle.kind, handle.database);
        return Err(ActionError::fatal(format!("{fact}, not a snapshot of `{}` in its store", cluster.name)));
    }
    catalog::open(store, prefix, handle).await.map_err(|error| archive::broken(&error))
}

fn cannot(error: &HostError) -> ActionError {
    ActionError::retryable("the snapshot cannot be copied beside the live data").because(error)
}
