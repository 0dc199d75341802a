//! What the store of one database holds for a recovery: base backups, WAL and timelines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::{
    Beginning, CommitTimes, ForeignArchive, ForeignFolder, Identity, Keys, Source, WalError, read_first,
};
use super::Remnant;
use super::remnant::BeyondArchive;
use crate::action::{ObjectKey, ReadStore, Secrets, StoreError};
use crate::catalog::recovery::{Archive, BaseBackup, base_backups};
use crate::catalog::{self, Backup, CatalogError, KIND_POSTGRES_BASE, KIND_POSTGRES_SNAPSHOT};
use crate::language::inventory::{Database, StoreEntry};
use crate::pgformat::{Lsn, SegmentHeader, SegmentName, SegmentSize, SystemId, Timeline, WalFileName};

/// What the store of one database holds.
pub struct Recoverable {
    /// The database's name.
    pub database: String,
    /// Its entry.
    pub entry: Database,
    /// The prefix inside its stores.
    pub prefix: String,
    /// Its clusters; the one that archives now comes first.
    pub clusters: Vec<ClusterView>,
    /// Manifests that cannot be read: what they describe is not counted.
    pub damaged: Vec<String>,
    /// The store of its backups, and the others that its WAL lies in.
    pub(super) stores: Vec<(Arc<dyn ReadStore>, StoreEntry)>,
    /// The other stores that its backups go to.
    pub(super) copies: Vec<Arc<dyn ReadStore>>,
    secrets: Arc<dyn Secrets>,
    /// Whether WAL of another program is read as well, which has no digests.
    pub(super) lying: bool,
    /// What only its server has, where that counts as well.
    pub(super) remnant: Option<Remnant>,
    /// How large the segments of a cluster are, where its server tells it.
    told: Option<(SystemId, SegmentSize)>,
    /// The objects of each base backup, by its id.
    pub(super) objects: BTreeMap<String, Vec<ObjectKey>>,
}

/// What there is of one cluster. A database that was made anew or upgraded has several.
pub struct ClusterView {
    /// Its identity.
    pub system_id: SystemId,
    /// Its WAL and timelines.
    pub archive: Archive,
    /// Its base backups, oldest first.
    pub backups: Vec<BaseBackup>,
}

/// Why a store could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The WAL.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database has none.
    #[error("the database has no store")]
    NoStore,
    /// A store that only WAL is archived into.
    #[error("store `{store}`, which `wal_stores` names: {source}")]
    Further {
        /// The store.
        store: String,
        /// What it failed with.
        source: CatalogError,
    },
    /// Two stores tell a timeline differently.
    #[error("store `{store}` tells timeline {timeline} differently: two servers were promoted to it")]
    Apart {
        /// The store.
        store: String,
        /// The timeline.
        timeline: Timeline,
    },
}

impl Recoverable {
    /// What the stores of a database hold, not yet looked at: that of its backups first, each with its settings.
    #[must_use]
    pub fn of(
        (database, entry): (&str, &Database),
        stores: Vec<(Arc<dyn ReadStore>, StoreEntry)>,
        secrets: Arc<dyn Secrets>,
    ) -> Self {
        Self {
            database: database.to_owned(),
            prefix: entry.prefix.clone().unwrap_or_else(|| database.to_owned()),
            entry: entry.clone(),
            clusters: Vec::new(),
            damaged: Vec::new(),
            objects: BTreeMap::new(),
            stores,
            copies: Vec::new(),
            lying: false,
            secrets,
            remnant: None,
            told: None,
        }
    }

    /// Reads WAL as well that another program archived in a folder, beside the store of its backups.
    #[must_use]
    pub fn beside(mut self, folder: ForeignFolder) -> Self {
        if let Some((store, _)) = self.stores.first_mut() {
            *store = Arc::new(ForeignArchive::beside(Arc::clone(store), &self.prefix, folder));
            self.lying = true;
        }
        self
    }

    /// Counts the copies that other stores have of backups which the own one does not have whole.
    #[must_use]
    pub fn with_copies(self, copies: Vec<Arc<dyn ReadStore>>) -> Self {
        Self { copies, ..self }
    }

    /// Goes by the segment size that a server tells, where no backup does: a segment itself may be locked.
    #[must_use]
    pub fn told(self, told: Option<(SystemId, SegmentSize)>) -> Self {
        Self { told, ..self }
    }

    /// Counts what only its server has as well: a recovery rescues it first.
    #[must_use]
    pub fn and(self, remnant: Option<Remnant>) -> Self {
        Self { remnant, ..self }
    }

    /// The store of its backups, with its settings.
    pub(super) fn own(&self) -> Result<(&dyn ReadStore, &StoreEntry), LookError> {
        self.stores.first().map(|(store, settings)| (&**store, settings)).ok_or(LookError::NoStore)
    }

    /// The names of the stores that its WAL is looked for in.
    #[must_use]
    pub fn stores(&self) -> Vec<String> {
        self.stores.iter().map(|(store, _)| store.name().to_owned()).collect()
    }

    /// Reads what there is.
    ///
    /// # Errors
    /// Fails when the store gives no answer, or a history file is damaged.
    pub async fn look(mut self) -> Result<Self, LookError> {
        let ((store, _), prefix) = (self.own()?, self.prefix.as_str());
        let copies: Vec<&dyn ReadStore> = self.copies.iter().map(|copy| &**copy).collect();
        let list = catalog::list_whole(store, prefix, &copies).await?;
        let mut owner = catalog::wal_owner(store, prefix).await?;
        for (store, _) in &self.stores[1..] {
            let theirs = catalog::wal_owner(&**store, prefix).await.map_err(|source| further(&**store, source))?;
            owner = owner.or(theirs);
        }
        let kinds = [KIND_POSTGRES_BASE, KIND_POSTGRES_SNAPSHOT];
        let own = list.backups.into_iter().filter(|backup| kinds.contains(&backup.manifest.kind.as_str()));
        let own: Vec<_> = own.collect();
        let sizes = |id: SystemId| {
            let facts = own.iter().filter_map(|backup| backup.manifest.postgres.as_ref());
            facts.filter(|facts| facts.system_id == id).map(|facts| facts.segment_size).next_back()
        };
        let backups = base_backups(&own);
        // What must be retrieved first is told of the own store alone.
        let here = own.iter().filter(|backup| backup.store == store.name());
        let objects = here.map(|backup| (backup.manifest.id.clone(), keys(backup)));
        let objects = objects.collect();
        let mut ids: Vec<SystemId> = owner.into_iter().chain(backups.iter().rev().map(|one| one.system_id)).collect();
        let mut seen = BTreeSet::new();
        ids.retain(|id| seen.insert(*id));
        let mut clusters = Vec::new();
        for system_id in ids {
            let told = || self.told.filter(|(id, _)| *id == system_id).map(|(_, size)| size);
            let size = match sizes(system_id).or_else(told) {
                Some(size) => size,
                None => self.segment_size(system_id).await?,
            };
            let archive = self.view(system_id, size).await?;
            let backups = backups.iter().filter(|backup| backup.system_id == system_id).cloned().collect();
            let mut cluster = ClusterView { system_id, archive, backups };
            self.remnant.iter().for_each(|remnant| remnant.join(&mut cluster));
            clusters.push(cluster);
        }
        (self.clusters, self.objects) = (clusters, objects);
        self.damaged = list.damaged.into_iter().map(|damaged| format!("`{}`: {}", damaged.key, damaged.why)).collect();
        Ok(self)
    }

    /// Counts only backups of one kind: what a procedure restores.
    #[must_use]
    pub fn of_kind(mut self, kind: &str) -> Self {
        for cluster in &mut self.clusters {
            cluster.backups.retain(|backup| backup.kind == kind);
        }
        self
    }

    /// Reads times of one of its clusters.
    #[must_use]
    pub fn commit_times(&self, system_id: SystemId, size: SegmentSize) -> CommitTimes<'_> {
        CommitTimes::of(self.sources(system_id, Some(size)), size)
    }

    /// Tells up to where the stores have a segment: to its end, or as far as a recovery that was given up rescued it while it was
    /// being written. Reads no content.
    ///
    /// # Errors
    /// Fails when a store gives no answer.
    pub async fn has_until(&self, cluster: &ClusterView, name: SegmentName) -> Result<Lsn, LookError> {
        let size = cluster.archive.size;
        let beginning = Beginning::of(&self.sources(cluster.system_id, Some(size)), name).await?;
        Ok(beginning.map_or(name.end(size), |beginning| beginning.until))
    }

    /// What of a cluster's WAL only its server has.
    pub(super) fn beyond<'a>(&'a self, cluster: &'a ClusterView) -> BeyondArchive<'a> {
        let remnant = self.remnant.as_ref().filter(|remnant| remnant.system_id == cluster.system_id);
        BeyondArchive { remnant, archive: &cluster.archive }
    }

    /// Where the WAL of a cluster is read from.
    pub(super) fn sources(&self, system_id: SystemId, segment_size: Option<SegmentSize>) -> Vec<Source<'_>> {
        let identity = Identity { system_id, segment_size };
        let keys = |settings| Keys { settings: Some(settings), secrets: &*self.secrets };
        let each = self.stores.iter();
        each.map(|(store, own)| Source { store: &**store, prefix: &self.prefix, identity, keys: keys(own) }).collect()
    }

    /// The WAL of a cluster: what one of the stores has is there.
    async fn view(&self, system_id: SystemId, size: SegmentSize) -> Result<Archive, LookError> {
        let mut all = Archive::empty(size);
        for (at, (store, _)) in self.stores.iter().enumerate() {
            let viewed = catalog::wal_view(&**store, &self.prefix, (system_id, size)).await;
            let viewed = viewed.map_err(|error| if at == 0 { error.into() } else { further(&**store, error) })?;
            let apart = |timeline| LookError::Apart { store: store.name().to_owned(), timeline };
            all.join(viewed).map_err(apart)?;
        }
        Ok(all)
    }

    /// The size of a cluster's segments without any backup that tells it: from the first page of one.
    async fn segment_size(&self, system_id: SystemId) -> Result<SegmentSize, LookError> {
        let view = self.view(system_id, SegmentSize::DEFAULT).await?;
        let Some(first) = view.segments.keys().next() else { return Ok(SegmentSize::DEFAULT) };
        let bytes = read_first(&self.sources(system_id, None), WalFileName::Segment(*first)).await?;
        Ok(SegmentHeader::parse(&bytes).map_or(SegmentSize::DEFAULT, |header| header.segment_size))
    }
}

fn further(store: &dyn ReadStore, source: CatalogError) -> LookError {
    LookError::Further { store: store.name().to_owned(), source }
}

impl ClusterView {
    /// The archive as its own backups' recoveries see it, for reading times: what is only inside backups is left out.
    #[must_use]
    pub fn readable(&self, numbers: (u64, u64), followed: Timeline) -> Vec<SegmentName> {
        let path = self.archive.path(followed);
        (numbers.0..=numbers.1).map(|number| path.name(number)).filter(|name| self.archive.holds(*name)).collect()
    }
}

/// The keys of a backup's objects; one that makes no sense as a key is missing, and told as such elsewhere.
fn keys(backup: &Backup) -> Vec<ObjectKey> {
    let key = |object| backup.manifest.key_of(&backup.prefix, object).ok();
    backup.manifest.objects.iter().filter_map(key).collect()
}
