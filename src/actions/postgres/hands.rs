//! What every phase of a recovery works with: the cluster, its owner, its archive, our own program.

use std::path::Path;
use std::sync::Arc;

use super::archive::{self, Shelf};
use super::layout::Cluster;
use super::marker::Marker;
use super::owner::Owner;
use super::server::{Programs, Server, major};
use super::side::Side;
use crate::action::{ActionError, Files, HostError, ReadFiles, RunContext, Store};
use crate::language::inventory::StoreEntry;
use crate::pgformat::ControlFile;

/// Everything one attempt needs.
pub(crate) struct Hands<'a> {
    /// The cluster.
    pub(crate) cluster: &'a Cluster,
    /// Who runs it.
    pub(crate) owner: Owner,
    /// The store of its backups and WAL.
    pub(crate) store: Arc<dyn Store>,
    /// The other stores that its WAL is archived into.
    pub(crate) further: Vec<Arc<dyn Store>>,
    /// The prefix inside them.
    pub(crate) prefix: &'a str,
    /// Our own program, which the server calls to fetch WAL.
    pub(crate) program: &'a Path,
    /// The attempt.
    pub(crate) cx: &'a RunContext,
}

impl<'a> Hands<'a> {
    /// Takes hold of a cluster.
    ///
    /// # Errors
    /// Fails when its owner or its store cannot be had.
    pub(crate) fn on(cluster: &'a Cluster, program: &'a Path, cx: &'a RunContext) -> Result<Self, ActionError> {
        let (_, prefix) = cluster.archive()?;
        let owner = Owner::of(cluster, cx.host.as_ref())?;
        let mut stores = archive::opened(cluster, |name| cx.store(name))?;
        let further = stores.split_off(1);
        Ok(Self { cluster, owner, store: stores.remove(0), further, prefix, program, cx })
    }

    /// Every store that its WAL lies in, that of its backups first.
    pub(crate) fn stores(&self) -> impl Iterator<Item = &Arc<dyn Store>> {
        std::iter::once(&self.store).chain(&self.further)
    }

    /// The archive of a staged backup.
    pub(crate) fn shelf(&self, marker: &Marker) -> Shelf<'_> {
        let stores = self.stores().map(|store| (store.as_read(), archive::keys(&self.cx.about, store.name())));
        let (system_id, size) = (marker.system_id, marker.segment_size);
        Shelf { stores: stores.collect(), prefix: self.prefix, system_id, size }
    }

    /// What the inventory says of a store of the archive.
    ///
    /// # Errors
    /// Fails when it has no such store.
    pub(crate) fn entry(&self, store: &dyn Store) -> Result<&StoreEntry, ActionError> {
        let name = store.name();
        let entry = self.cx.about.inventory.stores.get(name);
        entry.ok_or_else(|| ActionError::fatal(format!("the inventory has no store `{name}`")))
    }

    /// The settings of a throw-away cluster; `None` for a real one.
    ///
    /// # Errors
    /// Fails when its `pg_control` cannot be read.
    pub(crate) fn side(&self, files: &dyn ReadFiles, pgdata: &Path) -> Result<Option<Side>, ActionError> {
        Side::of(self.cluster, &control(files, pgdata)?)
    }

    /// The server in the cluster's own place.
    ///
    /// # Errors
    /// Fails when its version, its programs or its `pg_control` cannot be found.
    pub(crate) fn server(&self, files: &dyn ReadFiles) -> Result<Server<'a>, ActionError> {
        let version = major(files, &self.cluster.pgdata)?;
        let programs = Programs::of(self.cluster, &version, self.cx.host.as_ref())?;
        let options = self.side(files, &self.cluster.pgdata)?.map_or_else(Vec::new, |side| side.options());
        Ok(Server { cluster: self.cluster, owner: self.owner.clone(), programs, options })
    }

    /// Writes a file of the server's.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub(crate) fn write(&self, files: &dyn Files, path: &Path, content: &str) -> Result<(), HostError> {
        files.replace(path, content.as_bytes(), 0o600)?;
        files.chown(path, self.owner.uid, self.owner.gid)
    }
}

/// Reads the `pg_control` of a restored data directory.
///
/// # Errors
/// Fails when it is not there or damaged.
pub(crate) fn control(files: &dyn ReadFiles, pgdata: &Path) -> Result<ControlFile, ActionError> {
    let bytes = files.read(&pgdata.join(ControlFile::PATH), 1 << 16).map_err(|error| cannot(&error))?;
    ControlFile::parse(&bytes)
        .map_err(|error| ActionError::fatal("the restored `pg_control` cannot be read").because(&error))
}

/// A failure of the host in the middle of a recovery.
pub(crate) fn cannot(error: &HostError) -> ActionError {
    ActionError::retryable("the recovery cannot go on").because(error)
}
