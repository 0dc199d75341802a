//! Chooses a backup.

use super::{Backup, BackupList, CatalogError, list};
use crate::action::ReadStore;
use crate::base::Timestamp;

/// Which backup is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one that ended last.
    Newest,
    /// The last one that had ended before this time.
    Before(Timestamp),
    /// The one with this id.
    Id(String),
}

/// What a backup must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The database it was taken of.
    pub database: String,
    /// Its kind.
    pub kind: String,
    /// Which one of these.
    pub which: Which,
}

impl Query {
    /// Chooses from a list.
    #[must_use]
    pub fn choose(&self, list: BackupList) -> Option<Backup> {
        let fits = |backup: &Backup| {
            let manifest = &backup.manifest;
            let wanted = match &self.which {
                Which::Newest => true,
                Which::Before(at) => manifest.stopped_at < *at,
                Which::Id(id) => manifest.id == *id,
            };
            wanted && manifest.kind == self.kind && manifest.source == self.database
        };
        list.backups.into_iter().rfind(fits)
    }

    /// Says in words what was wanted.
    #[must_use]
    pub fn wanted(&self) -> String {
        let Self { database, kind, which } = self;
        match which {
            Which::Newest => format!("of database `{database}` of kind `{kind}`"),
            Which::Before(at) => format!("of database `{database}` of kind `{kind}` that ended before {at}"),
            Which::Id(id) => format!("`{id}` of database `{database}` of kind `{kind}`"),
        }
    }
}

/// Finds a backup under a prefix.
///
/// # Errors
/// Fails when there is none that fits, and when the store fails.
pub async fn find(store: &dyn ReadStore, prefix: &str, query: &Query) -> Result<Backup, CatalogError> {
    let list = list(store, prefix).await?;
    let damaged = list.damaged.len();
    query.choose(list).ok_or_else(|| {
        let wanted = query.wanted();
        CatalogError::NoBackup(match damaged {
            0 => wanted,
            count => format!("{wanted} ({count} with a damaged manifest were left out)"),
        })
    })
}
