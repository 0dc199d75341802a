//! The catalog: which backups a store holds, and where the WAL of their clusters lies.
//!
//! ```text
//! <prefix>/base/<id>/manifest.json            written last: the commit point of a backup
//! <prefix>/base/<id>/…                        its objects, named in the manifest
//! <prefix>/wal/cluster                        the one system id that archives under this prefix
//! <prefix>/wal/<system id>/<timeline>/<name>  segments, .partial and .backup files
//! <prefix>/wal/<system id>/history/<name>     .history files, kept for ever
//! ```
//!
//! What has no valid manifest is no backup. Start with [`find`] and [`commit`]; [`wal_listing`] tells
//! what of the WAL is there.

mod archive;
mod backup;
mod body;
mod error;
mod key;
mod manifest;
mod query;
pub mod retention;

pub use archive::{WalListing, check_prefix, claim_prefix, histories, wal_listing};
pub use backup::{Backup, BackupList, DamagedBackup, commit, list, load, open};
pub use body::{read_small, read_verified};
pub use error::CatalogError;
pub use key::{backup_id, base_prefix, cluster_key, history_prefix, manifest_key, object_key, wal_key, wal_prefix};
pub use manifest::{
    ArchiveSettings, DatabaseLocale, FORMAT, KIND_POSTGRES_BASE, Manifest, ManifestObject, ObjectRole, PostgresFacts,
    Slot, Tablespace,
};
pub use query::{Query, Which, find};

#[cfg(test)]
mod tests;
