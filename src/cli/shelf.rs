//! What each store of a database has of its backups: the own one, and those that get a copy.

use super::Failure;
use super::backups::open_store::of_catalog;
use super::site::Site;
use super::wiring;
use crate::catalog::attest::Vouched;
use crate::catalog::{Backup, BackupList, Catalog};

/// What one store has of a database.
pub struct Shelf {
    /// The store.
    pub store: String,
    /// Its backups; why it does not tell them.
    pub backups: Result<BackupList, String>,
}

impl Shelf {
    /// What it has of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Backup> {
        self.backups.iter().flat_map(|list| &list.backups).filter(move |backup| backup.manifest.kind == kind)
    }

    /// What it has of a kind and nothing is known against.
    pub fn sound<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Backup> {
        self.of_kind(kind).filter(|backup| self.is_sound(backup))
    }

    /// Whether one of its copies is complete and not known to be damaged, and all that it rests on there as well: an
    /// increment is as good as the weakest of its links.
    pub fn is_sound(&self, backup: &Backup) -> bool {
        let rests_whole = self.backups.as_ref().is_ok_and(|list| list.rests_whole(backup));
        backup.missing.is_empty() && !backup.attested.is_damaged() && rests_whole
    }
}

impl Site {
    /// Lists what a store has under a prefix; of the notes beside it those count that `audit.proof_signers` vouch for.
    ///
    /// # Errors
    /// Says why it cannot be listed: the store gives no answer, or the inventory makes no sense of it.
    pub fn listed(&self, store: &str, prefix: &str) -> Result<BackupList, String> {
        let told = |failure: Failure| failure.in_full();
        let reader = self.read_store(store).map_err(told)?;
        let vouched = Vouched::of(reader.as_ref(), &self.inventory.audit.proof_signers)
            .map_err(|error| format!("`audit.proof_signers` of the inventory makes no sense: {error}"))?;
        let listed = wiring::block_on(async { Catalog::of(&vouched).list(prefix).await }).map_err(told)?;
        listed.map_err(|error| of_catalog(&error))
    }

    /// What the stores have that the backups of a database go to, its own store first; empty where it has none.
    pub fn shelves(&self, database: &str) -> Vec<Shelf> {
        let Some(entry) = self.inventory.databases.get(database) else { return Vec::new() };
        let prefix = entry.prefix.as_deref().unwrap_or(database);
        let is_its = |backup: &Backup| backup.manifest.source == database;
        let of_it = |mut list: BackupList| {
            list.backups.retain(is_its);
            list
        };
        let shelf = |store: &str| Shelf { store: store.to_owned(), backups: self.listed(store, prefix).map(of_it) };
        entry.backup_destinations().map(shelf).collect()
    }
}
