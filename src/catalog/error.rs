//! What can be wrong with a catalog.

use crate::action::StoreError;
use crate::pgformat::SystemId;

/// Why the catalog gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The store failed.
    #[error("the catalog cannot use its store")]
    Store(#[from] StoreError),
    /// A prefix or id cannot be part of a key.
    #[error("`{0}` cannot be part of an object's key")]
    Key(String),
    /// An object is not what it must be.
    #[error("object `{key}` is damaged: {what}")]
    Damaged {
        /// The object.
        key: String,
        /// What differs.
        what: String,
    },
    /// A backup is of another kind than is needed.
    #[error("backup `{id}` is of kind `{kind}`, not `{wanted}`")]
    Kind {
        /// The backup.
        id: String,
        /// Its kind.
        kind: String,
        /// The kind that is needed.
        wanted: &'static str,
    },
    /// There is no such backup.
    #[error("there is no backup {0}")]
    NoBackup(String),
    /// A backup's manifest is not the one that was chosen.
    #[error("the manifest of backup `{0}` changed since it was chosen")]
    Changed(String),
    /// What a backup rests on is not whole.
    #[error("backup `{id}` cannot be restored: {what}")]
    Torn {
        /// The backup.
        id: String,
        /// What is wrong.
        what: String,
    },
    /// The prefix belongs to another cluster.
    #[error("prefix `{prefix}` holds the WAL of cluster {theirs}, not of {ours}")]
    OtherCluster {
        /// The prefix.
        prefix: String,
        /// The cluster it belongs to.
        theirs: String,
        /// The cluster that asks.
        ours: SystemId,
    },
}

impl CatalogError {
    /// Tells whether trying again may help.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Store(StoreError::Unavailable { .. } | StoreError::Replaced { .. }))
    }
}
