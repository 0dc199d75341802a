//! What retention keeps below a prefix, as far as a rule that knows only ages can break it.

use crate::action::ReadStore;
use crate::action::StoreError;
use crate::catalog::{self, CatalogError};

/// What lies below a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Backups with manifests.
    Backups,
    /// The WAL of a cluster.
    Wal,
}

/// A backup that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptBackup {
    /// Its id.
    pub(super) id: String,
    /// Whether a hold keeps it.
    pub(super) held: bool,
}

/// What retention keeps below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// The prefix inside the store.
    pub(super) prefix: String,
    /// What lies there.
    pub(super) content: Content,
    /// Of what it is a backup.
    pub(super) source: String,
    /// The longest that any rule keeps one while new ones are made; `None` when there is no end.
    pub(super) longest_days: Option<u32>,
    /// How many are kept whatever their age.
    pub(super) floor: u32,
    /// Those there are, oldest first.
    pub(super) backups: Vec<KeptBackup>,
}

impl Kept {
    /// Whether a rule about a prefix is about some of it.
    pub(super) fn overlaps(&self, prefix: &str) -> bool {
        self.prefix.starts_with(prefix) || prefix.starts_with(&self.prefix)
    }
}

/// The folders of a store that hold backups, and those that hold WAL: found by looking, so that nothing that the
/// inventory does not name is overlooked.
pub(super) async fn folders(store: &dyn ReadStore) -> Result<Vec<(String, Content)>, StoreError> {
    let mut found = Vec::new();
    for top in store.browse("").await?.folders {
        for folder in store.browse(&top).await?.folders {
            match folder.strip_prefix(top.as_str()) {
                Some("base/") => found.push((folder, Content::Backups)),
                Some("wal/") => found.push((folder, Content::Wal)),
                Some(_) | None => {}
            }
        }
    }
    Ok(found)
}

/// The backups below a prefix of the catalog, oldest first.
pub(super) async fn backups(store: &dyn ReadStore, prefix: &str) -> Result<Vec<KeptBackup>, CatalogError> {
    let list = catalog::list(store, prefix).await?;
    let kept = list.backups.into_iter().map(|backup| KeptBackup { id: backup.manifest.id, held: false });
    Ok(kept.collect())
}
