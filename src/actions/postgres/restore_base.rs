//! `postgres.restore_base`: a backup extracted and verified beside the live data; nothing else is touched.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::archive;
use super::by_hand;
use super::extract::Extraction;
use super::inflow::Inflow;
use super::keeper::Wish;
use super::layout::{self, Cluster};
use super::machine;
use super::marker::{self, Link, Marker};
use super::outside::{self, ConfigFiles};
use super::owner::Owner;
use super::readable::{self, Reading};
use super::scratch;
use super::server::{Programs, major};
use super::tar_walk::WAL_FOLDER;
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, DatabaseRef, EffectClass, Effects, Example,
    Files, Findings, HostError, Idempotency, Late, ParamFault, PlanContext, ReadFiles, ReadStore, RunContext,
    StagedHandle, Target,
};
use crate::base::RunId;
use crate::catalog::{self, Backup, Manifest, ManifestObject, ObjectRole};
use crate::event::Progress;

/// Objects that are read at the same time; each one is fetched, decrypted and decompressed on all cores as it is.
const LANES: usize = 2;

/// Stages a base backup.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreBase;

/// The arguments of `postgres.restore_base`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreBaseParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// The backup, as `backup.find` or `postgres.base_backup` gave it.
    pub backup: Late<BackupHandle>,
    /// Configuration files that its server kept outside the data directory: `beside` (default) puts them into a
    /// folder of their own, `missing` where they were unless something is there, `leave` nowhere.
    #[serde(default)]
    pub config_files: ConfigFiles,
}

/// The outputs of `postgres.restore_base`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreBaseOutput {
    /// The staged backup.
    pub staged: StagedHandle,
    /// The bytes that were read and verified.
    pub size_bytes: u64,
    /// The files that were verified.
    pub files: u64,
    /// The configuration files from outside the data directory, where they were put.
    #[serde(default)]
    pub config_files: Vec<PathBuf>,
}

impl Action for RestoreBase {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.restore_base",
        summary: "Extracts and verifies a base backup beside the live data; touches nothing else.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[Example {
            title: "The backup that was found",
            with: "{ database: orders, backup: '{{ steps.choose.backup }}' }",
        }],
    };
    type Params = RestoreBaseParams;
    type Output = RestoreBaseOutput;

    fn effects(&self, params: &RestoreBaseParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let fault = |error: &ActionError| vec![ParamFault::new("/database", error.to_string())];
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).map_err(|error| fault(&error))?;
        cluster.within_reach(Wish::DataDirectory)?;
        let (store, prefix) = cluster.archive().map_err(|error| fault(&error))?;
        let from = Target::Store { name: store.to_owned(), prefix: prefix.to_owned() };
        let effects = Effects::of(EffectClass::Write).target(Access::Read, from);
        Ok(effects.target(Access::Write, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &RestoreBaseParams, cx: &PlanContext<'_>) -> Vec<String> {
        by_hand::restore_base(params, cx).unwrap_or_default()
    }

    async fn check(&self, params: &RestoreBaseParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let files = cx.host.read_files();
        Owner::of(&cluster, cx.host.as_ref())?;
        let findings = Findings::default();
        if let Some(mount) = mount_point(files.as_ref(), &cluster.pgdata) {
            let fact = format!("`{}` is a mount point and cannot be swapped by rename", mount.display());
            return Ok(findings.refuse(fact, "put the data directory into a folder inside the mount"));
        }
        let Some(handle) = params.backup.known() else {
            return any_readable(&cluster, cx, findings.pending("the backup is not chosen yet")).await;
        };
        fits(&cluster, handle, cx, findings).await
    }

    async fn run(&self, params: &RestoreBaseParams, cx: &RunContext) -> Result<RestoreBaseOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let handle = params.backup.get()?;
        let output = stage(&cluster, handle, cx).await?;
        if cluster.is_scratch() {
            return Ok(output);
        }
        let config_files = config_files(&cluster, handle, params.config_files, cx).await?;
        Ok(RestoreBaseOutput { config_files, ..output })
    }

    async fn remove(&self, _: &str, data: &serde_json::Value, cx: &RunContext) -> Result<(), ActionError> {
        scratch::remove(data, cx).await
    }
}

/// Stages a backup where `cluster` wants it: beside the live data, or in a throw-away place.
///
/// # Errors
/// Fails when the backup is damaged, cannot be read or does not fit; nothing live was touched.
pub(crate) async fn stage(
    cluster: &Cluster,
    handle: &BackupHandle,
    cx: &RunContext,
) -> Result<RestoreBaseOutput, ActionError> {
    let (store_name, prefix) = place(cluster, handle)?;
    let store = cx.store(store_name)?;
    let backup = opened(store.as_read(), prefix, cluster, handle).await?;
    let files = cx.host.files();
    if let Some(fact) = short_of_space(files.as_ref(), cluster, &backup.manifest) {
        return Err(ActionError::fatal(fact).help("free some space; nothing was written"));
    }
    let owner = Owner::of(cluster, cx.host.as_ref())?;
    let stage = Stage::plan(cluster, &backup, handle, files.as_ref(), &cx.about.run)?;
    if cluster.is_scratch() {
        scratch::register(cluster, &stage.folders(), cx).await?;
    }
    stage.fresh(&files, &owner).map_err(|error| cannot(&error))?;
    let reading = Reading { store: store.as_read(), backup: &backup, about: &cx.about };
    let seen = stage.fill(reading, (&files, &owner), cx).await?;
    stage.finish(files.as_ref(), &owner)?;
    let version = major(files.as_ref(), &stage.dir)?;
    cx.reporter.note(
        format!("backup `{}` (PostgreSQL {version}) is staged and verified in `{}`", handle.id, stage.dir.display()),
        serde_json::json!({ "dir": stage.dir, "files": seen }),
    );
    let staged = StagedHandle { database: cluster.name.clone(), backup: handle.clone(), dir: stage.dir.clone() };
    Ok(RestoreBaseOutput { staged, size_bytes: backup.manifest.size_bytes(), files: seen, config_files: Vec::new() })
}

/// Puts the configuration files of a staged backup where they are wanted, and says where.
async fn config_files(
    cluster: &Cluster,
    handle: &BackupHandle,
    how: ConfigFiles,
    cx: &RunContext,
) -> Result<Vec<PathBuf>, ActionError> {
    let (store_name, prefix) = place(cluster, handle)?;
    let store = cx.store(store_name)?;
    let backup = opened(store.as_read(), prefix, cluster, handle).await?;
    let reading = Reading { store: store.as_read(), backup: &backup, about: &cx.about };
    let owner = Owner::of(cluster, cx.host.as_ref())?;
    let beside = layout::config(&cluster.pgdata, &cx.about.run);
    let made = outside::put_back(reading, (how, &beside), &owner, cx).await?;
    if let Some(first) = made.first() {
        let message =
            format!("configuration files from outside the data directory were put back: `{}`", first.display());
        cx.reporter.note(message, serde_json::json!({ "files": made }));
    }
    Ok(made)
}

/// Judges whether the chosen backup can be read and fits where `cluster` wants it.
///
/// # Errors
/// Fails when the store gives no answer.
pub(crate) async fn fits(
    cluster: &Cluster,
    handle: &BackupHandle,
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    let (store_name, prefix) = place(cluster, handle)?;
    let store = cx.store(store_name)?;
    let backup = opened(store.as_ref(), prefix, cluster, handle).await?;
    let reading = Reading { store: store.as_ref(), backup: &backup, about: &cx.about };
    let findings = reading.judge(findings).await?;
    if findings.refused() {
        return Ok(findings);
    }
    let facts = backup.manifest.cluster().map_err(|error| archive::broken(&error))?;
    let version = facts.server_version.split('.').next().unwrap_or_default().to_owned();
    let programs = Programs::of(cluster, &version, cx.host.as_ref())?;
    programs.verify(&version, cx.host.as_ref()).await?;
    let findings = machine::judge(facts, &programs, cx.host.as_ref(), findings).await;
    match short_of_space(cx.host.read_files().as_ref(), cluster, &backup.manifest) {
        Some(fact) => Ok(findings.refuse(fact, "free some space; the old data is kept until you remove it")),
        None => Ok(findings.pass(format!("backup `{}` fits", backup.manifest.id))),
    }
}

/// The store a backup is read from, and the prefix of the catalog in it: another program's backup may lie anywhere.
fn place<'a>(cluster: &'a Cluster, handle: &'a BackupHandle) -> Result<(&'a str, &'a str), ActionError> {
    let (store, prefix) = cluster.archive()?;
    Ok(if handle.described.is_some() { (handle.store.as_str(), prefix) } else { (store, prefix) })
}

/// Opens the very backup that was chosen, of this database.
async fn opened(
    store: &dyn ReadStore,
    prefix: &str,
    cluster: &Cluster,
    handle: &BackupHandle,
) -> Result<Backup, ActionError> {
    if handle.database != cluster.name || handle.kind != catalog::KIND_POSTGRES_BASE || handle.store != store.name() {
        let fact = format!("backup `{}` is a `{}` of database `{}`", handle.id, handle.kind, handle.database);
        return Err(ActionError::fatal(format!("{fact}, not a base backup of `{}` in its store", cluster.name)));
    }
    catalog::open(store, prefix, handle).await.map_err(|error| archive::broken(&error))
}

/// Judges the backups there are while none is chosen yet, newest first: a key that fits none of them must show
/// before anything stops.
pub(crate) async fn any_readable(
    cluster: &Cluster,
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    if !cx.ahead {
        return Ok(findings);
    }
    let (store_name, prefix) = cluster.archive()?;
    let store = cx.store(store_name)?;
    let mut newest: Option<Findings> = None;
    for backup in readable::newest(store.as_ref(), prefix, &cluster.name).await? {
        let reading = Reading { store: store.as_ref(), backup: &backup, about: &cx.about };
        let judged = reading.judge(Findings::default()).await?;
        if !judged.refused() {
            let doubts = newest.into_iter().flat_map(|newest| newest.0);
            let doubted = doubts.fold(findings, |all, doubt| all.warn(doubt.message, doubt.help.unwrap_or_default()));
            return Ok(judged.0.into_iter().fold(doubted, |all, found| all.pass(found.message)));
        }
        newest = newest.or(Some(judged));
    }
    let mut findings = findings;
    findings.0.extend(newest.into_iter().flat_map(|newest| newest.0));
    Ok(findings)
}

/// What is made where.
struct Stage {
    dir: PathBuf,
    marker: Marker,
}

impl Stage {
    fn plan(
        cluster: &Cluster,
        backup: &Backup,
        handle: &BackupHandle,
        files: &dyn ReadFiles,
        run: &RunId,
    ) -> Result<Self, ActionError> {
        let facts = backup.manifest.cluster().map_err(|error| archive::broken(&error))?;
        let mut links: Vec<Link> = Vec::new();
        for tablespace in &facts.tablespaces {
            let live = cluster.tablespace(tablespace.oid, Path::new(&tablespace.location));
            if !live.is_absolute() {
                return Err(ActionError::fatal(format!("tablespace `{}` has no absolute place", tablespace.name)));
            }
            let staged = layout::staged(&live, run);
            links.push(Link { link: Path::new("pg_tblspc").join(tablespace.oid.to_string()), live, staged });
        }
        if !cluster.is_scratch() {
            let old = marker::links(files, &cluster.pgdata, run).map_err(|error| cannot(&error))?;
            let wal = old.into_iter().find(|(link, _)| link == Path::new("pg_wal"));
            links.extend(wal.map(|(link, live)| Link { link, staged: layout::staged(&live, run), live }));
        }
        if let Some(mount) = links.iter().find_map(|link| mount_point(files, &link.live)) {
            let fact = format!("`{}` is a mount point and cannot be swapped by rename", mount.display());
            return Err(ActionError::fatal(fact).help("put the tablespace into a folder inside the mount"));
        }
        let marker = Marker {
            run: run.clone(),
            backup: handle.clone(),
            start: facts.start_lsn,
            stop: facts.stop_lsn,
            timeline: facts.timeline,
            system_id: facts.system_id,
            segment_size: facts.segment_size,
            ended_at: backup.manifest.stopped_at,
            links,
            last_flushed: None,
            course: None,
            remains: None,
            to_target: false,
            embedded: Vec::new(),
            wal_location: None,
            waits: None,
        };
        Ok(Self { dir: cluster.staged(run), marker })
    }

    /// Every folder that is made.
    fn folders(&self) -> Vec<PathBuf> {
        std::iter::once(self.dir.clone()).chain(self.marker.links.iter().map(|link| link.staged.clone())).collect()
    }

    /// Makes the folders anew. What an earlier attempt of this run staged is its own and removed.
    fn fresh(&self, files: &Arc<dyn Files>, owner: &Owner) -> Result<(), HostError> {
        for folder in self.folders() {
            if files.facts(&folder)?.is_some() {
                files.remove_tree(&folder)?;
            }
            let missing: Vec<&Path> =
                folder.ancestors().skip(1).take_while(|path| matches!(files.facts(path), Ok(None))).collect();
            for path in missing.into_iter().rev() {
                files.create_dir(path, 0o700)?;
                files.chown(path, owner.uid, owner.gid)?;
            }
            files.create_dir(&folder, 0o700)?;
            files.chown(&folder, owner.uid, owner.gid)?;
        }
        for link in &self.marker.links {
            let path = self.dir.join(&link.link);
            if let Some(parent) = path.parent().filter(|parent| *parent != self.dir)
                && files.facts(parent)?.is_none()
            {
                files.create_dir(parent, 0o700)?;
                files.chown(parent, owner.uid, owner.gid)?;
            }
            files.symlink(&link.staged, &path)?;
            files.chown(&path, owner.uid, owner.gid)?;
        }
        Ok(())
    }

    /// Extracts every object; gives the number of files verified.
    async fn fill(
        &self,
        reading: Reading<'_>,
        (files, owner): (&Arc<dyn Files>, &Owner),
        cx: &RunContext,
    ) -> Result<u64, ActionError> {
        let Reading { store, backup, .. } = reading;
        let manifest = Arc::new(reading.server_manifest().await?);
        let done = Arc::new(AtomicU64::new(0));
        let total = Some(backup.manifest.objects.iter().map(|object| object.plain_facts().size_bytes).sum());
        let mut objects = Vec::new();
        for object in &backup.manifest.objects {
            let Some((root, prefix)) = self.place(object)? else { continue };
            let key = backup.manifest.key_of(&backup.prefix, object).map_err(|error| archive::broken(&error))?;
            let extraction = Extraction {
                files: Arc::clone(files),
                owner: owner.clone(),
                root,
                prefix,
                manifest: (object.role != ObjectRole::Wal).then(|| Arc::clone(&manifest)),
            };
            let unpacking = reading.unpacking(object).map_err(|error| readable::unread(&error))?;
            let done = Arc::clone(&done);
            objects.push(async move {
                let body = store.get(&key).await.map_err(|error| archive::failed(&error))?;
                let body = unpacking.open(body, readable::expected(object));
                extraction.run(Inflow { body, done }, key.as_str(), &cx.cancel).await
            });
        }
        let filling = futures_util::stream::iter(objects).buffer_unordered(LANES).try_concat();
        tokio::pin!(filling);
        let seen: BTreeSet<Vec<u8>> = loop {
            tokio::select! {
                filled = &mut filling => break filled?,
                () = tokio::time::sleep(Duration::from_millis(250)) => {
                    cx.reporter.progress(Progress::Units { done: done.load(Ordering::Relaxed), total, unit: "bytes" });
                }
            }
        };
        if let Some(missing) = manifest.files.keys().find(|path| !seen.contains(*path)) {
            let fact = format!("`{}` is missing in the backup", String::from_utf8_lossy(missing));
            return Err(ActionError::fatal(fact).help("use another backup"));
        }
        Ok(seen.len() as u64)
    }

    /// Where an object is extracted to, and what the manifest's paths have in front of its own.
    fn place(&self, object: &ManifestObject) -> Result<Option<(PathBuf, Vec<u8>)>, ActionError> {
        match object.role {
            ObjectRole::Data => Ok(Some((self.dir.clone(), Vec::new()))),
            ObjectRole::Wal => Ok(Some((self.dir.join("pg_wal"), WAL_FOLDER.to_vec()))),
            ObjectRole::BackupManifest | ObjectRole::Config => Ok(None),
            ObjectRole::Tablespace => {
                let link = self.marker.links.iter().find(|link| link.tablespace() == object.tablespace);
                let link = link.filter(|_| object.tablespace.is_some());
                let link =
                    link.ok_or_else(|| ActionError::fatal(format!("`{}` is of no known tablespace", object.name)))?;
                Ok(Some((link.staged.clone(), format!("{}/", link.link.display()).into_bytes())))
            }
            ObjectRole::Dump | ObjectRole::Globals | ObjectRole::File => {
                Err(ActionError::fatal(format!("object `{}` is no part of a data directory", object.name)))
            }
            ObjectRole::Unknown => {
                Err(ActionError::fatal(format!("object `{}` was written by a newer version", object.name)))
            }
        }
    }

    /// Points the tablespaces to the staged folders, never to the original ones, and writes the marker last.
    fn finish(&self, files: &dyn Files, owner: &Owner) -> Result<(), ActionError> {
        let places: Vec<(u32, PathBuf)> =
            self.marker.links.iter().filter_map(|link| Some((link.tablespace()?, link.staged.clone()))).collect();
        let map = self.dir.join("tablespace_map");
        if !places.is_empty() || matches!(files.facts(&map), Ok(Some(_))) {
            marker::write_tablespace_map(files, &self.dir, &places, owner).map_err(|error| cannot(&error))?;
        }
        for folder in self.folders() {
            let opened = files.open(&folder).map_err(|error| cannot(&error))?;
            rustix::fs::syncfs(&opened)
                .map_err(|error| ActionError::retryable("the staged files cannot be made durable").because(&error))?;
        }
        self.marker.write(files, &self.dir, owner)
    }
}

/// Says what does not fit; the data and each tablespace count on the file system they will lie on.
fn short_of_space(files: &dyn ReadFiles, cluster: &Cluster, manifest: &Manifest) -> Option<String> {
    let mut needs: Vec<(u64, PathBuf, u64)> = Vec::new();
    for object in &manifest.objects {
        let tablespace =
            object.tablespace.and_then(|oid| manifest.postgres.as_ref()?.tablespaces.iter().find(|one| one.oid == oid));
        let place = tablespace
            .map_or_else(|| cluster.pgdata.clone(), |one| cluster.tablespace(one.oid, Path::new(&one.location)));
        let existing =
            place.ancestors().skip(1).find_map(|path| Some((path.to_owned(), files.facts(path).ok()??.device)));
        let Some((path, device)) = existing else { continue };
        match needs.iter_mut().find(|(known, ..)| *known == device) {
            Some((_, _, bytes)) => *bytes += object.plain_facts().size_bytes,
            None => needs.push((device, path, object.plain_facts().size_bytes)),
        }
    }
    needs.into_iter().find_map(|(_, path, bytes)| {
        let free = files.space(&path).ok()?.free_bytes;
        let fact = format!("`{}` has {free} bytes free, the backup needs {bytes}", path.display());
        (free < bytes).then_some(fact)
    })
}

/// Gives `path` when it lies on another file system than its parent.
fn mount_point(files: &dyn ReadFiles, path: &Path) -> Option<PathBuf> {
    let own = files.facts(path).ok()??;
    let parent = files.facts(path.parent()?).ok()??;
    (own.device != parent.device).then(|| path.to_owned())
}

fn cannot(error: &HostError) -> ActionError {
    ActionError::retryable("the staged folder cannot be made").because(error)
}
