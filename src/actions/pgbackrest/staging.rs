//! What pgBackRest restores, where it puts it, and what must be true before it does.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::choice::Chosen;
use super::restore::RestoreParams;
use super::stanza::{Stanza, TELLING};
use super::view::{Listed, StanzaStatus};
use crate::action::{ActionError, FileKind, Files, HostError, ReadFiles, RunContext};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::linked::followed;
use crate::actions::postgres::cluster::movable::{self, Folder, Use};
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::pg_control::control;
use crate::actions::postgres::cluster::placement::Placement;
use crate::actions::postgres::cluster::{live, scratch};
use crate::actions::postgres::restore::flushed::Flushed;
use crate::actions::postgres::restore::marker::{self, Link, Marker};
use crate::base::units::ByteSize;

/// A fact and what to do about it.
type Misfit = (String, &'static str);

/// Says what keeps a restore from its place.
///
/// # Errors
/// Fails when the place cannot be looked at.
pub(super) fn misfit(
    cluster: &Cluster,
    params: &RestoreParams,
    files: &dyn ReadFiles,
) -> Result<Option<Misfit>, ActionError> {
    if cluster.is_scratch() || params.delta {
        return Ok(None);
    }
    if let Some(fact) = cluster.linked(files) {
        return Ok(Some((fact.what, "name the folder that it leads to as `pgdata` of the database; the link stays")));
    }
    let place = cluster.pgdata.display();
    let facts = |path: &Path| files.facts(path).map_err(|error| cannot(&error));
    let above = cluster.pgdata.parent().map(facts).transpose()?.flatten();
    if let (Some(own), Some(above)) = (facts(&cluster.pgdata)?, above)
        && own.device != above.device
    {
        let fact = format!("`{place}` is a mount point and cannot be swapped by rename");
        return Ok(Some((fact, "restore with `delta: true`, or put the data into a folder inside the mount")));
    }
    let data = Folder { used: Use::Data, live: cluster.pgdata.clone() };
    if let Some(fact) = movable::mounted(&[data], files) {
        return Ok(Some((fact.what, "restore with `delta: true`, or stop the server and unmount it first")));
    }
    let linked = facts(&cluster.pgdata.join("pg_wal"))?.is_some_and(|wal| wal.kind == FileKind::Symlink);
    let fact = format!("`pg_wal` of `{place}` is a link: pgBackRest would restore it as a folder");
    Ok(linked.then_some((fact, "restore with `delta: true`, or make it a folder first")))
}

/// Says when the data that is there is of another cluster than the stanza: the wrong stanza was named.
pub(super) fn of_another(cluster: &Cluster, standing: &StanzaStatus, files: &dyn ReadFiles) -> Option<Misfit> {
    let live = cluster.entry.live.as_ref().filter(|_| cluster.is_scratch()).unwrap_or(&cluster.pgdata);
    let own = control(files, live).ok()?.system_id;
    let theirs = standing.system_id().filter(|theirs| *theirs != own)?;
    let fact = format!("stanza `{}` is of cluster {theirs}, but `{}` of {own}", standing.stanza, live.display());
    Some((fact, "name the right stanza under `pgbackrest` of the database; nothing was touched"))
}

/// Says when a second copy does not fit; tablespaces count as if they lay beside the data.
pub(super) fn short_of_space(
    cluster: &Cluster,
    params: &RestoreParams,
    listed: &Listed,
    files: &dyn ReadFiles,
) -> Option<String> {
    if params.delta && !cluster.is_scratch() {
        return None;
    }
    let parent = cluster.pgdata.ancestors().skip(1).find(|path| matches!(files.facts(path), Ok(Some(_))))?;
    let (free, needs) = (files.space(parent).ok()?.free_bytes, listed.plain_bytes);
    let (shown, needed) = (ByteSize(free), ByteSize(needs));
    (free < needs).then(|| format!("`{}` has {shown} free, the backup needs {needed}", parent.display()))
}

/// A restore by pgBackRest.
pub(super) struct Staging<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) stanza: &'a Stanza,
    pub(super) params: &'a RestoreParams,
    pub(super) owner: &'a Owner,
    pub(super) cx: &'a RunContext,
}

impl Staging<'_> {
    /// Whether the live data directory itself is made the backup.
    pub(super) fn in_place(&self) -> bool {
        self.params.delta && !self.cluster.is_scratch()
    }

    /// Where pgBackRest restores to.
    pub(super) fn dir(&self) -> PathBuf {
        match self.in_place() {
            true => self.cluster.pgdata.clone(),
            false => self.cluster.staged(self.cx.host.read_files().as_ref(), &self.cx.about.run),
        }
    }

    /// Decides what goes where. Nothing is made yet.
    ///
    /// # Errors
    /// Fails when pgBackRest does not tell what the backup holds.
    pub(super) async fn plan(&self, chosen: &Chosen) -> Result<Marker, ActionError> {
        let tablespaces = chosen.tablespaces(self.stanza, self.cx.host.as_read()).await?;
        let (run, files) = (&self.cx.about.run, self.cx.host.read_files());
        let mut links = Vec::new();
        for tablespace in tablespaces {
            let (oid, named) = (tablespace.oid, self.cluster.tablespace(&tablespace));
            let live = if self.in_place() { named.clone() } else { followed(&named, files.as_ref()) };
            let staged =
                if self.in_place() { live.clone() } else { Placement::of(files.as_ref(), &live).staged(&live, run) };
            let named = Some(named).filter(|named| *named != live);
            links.push(Link { link: Path::new("pg_tblspc").join(oid.to_string()), live, staged, named });
        }
        let base = chosen.begin.base;
        Ok(Marker {
            run: run.clone(),
            backup: chosen.listed.handle(&self.cluster.name, &self.stanza.name)?,
            start: base.start,
            stop: base.stop,
            timeline: base.timeline,
            system_id: chosen.shelved.system_id,
            segment_size: chosen.shelved.size,
            started_at: Some(chosen.listed.started_at),
            ended_at: base.ended_at,
            links,
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
        })
    }

    /// Restores, and marks the folder as complete with the last file.
    ///
    /// # Errors
    /// Fails as pgBackRest does. Beside the live data nothing live was touched then; in place, the data directory holds
    /// no `pg_control`, so that no server starts in it, and the step can be run again.
    pub(super) async fn restore(
        &self,
        marker: Marker,
        (repo, flushed): (u32, Option<Flushed>),
    ) -> Result<Marker, ActionError> {
        let (files, dir) = (self.cx.host.files(), self.dir());
        let folders: Vec<PathBuf> =
            std::iter::once(dir.clone()).chain(marker.links.iter().map(|link| link.staged.clone())).collect();
        if self.cluster.is_scratch() {
            scratch::register(self.cluster, &folders, self.cx).await?;
        }
        for folder in &folders {
            self.make(files.as_ref(), folder).map_err(|error| cannot(&error))?;
        }
        if self.in_place() {
            self.clear_stale_pid(files.as_ref()).await?;
        }
        self.stanza.run(self.stanza.words(("restore", &self.options(&marker, repo)), &[]), self.cx).await?;
        let found = control(files.as_ref(), &dir)?;
        if found.system_id != marker.system_id {
            let fact = format!("the restored `pg_control` is of cluster {}, not {}", found.system_id, marker.system_id);
            return Err(ActionError::fatal(fact).help("name the right stanza; nothing live was touched"));
        }
        let message = format!("pgBackRest restored backup `{}` into `{}`", marker.backup.id, dir.display());
        self.cx.reporter.note(message, json!({ "backup": marker.backup.id, "dir": dir }));
        let marker = marker.having_flushed(flushed);
        if !self.in_place() {
            marker.write(files.as_ref(), &dir, self.owner)?;
        }
        Ok(marker)
    }

    /// Removes the pid file of a server that was killed. pgBackRest goes by the file alone; that no server lives is
    /// proven here by every sign there is.
    async fn clear_stale_pid(&self, files: &dyn Files) -> Result<(), ActionError> {
        live::refuse(self.cluster, files).await?;
        let path = self.cluster.pgdata.join("postmaster.pid");
        if files.facts(&path).map_err(|error| cannot(&error))?.is_none() {
            return Ok(());
        }
        files.remove_file(&path).map_err(|error| cannot(&error))
    }

    /// The recovery's settings are ours, so pgBackRest is told of none; everything else it restores as it was.
    fn options(&self, marker: &Marker, repo: u32) -> Vec<String> {
        let mut options = vec![
            format!("--set={}", marker.backup.id),
            format!("--repo={repo}"),
            format!("--pg1-path={}", self.dir().display()),
            "--type=none".to_owned(),
        ];
        let mapped = marker.links.iter().filter_map(|link| Some((link.tablespace()?, link.staged.display())));
        options.extend(mapped.map(|(oid, place)| format!("--tablespace-map={oid}={place}")));
        options.extend(self.params.processes.map(|processes| format!("--process-max={processes}")));
        options.extend(self.in_place().then(|| "--delta".to_owned()));
        options.push(TELLING.to_owned());
        options
    }

    /// Makes an empty folder. What an earlier attempt of this run staged is its own and removed.
    fn make(&self, files: &dyn Files, folder: &Path) -> Result<(), HostError> {
        if files.facts(folder)?.is_some() {
            if self.in_place() {
                return Ok(());
            }
            files.remove_tree(folder)?;
        }
        let above = folder.ancestors().skip(1);
        let missing: Vec<&Path> = above.take_while(|path| matches!(files.facts(path), Ok(None))).collect();
        for path in missing.into_iter().rev().chain([folder]) {
            files.create_dir(path, 0o700)?;
            files.chown(path, self.owner.uid, self.owner.gid)?;
        }
        Ok(())
    }
}

/// Tells whether a complete restore of this run waits beside the live data.
///
/// # Errors
/// Fails when its marker makes no sense.
pub(super) fn staged(cluster: &Cluster, cx: &RunContext) -> Result<Option<Marker>, ActionError> {
    marker::staged(cx.host.files().as_ref(), cluster, &cx.about.run)
}

fn cannot(error: &HostError) -> ActionError {
    ActionError::retryable("the place of the restore cannot be made").because(error)
}
