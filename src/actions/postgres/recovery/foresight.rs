//! What a recovery would come to, by what the archive holds and by what the server has not archived yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::rescue::{Rescued, Tail, tail_of};
use crate::action::{ActionError, ReadFiles, ReadStore, Surroundings};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::wal_location::WalLocation;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::restore::old::Old;
use crate::actions::postgres::stores::archive::WalArchive;
use crate::base::RunId;
use crate::catalog::KIND_POSTGRES_BASE;
use crate::catalog::recovery::{Edge, Goal, LastCommit};
use crate::pgformat::{ControlFile, SegmentName, SegmentScan, Timeline, WalFileName};
use crate::wal::Keys;
use crate::wal::outlook::{LookError, Planned, Recoverable, Remnant, Tear, plan};

/// What looks ahead, and where.
pub(crate) struct Foresight<'a> {
    /// The database.
    cluster: &'a Cluster,
    about: &'a Surroundings,
    /// Every store that its WAL lies in, that of its backups first.
    stores: Vec<Arc<dyn ReadStore>>,
    /// The other stores that its backups go to.
    copies: Vec<Arc<dyn ReadStore>>,
    /// The files of its machine.
    files: Arc<dyn ReadFiles>,
}

impl<'a> Foresight<'a> {
    /// Looks at what these stores hold of a database, and at the files of its machine.
    pub(crate) fn of(
        cluster: &'a Cluster,
        about: &'a Surroundings,
        stores: Vec<Arc<dyn ReadStore>>,
        files: Arc<dyn ReadFiles>,
    ) -> Self {
        Self { cluster, about, stores, copies: Vec::new(), files }
    }

    /// Counts the copies that these other stores have of its backups.
    pub(crate) fn with_copies(self, copies: Vec<Arc<dyn ReadStore>>) -> Self {
        Self { copies, ..self }
    }

    /// Counts WAL as well that another program archived.
    ///
    /// # Errors
    /// Fails when the inventory has no such store.
    pub(crate) fn beside(mut self, location: &WalLocation, lying: Arc<dyn ReadStore>) -> Result<Self, ActionError> {
        let (_, prefix) = self.cluster.archive()?;
        let own = self.stores.remove(0);
        self.stores.insert(0, location.beside(own, (prefix, lying), self.about)?);
        Ok(self)
    }

    /// Plans a recovery, from one of `among` where they are given.
    ///
    /// # Errors
    /// Fails when a store gives no answer or WAL cannot be read.
    pub(crate) async fn planned(
        &self,
        (goal, edge, timeline): (&Goal, Edge, Option<Timeline>),
        remnant: Option<Remnant>,
        among: Option<&BTreeSet<String>>,
    ) -> Result<Planned, LookError> {
        let settings = |name: &str| self.about.inventory.stores.get(name).cloned().unwrap_or_default();
        let stores = self.stores.iter().map(|store| (Arc::clone(store), settings(store.name()))).collect();
        let secrets = Arc::clone(&self.about.secrets);
        let found = Recoverable::of((&self.cluster.name, &self.cluster.entry), stores, secrets).and(remnant);
        let found = found.with_copies(self.copies.clone());
        let mut found = found.look().await?.of_kind(KIND_POSTGRES_BASE);
        if let Some(among) = among {
            found.clusters.iter_mut().for_each(|cluster| cluster.backups.retain(|backup| among.contains(&backup.id)));
        }
        plan(found, (goal, edge), timeline).await
    }

    /// Reads what only the server's own `pg_wal` has, as [`remnant`] does.
    ///
    /// # Errors
    /// Fails as [`remnant`].
    pub(crate) async fn remnant(&self) -> Result<Option<Remnant>, ActionError> {
        let (stores, files) = (self.stores.clone(), Arc::clone(&self.files));
        remnant(&Lookout { cluster: self.cluster, run: &self.about.run, stores, files }).await
    }
}

/// From where a server's own WAL is looked at.
pub(crate) struct Lookout<'a> {
    /// The database.
    pub(crate) cluster: &'a Cluster,
    /// The run, which may have moved its data aside.
    pub(crate) run: &'a RunId,
    /// Every store that its WAL lies in.
    pub(crate) stores: Vec<Arc<dyn ReadStore>>,
    /// The files of its machine.
    pub(crate) files: Arc<dyn ReadFiles>,
}

/// Reads what only the server's own `pg_wal` has, also while it runs; `None` where there is none: a scratch database,
/// another machine, a lost one.
///
/// # Errors
/// Fails when it is there and cannot be read, and when a store gives no answer.
pub(crate) async fn remnant(look: &Lookout<'_>) -> Result<Option<Remnant>, ActionError> {
    if look.cluster.is_scratch() || look.cluster.entry.is_managed() {
        return Ok(None);
    }
    let (files, run) = (&look.files, look.run);
    let unread = |error| ActionError::retryable("the server's own WAL cannot be read").because(&error);
    let Some(old) = Old::find(look.cluster, run, files.as_ref()).map_err(unread)? else { return Ok(None) };
    let Some(control) = old.control(files.as_ref()) else { return Ok(None) };
    let Some(folder) = old.wal(run, files.as_ref()).map_err(unread)? else { return Ok(None) };
    let (_, prefix) = look.cluster.archive()?;
    let stores = look.stores.iter().map(|store| (store.as_ref(), Keys::none())).collect();
    let wal_archive = WalArchive { stores, prefix, system_id: control.system_id, size: control.segment_size };
    let mut tail = tail((&wal_archive, files), folder).await?;
    tail.given_up = Marker::read(files.as_ref(), &old.dir)?.and_then(|unfinished| unfinished.given_up);
    let begun = begun(&wal_archive, &tail, files.as_ref()).await?;
    let mut remnant = of(tail, &control, Arc::clone(files));
    for Rescued { name, path, newest_commit, .. } in begun {
        if let WalFileName::Segment(name) = name {
            remnant.newest.extend(newest_commit.map(|commit| (name, commit)));
            remnant.segments.insert(name, path);
            remnant.begun.insert(name);
        }
    }
    Ok(Some(remnant))
}

async fn tail(
    (wal_archive, files): (&WalArchive<'_>, &Arc<dyn ReadFiles>),
    folder: PathBuf,
) -> Result<Tail, ActionError> {
    let archived: BTreeSet<WalFileName> = wal_archive.names().await?.into_keys().collect();
    let read = tail_of((wal_archive.system_id, wal_archive.size), archived, (Arc::clone(files), folder)).await?;
    read.map_err(|error| ActionError::retryable("the server's own WAL cannot be read").because(&error))
}

/// Segments of which the archive has only the beginning, and in which the server wrote on: the recovery brings them there first.
async fn begun(wal_archive: &WalArchive<'_>, tail: &Tail, files: &dyn ReadFiles) -> Result<Vec<Rescued>, ActionError> {
    let (size, mut begun) = (wal_archive.size, Vec::new());
    for (segment, path) in &tail.untold {
        let read = || files.read(path, size.bytes());
        let Some(own) = wal_archive.has_only_begun(*segment, read).await? else { continue };
        let scan = SegmentScan::of(*segment, size, &own);
        let newest_commit = scan.last_commit.map(|commit| LastCommit { at: commit.at, lsn: commit.lsn });
        let oldest_commit = scan.first_commit.map(|commit| commit.at);
        begun.push(Rescued { name: WalFileName::Segment(*segment), path: path.clone(), newest_commit, oldest_commit });
    }
    Ok(begun)
}

fn of(tail: Tail, control: &ControlFile, files: Arc<dyn ReadFiles>) -> Remnant {
    let segments = tail.files.iter().filter_map(|file| match file.name {
        WalFileName::Segment(name) => Some((name, file)),
        WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. } => None,
    });
    let segments: Vec<(SegmentName, _)> = segments.collect();
    let newest = segments.iter().filter_map(|(name, file)| Some((*name, file.newest_commit?))).collect();
    let paths: BTreeMap<SegmentName, PathBuf> =
        segments.iter().map(|(name, file)| (*name, file.path.clone())).collect();
    Remnant {
        system_id: control.system_id,
        segments: paths,
        begun: BTreeSet::new(),
        newest,
        branches: tail.branches,
        given_up: tail.given_up,
        tear: tail.torn.map(|torn| Tear { words: torn.words(), proven: torn.proven, latest: torn.latest }),
        files,
    }
}
