//! The stores that give no answer, left out: what the others have is told all the same.

use super::Recoverable;
use crate::catalog::{CatalogError, wal_owner};

/// A store that gives no answer.
#[derive(Debug)]
pub struct Silent {
    /// Its name.
    pub store: String,
    /// Whether it is the database's own: the one that every restore reads.
    pub is_own: bool,
    /// What it fails with.
    pub why: CatalogError,
}

impl Recoverable {
    /// Leaves the stores of its WAL out that give no answer now, and says which; what has a copy of its backups as well comes
    /// first then. Only for telling how things stand: what a silent store has alone is missing, so nothing may be concluded
    /// from an absence.
    pub async fn answering(mut self) -> (Self, Vec<Silent>) {
        let (mut answering, mut silent) = (Vec::new(), Vec::new());
        for (place, (store, entry)) in std::mem::take(&mut self.stores).into_iter().enumerate() {
            match wal_owner(&*store, &self.prefix).await {
                Ok(_) => answering.push((store, entry)),
                Err(why) => silent.push(Silent { store: store.name().to_owned(), is_own: place == 0, why }),
            }
        }
        let has_copies = |name: &str| self.entry.backup_destinations().any(|one| one == name);
        answering.sort_by_key(|(store, _)| !has_copies(store.name()));
        // Asked for their copies they cost their patience once more.
        self.copies.retain(|copy| silent.iter().all(|one| one.store != copy.name()));
        self.stores = answering;
        (self, silent)
    }
}
