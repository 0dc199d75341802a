//! What the store of one database holds for a recovery: base backups, WAL and timelines.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::site::{Site, no_database};
use super::wal_location::WalLocationArgs;
use super::{Exit, Failure};
use crate::action::{ReadStore, Secrets};
use crate::catalog::recovery::{Archive, BaseBackup, base_backups};
use crate::catalog::{self, Catalog, CatalogError, KIND_POSTGRES_BASE};
use crate::language::inventory::{Database, StoreEntry};
use crate::pgformat::{SegmentHeader, SegmentSize, SystemId, WalFileName};
use crate::wal::{Almanac, Identity, Keys, Source, WalError, read_file};

/// What the store of one database holds.
pub struct Recoverable {
    /// The database's name.
    pub database: String,
    /// Its entry.
    pub entry: Database,
    /// The prefix inside it.
    pub prefix: String,
    /// Its clusters; the one that archives now comes first.
    pub clusters: Vec<ClusterView>,
    /// Manifests that cannot be read: what they describe is not counted.
    pub damaged: Vec<String>,
    store: Arc<dyn ReadStore>,
    settings: StoreEntry,
    secrets: Arc<dyn Secrets>,
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
}

/// The databases that are meant: the one named, else every one that has a store.
///
/// # Errors
/// Fails when there is none of that name, or none with a store (exit 2).
pub fn databases(site: &Site, named: Option<&str>) -> Result<Vec<String>, Failure> {
    let all = &site.inventory.databases;
    if let Some(name) = named {
        let entry = all.get(name).ok_or_else(|| no_database(name, &site.inventory))?;
        return match entry.store {
            Some(_) => Ok(vec![name.to_owned()]),
            None => Err(Failure::new(Exit::Usage, format!("database `{name}` has no store"))
                .help("add `store: NAME` to its entry in the inventory")),
        };
    }
    let with_store = all.iter().filter(|(_, entry)| entry.store.is_some() && !entry.scratch);
    let names: Vec<String> = with_store.map(|(name, _)| name.clone()).collect();
    if names.is_empty() {
        let help =
            "add `databases: { NAME: { pgdata: …, store: NAME } }`, or name an inventory with `--inventory FILE`";
        return Err(Failure::new(Exit::Usage, "the inventory has no database with a store").help(help));
    }
    Ok(names)
}

/// The one database that is meant.
///
/// # Errors
/// Fails when none is named and there are several (exit 2).
pub fn database(site: &Site, named: Option<&str>) -> Result<String, Failure> {
    let mut names = databases(site, named)?;
    match names.len() {
        1 => Ok(names.swap_remove(0)),
        _ => Err(Failure::new(Exit::Usage, "several databases have a store: say which one is meant")
            .help(format!("known: {}", names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")))),
    }
}

impl Recoverable {
    /// Looks at the store of a database.
    ///
    /// # Errors
    /// Fails when the inventory makes no sense of it.
    pub fn open(site: &Site, name: &str) -> Result<Self, Failure> {
        let entry = site.inventory.databases.get(name).ok_or_else(|| no_database(name, &site.inventory))?.clone();
        let store_name = entry.store.clone().unwrap_or_default();
        Ok(Self {
            database: name.to_owned(),
            prefix: entry.prefix.clone().unwrap_or_else(|| name.to_owned()),
            store: site.read_store(&store_name)?,
            settings: site.store_entry(&store_name)?.clone(),
            secrets: Arc::clone(&site.vault) as Arc<dyn Secrets>,
            clusters: Vec::new(),
            damaged: Vec::new(),
            entry,
        })
    }

    /// Reads WAL that another program archived as well, where the arguments name such.
    ///
    /// # Errors
    /// Fails when the inventory has no such store.
    pub fn with_location(mut self, site: &Site, location: &WalLocationArgs) -> Result<Self, Failure> {
        self.store = location.beside(self.store, &self.prefix, site)?;
        Ok(self)
    }

    /// Reads what there is.
    ///
    /// # Errors
    /// Fails when the store gives no answer, or a history file is damaged.
    pub async fn look(mut self) -> Result<Self, LookError> {
        let (store, prefix) = (&*self.store, self.prefix.as_str());
        let list = Catalog::of(store).list(prefix).await?;
        let owner = catalog::wal_owner(store, prefix).await?;
        let own = list.backups.into_iter().filter(|backup| backup.manifest.kind == KIND_POSTGRES_BASE);
        let own: Vec<_> = own.collect();
        let sizes = |id: SystemId| {
            let facts = own.iter().filter_map(|backup| backup.manifest.postgres.as_ref());
            facts.filter(|facts| facts.system_id == id).map(|facts| facts.segment_size).next_back()
        };
        let backups = base_backups(&own);
        let mut ids: Vec<SystemId> = owner.into_iter().chain(backups.iter().rev().map(|one| one.system_id)).collect();
        let mut seen = BTreeSet::new();
        ids.retain(|id| seen.insert(*id));
        let mut clusters = Vec::new();
        for system_id in ids {
            let size = match sizes(system_id) {
                Some(size) => size,
                None => self.segment_size(system_id).await?,
            };
            let archive = catalog::wal_view(store, prefix, (system_id, size)).await?;
            let backups = backups.iter().filter(|backup| backup.system_id == system_id).cloned().collect();
            clusters.push(ClusterView { system_id, archive, backups });
        }
        self.clusters = clusters;
        self.damaged = list.damaged.into_iter().map(|damaged| format!("`{}`: {}", damaged.key, damaged.why)).collect();
        Ok(self)
    }

    /// Reads times of one of its clusters.
    #[must_use]
    pub fn almanac(&self, system_id: SystemId, size: SegmentSize) -> Almanac<'_> {
        Almanac::of(self.source(system_id, Some(size)), size)
    }

    /// Where the WAL of a cluster is read from.
    fn source(&self, system_id: SystemId, segment_size: Option<SegmentSize>) -> Source<'_> {
        let identity = Identity { system_id, segment_size };
        let keys = Keys { settings: Some(&self.settings), secrets: &*self.secrets };
        Source { store: &*self.store, prefix: &self.prefix, identity, keys }
    }

    /// The size of a cluster's segments without any backup that tells it: from the first page of one.
    async fn segment_size(&self, system_id: SystemId) -> Result<SegmentSize, LookError> {
        let view = catalog::wal_view(&*self.store, &self.prefix, (system_id, SegmentSize::DEFAULT)).await?;
        let Some(first) = view.segments.keys().next() else { return Ok(SegmentSize::DEFAULT) };
        let bytes = read_file(&self.source(system_id, None), WalFileName::Segment(*first)).await?;
        Ok(SegmentHeader::parse(&bytes).map_or(SegmentSize::DEFAULT, |header| header.segment_size))
    }
}

impl ClusterView {
    /// The archive as its own backups' recoveries see it, for reading times: what is only inside backups is left out.
    #[must_use]
    pub fn readable(
        &self,
        numbers: (u64, u64),
        followed: crate::pgformat::Timeline,
    ) -> Vec<crate::pgformat::SegmentName> {
        let path = self.archive.path(followed);
        (numbers.0..=numbers.1).map(|number| path.name(number)).filter(|name| self.archive.holds(*name)).collect()
    }
}
