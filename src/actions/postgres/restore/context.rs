//! What every phase of a recovery works with: the cluster, its owner, its archive, our own program.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::marker::Marker;
use crate::action::{ActionError, Files, HostError, ReadFiles, ReadStore, RunContext, Store};
use crate::actions::postgres::cluster::container::ServerHost;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::pg_control::control;
use crate::actions::postgres::cluster::server::{Programs, Server, major};
use crate::actions::postgres::cluster::settings;
use crate::actions::postgres::cluster::side::Side;
use crate::actions::postgres::cluster::wal_location::WalLocation;
use crate::actions::postgres::stores::archive::{self, WalArchive};
use crate::language::inventory::StoreEntry;

/// Everything one attempt needs.
pub(crate) struct RecoveryContext<'a> {
    /// The cluster.
    pub(crate) cluster: &'a Cluster,
    /// Who runs it.
    pub(crate) owner: Owner,
    /// The store of its backups and WAL.
    pub(crate) store: Arc<dyn Store>,
    /// The other stores that its WAL is archived into.
    pub(crate) further: Vec<Arc<dyn Store>>,
    /// Where its own store is read: with the WAL beside it that another program archived, if any.
    pub(crate) reading: Arc<dyn ReadStore>,
    /// Where that lies.
    pub(crate) location: Option<WalLocation>,
    /// The prefix inside them.
    pub(crate) prefix: &'a str,
    /// Where its server lives.
    pub(crate) server_host: ServerHost,
    /// Our own program, as the server calls it to fetch WAL.
    pub(crate) program: PathBuf,
    /// The attempt.
    pub(crate) cx: &'a RunContext,
}

impl<'a> RecoveryContext<'a> {
    /// Takes hold of a cluster.
    ///
    /// # Errors
    /// Fails when its owner, its container or its store cannot be had.
    pub(crate) async fn on(cluster: &'a Cluster, program: &Path, cx: &'a RunContext) -> Result<Self, ActionError> {
        let (_, prefix) = cluster.archive()?;
        let server_host = ServerHost::made(cluster, cx.host.as_ref()).await?.apart();
        let program = server_host.program(program);
        let owner = Owner::of(cluster, cx.host.as_ref())?;
        let mut stores = archive::opened(cluster, |name| cx.store(name))?;
        let further = stores.split_off(1);
        let store = stores.remove(0);
        let reading = Arc::clone(&store) as Arc<dyn ReadStore>;
        Ok(Self { cluster, owner, store, further, reading, location: None, prefix, server_host, program, cx })
    }

    /// Reads WAL from a folder that another program filled as well.
    ///
    /// # Errors
    /// Fails when its store cannot be had.
    pub(crate) fn reading(self, location: Option<WalLocation>) -> Result<Self, ActionError> {
        let Some(location) = location else { return Ok(self) };
        let lying = self.cx.store(location.store.as_str())? as Arc<dyn ReadStore>;
        let own = Arc::clone(&self.store) as Arc<dyn ReadStore>;
        let reading = location.beside(own, (self.prefix, lying), &self.cx.about)?;
        Ok(Self { reading, location: Some(location), ..self })
    }

    /// Every store that its WAL lies in, that of its backups first.
    pub(crate) fn stores(&self) -> impl Iterator<Item = &Arc<dyn Store>> {
        std::iter::once(&self.store).chain(&self.further)
    }

    /// The archive of a staged backup.
    pub(crate) fn wal_archive(&self, marker: &Marker) -> WalArchive<'_> {
        let further = self.further.iter().map(|store| store.as_read());
        let stores = std::iter::once(&*self.reading).chain(further);
        let stores = stores.map(|store| (store, archive::keys(&self.cx.about, store.name())));
        let (system_id, size) = (marker.system_id, marker.segment_size);
        WalArchive { stores: stores.collect(), prefix: self.prefix, system_id, size }
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

    /// The server's programs for the data in `pgdata`; in a container they are its own.
    ///
    /// # Errors
    /// Fails when its version or its programs cannot be found.
    pub(crate) fn programs(&self, files: &dyn ReadFiles, pgdata: &Path) -> Result<Programs, ActionError> {
        let version = major(files, pgdata)?;
        match self.server_host {
            ServerHost::Here => Programs::of(self.cluster, &version, self.cx.host.as_ref()),
            ServerHost::Container(_) => Ok(Programs::of_any_version(self.cluster)),
        }
    }

    /// The server in the cluster's own place.
    ///
    /// # Errors
    /// Fails when its version, its programs or its `pg_control` cannot be found.
    pub(crate) fn server(&self, files: &dyn ReadFiles) -> Result<Server<'a>, ActionError> {
        let programs = self.programs(files, &self.cluster.pgdata)?;
        let options = self.side(files, &self.cluster.pgdata)?.map_or_else(Vec::new, |side| side.options());
        Ok(Server { cluster: self.cluster, owner: self.owner.clone(), programs, options })
    }

    /// Writes a file of the server's.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub(crate) fn write(&self, files: &dyn Files, path: &Path, content: &str) -> Result<(), HostError> {
        files.replace_for(path, &settings::bytes_of(content), 0o600, self.owner.ids())
    }
}
