//! Stages a backup: extracted and verified where the recovery takes it from, a marker written last.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::combine::{self, Combining};
use super::configured;
use super::dismantled::{self, DismantledDirectory};
use super::existing::{self, Existing};
use super::extract::Onto;
use super::marker::{self, Link, Marker};
use super::neighbours::Neighbours;
use super::obstacle;
use super::restore_base::{RestoreBaseOutput, opened, place};
use super::shape::{Filled, Filling, Objects, Shape};
use super::space::{self, Fit, Replay, Site};
use crate::action::{ActionError, BackupHandle, Files, HostError, ReadFiles, ReadStore, RunContext, StagedHandle};
use crate::actions::postgres::backup::own_wal::{self, Effort};
use crate::actions::postgres::cluster::container;
use crate::actions::postgres::cluster::enclosed;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::linked::followed;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::placement::{Placement, with_suffix};
use crate::actions::postgres::cluster::scratch;
use crate::actions::postgres::cluster::server::major;
use crate::actions::postgres::stores::archive;
use crate::actions::postgres::stores::readable::Reading;
use crate::base::RunId;
use crate::catalog::{self, Backup, PostgresFacts};

/// What is made where.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The folders.
    pub(crate) shape: Shape,
    marker: Marker,
}

/// Why a backup was not staged.
#[derive(Debug)]
pub(crate) enum Unstaged {
    /// The copy cannot be read, or is damaged: another copy may do.
    Copy(ActionError),
    /// It has nothing to do with the copy: with any other it would be the same.
    Place(ActionError),
}

impl From<ActionError> for Unstaged {
    fn from(error: ActionError) -> Self {
        Self::Place(error)
    }
}

/// Stages a backup where `cluster` wants it: beside the live data, over it, or in a throw-away place.
///
/// # Errors
/// Fails when the backup is damaged, cannot be read or does not fit; nothing live was touched then, unless `existing`
/// gave it up.
pub(crate) async fn stage(
    cluster: &Cluster,
    handle: &BackupHandle,
    existing: Existing,
    cx: &RunContext,
) -> Result<RestoreBaseOutput, Unstaged> {
    let existing = existing.on(cluster);
    let (store_name, prefix) = place(cluster, handle)?;
    let store = cx.store(store_name)?;
    let backup = opened(store.as_read(), prefix, cluster, handle).await.map_err(Unstaged::Copy)?;
    let files = cx.host.files();
    let links = lineage(store.as_read(), &backup, existing).await.map_err(Unstaged::Copy)?;
    let reading = Reading { store: store.as_read(), backup: &backup, about: &cx.about };
    configured::refuse(cluster, reading, cx).await?;
    let site = Site { cluster, run: &cx.about.run, files: files.as_ref() };
    let gain = gain(&site, (&backup, links.len()), existing)?;
    if let Fit::Not(fact) = site.fit(&space::parts(&links), &gain, Replay::Unknown) {
        return Err(ActionError::fatal(fact).help(room_for(existing, cluster)).into());
    }
    let owner = Owner::of(cluster, cx.host.as_ref())?;
    let stage = Arc::new(Stage::plan(cluster, &backup, handle, (files.as_ref(), &cx.about.run))?);
    if cluster.is_scratch() {
        scratch::register(cluster, &stage.shape.folders(), cx).await?;
    } else {
        let tablespaces = &backup.manifest.cluster().map_err(|error| archive::broken(&error))?.tablespaces;
        obstacle::refuse((cluster, tablespaces), &cx.about.run, files.as_ref())?;
        let places: Vec<PathBuf> = stage.shape.links.iter().map(|link| link.live.clone()).collect();
        let neighbours = Neighbours::of(cluster, &cx.about, files.as_ref());
        neighbours.refuse(places.iter().map(PathBuf::as_path), files.as_ref())?;
        enclosed::refuse((cluster, &places), &cx.about, files.as_ref())?;
    }
    let reading = Reading { store: store.as_read(), backup: &backup, about: &cx.about };
    let rivals = own_wal::stores(cluster, |name| Ok(cx.store(name)? as Arc<dyn ReadStore>))?;
    if let Some(found) = own_wal::rival(reading, (cluster, &rivals), Effort::More, &cx.cancel).await {
        let (fact, help) = found.of_backup(&backup.manifest.id);
        return Err(ActionError::fatal(fact).help(help).into());
    }
    stage.shape.make(existing, files.as_ref(), &owner).map_err(|error| cannot(&error))?;
    if existing.destroys() {
        existing::give_up(existing, (cluster, &stage), (reading, &links), cx).await?;
    }
    let filled = if links.len() > 1 {
        Combining { cluster, shape: &stage.shape, links: &links, owner: &owner }.run(reading, cx).await
    } else {
        let onto = if existing == Existing::Delta { Onto::What } else { Onto::Nothing };
        stage.shape.fill(reading, Filling { onto, owner: &owner, objects: Objects::All }, cx).await
    };
    let filled = filled.map_err(Unstaged::Copy)?;
    configured::complete(&stage.shape.dir, (cluster, &owner), reading, cx).await?;
    stage.complete(files.as_ref(), &owner)?;
    Ok(told(&stage, (&backup, existing), filled, cx)?)
}

/// The bytes that come free on each device before a backup of so many links is written: of the old data that is given up,
/// and of what an earlier attempt or another copy has staged in this run, which is made anew.
///
/// # Errors
/// Fails when the old data cannot be looked at.
pub(crate) fn gain(
    site: &Site<'_>,
    (backup, links): (&Backup, usize),
    existing: Existing,
) -> Result<Vec<(u64, u64)>, ActionError> {
    let Site { cluster, run, files } = *site;
    let mut gained = match existing {
        Existing::KeepBeside => Vec::new(),
        Existing::Delta | Existing::Replace => DismantledDirectory::of(cluster, files, run)?.gain(files)?,
    };
    // What is wrong with a link is for the staging to say.
    let outside = self::links(cluster, backup, files, run).unwrap_or_default();
    let shape = Shape { dir: cluster.staged(files, run), links: outside };
    let mut staged = shape.folders();
    if links > 1 {
        let parts =
            |folder: &PathBuf| (0..links).map(|at| with_suffix(folder, &combine::suffix(at))).collect::<Vec<_>>();
        staged.extend(shape.folders().iter().flat_map(parts));
    }
    gained.extend(dismantled::bytes_below(staged, files));
    Ok(gained)
}

/// Everything that a backup rests on, the full one first.
///
/// # Errors
/// Fails when a link is not there, and when an increment cannot be restored as it is wanted.
pub(crate) async fn lineage(
    store: &dyn ReadStore,
    backup: &Backup,
    existing: Existing,
) -> Result<Vec<Backup>, ActionError> {
    if backup.manifest.parent.is_some() && existing == Existing::Delta {
        let fact = format!("backup `{}` is incremental and is put together in a place of its own", backup.manifest.id);
        return Err(ActionError::fatal(fact).help("use `existing: replace`, or a full backup"));
    }
    catalog::lineage(store, backup)
        .await
        .map_err(|error| archive::broken(&error).help("use another backup, for example one that rests on nothing"))
}

/// Says what was staged.
fn told(
    stage: &Stage,
    (backup, existing): (&Backup, Existing),
    filled: Filled,
    cx: &RunContext,
) -> Result<RestoreBaseOutput, ActionError> {
    let (dir, manifest) = (&stage.shape.dir, &backup.manifest);
    let version = major(cx.host.files().as_ref(), dir)?;
    let reused = (existing == Existing::Delta).then_some(filled.same_bytes);
    let reuse = reused.map_or_else(String::new, |bytes| format!("; {bytes} bytes of it were there already"));
    cx.reporter.note(
        format!("backup `{}` (PostgreSQL {version}) is staged and verified in `{}`{reuse}", manifest.id, dir.display()),
        serde_json::json!({ "dir": dir, "files": filled.files, "reused_bytes": reused }),
    );
    let marker = &stage.marker;
    let staged = StagedHandle { database: manifest.source.clone(), backup: marker.backup.clone(), dir: dir.clone() };
    let (size_bytes, files) = (manifest.size_bytes(), filled.files);
    Ok(RestoreBaseOutput { staged, size_bytes, files, config_files: Vec::new(), reused_bytes: reused })
}

impl Stage {
    /// Makes everything durable, and says last that it is complete.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub(crate) fn complete(&self, files: &dyn Files, owner: &Owner) -> Result<(), ActionError> {
        self.shape.finish(files, owner)?;
        self.marker.write(files, &self.shape.dir, owner)
    }

    /// Plans where a backup is staged.
    ///
    /// # Errors
    /// Fails when the backup says nothing of its cluster, and when the old data cannot be looked at.
    pub(crate) fn plan(
        cluster: &Cluster,
        backup: &Backup,
        handle: &BackupHandle,
        (files, run): (&dyn ReadFiles, &RunId),
    ) -> Result<Self, ActionError> {
        let facts = backup.manifest.cluster().map_err(|error| archive::broken(&error))?;
        let links = links(cluster, backup, files, run)?;
        let marker = Marker {
            run: run.clone(),
            backup: handle.clone(),
            start: facts.start_lsn,
            stop: facts.stop_lsn,
            timeline: facts.timeline,
            system_id: facts.system_id,
            segment_size: facts.segment_size,
            started_at: Some(backup.manifest.data_at.unwrap_or(backup.manifest.started_at)),
            ended_at: backup.manifest.stopped_at,
            links: links.clone(),
            last_flushed: None,
            asked: None,
            last_flushed_on: None,
            given_up: None,
            course: None,
            remains: None,
            to_target: false,
            by_landmark: false,
            embedded: Vec::new(),
            wal_location: None,
            waits: None,
            opened: None,
        };
        Ok(Self { shape: Shape { dir: cluster.staged(files, run), links }, marker })
    }
}

/// What lies outside the data directory, and where it is staged.
fn links(cluster: &Cluster, backup: &Backup, files: &dyn ReadFiles, run: &RunId) -> Result<Vec<Link>, ActionError> {
    let facts = backup.manifest.cluster().map_err(|error| archive::broken(&error))?;
    fits_container(cluster, facts)?;
    let link = |link: PathBuf, named: PathBuf| {
        let live = followed(&named, files);
        let staged = Placement::of(files, &live).staged(&live, run);
        let named = Some(named).filter(|named| *named != live);
        Link { link, live, staged, named }
    };
    let mut links: Vec<Link> = Vec::new();
    for tablespace in &facts.tablespaces {
        let live = cluster.tablespace(tablespace);
        if !live.is_absolute() {
            return Err(ActionError::fatal(format!("tablespace `{}` has no absolute place", tablespace.name)));
        }
        links.push(link(Path::new("pg_tblspc").join(tablespace.oid.to_string()), live));
    }
    if !cluster.is_scratch() {
        let old = marker::links(files, &cluster.pgdata, run).map_err(|error| cannot(&error))?;
        if let Some((link, place)) = old.first().filter(|_| cluster.is_contained()) {
            return Err(container::outside(link, place));
        }
        let wal = old.into_iter().find(|(link, _)| link == Path::new("pg_wal"));
        links.extend(wal.map(|(name, live)| Link { named: said(cluster, &live, files), ..link(name, live) }));
    }
    Ok(links)
}

/// What the link at `pg_wal` says, where that is not the folder itself which it leads to.
fn said(cluster: &Cluster, live: &Path, files: &dyn ReadFiles) -> Option<PathBuf> {
    let said = files.read_link(&cluster.pgdata.join("pg_wal")).ok()?;
    Some(said).filter(|said| said.is_relative() || said != live && followed(said, files) == live)
}

/// Refuses tablespaces for a server in a container.
///
/// # Errors
/// Fails with the first that lies outside the data directory.
pub(crate) fn fits_container(cluster: &Cluster, facts: &PostgresFacts) -> Result<(), ActionError> {
    match facts.tablespaces.first().filter(|_| cluster.is_contained()) {
        None => Ok(()),
        Some(tablespace) => {
            let link = Path::new("pg_tblspc").join(tablespace.oid.to_string());
            Err(container::outside(&link, Path::new(&tablespace.location)))
        }
    }
}

/// What leads on where a restore does not fit: space, or the data that is there given up for it.
pub(crate) fn room_for(existing: Existing, cluster: &Cluster) -> String {
    match existing {
        Existing::KeepBeside if !cluster.is_scratch() => format!(
            "free some space, or give the old data up for its room, for good: `runbook restore {} --existing delta` (or `replace`), with the \
             same `--to`; in a runbook of your own `existing` of `postgres.restore_base`, once the server is stopped; nothing was written",
            cluster.name
        ),
        Existing::KeepBeside | Existing::Delta | Existing::Replace if cluster.is_scratch() => {
            "free some space, or have the state folder, below which the copy lies, on another disk (`RUNBOOK_STATE=/path`); nothing was \
             written"
                .to_owned()
        }
        Existing::KeepBeside | Existing::Delta | Existing::Replace => "free some space; nothing was written".to_owned(),
    }
}

fn cannot(error: &HostError) -> ActionError {
    ActionError::retryable("the staged folder cannot be made").because(error)
}
