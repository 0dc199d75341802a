//! The catalog: which backups a store holds, and where the WAL of their clusters lies.
//!
//! ```text
//! <prefix>/<family>[/<tier>]/<id>/manifest.json   written last: the commit point of a backup
//! <prefix>/<family>[/<tier>]/<id>/…               its objects, named in the manifest
//!                             SHA256SUMS          their digests, for `sha256sum -c`
//!                             RESTORE.md, restore.sh   how to restore it without this program
//!                             hold.json, proofs/, verified/   what was attested of it since
//! <prefix>/freeze/<run>.json                      a real recovery from what lies here, open until it is lifted
//! <prefix>/wal/cluster                            the one system id that archives under this prefix
//! <prefix>/wal/<system id>/<timeline>/<name>      segments, .partial and .backup files; packed ones end in `.zst`, `.age` …
//! <prefix>/wal/<system id>/history/<name>         .history files, kept for ever
//! ```
//!
//! The family is `base` for `postgres.base`, `dump` for `postgres.dump`, else the kind with `.` as `-`.
//! What has no valid manifest is no backup. Start with [`find`] and [`commit`]; [`Catalog`] lists, and
//! [`attest`] tells what became of a backup; [`wal_listing`] tells what of the WAL is there, and
//! [`recovery`] what can be recovered with both.

mod archive;
pub mod attest;
mod backup;
mod body;
mod configuration;
pub mod cost;
pub mod elsewhere;
mod error;
mod escape;
mod facts;
pub mod freeze;
mod given_up;
pub mod health;
mod index;
mod key;
mod lineage;
mod listing;
mod manifest;
mod query;
pub mod recovery;
pub mod retention;
pub(crate) mod sidecar;
mod stand_in;
pub mod survey;
mod together;
mod view;
mod wal_object;

pub use archive::{
    WalListing, check_prefix, claim_prefix, histories, wal_keys_of, wal_listing, wal_listing_of, wal_owner,
};
pub use backup::{Backup, commit, load, open, open_copy};
pub use body::{read_small, read_told, read_verified};
pub use configuration::ServerConfiguration;
pub use error::CatalogError;
pub use facts::{ContentFacts, DatabaseFacts, DatabaseSetting, DatabaseState, DumpFacts, DumpFormat, TableFacts};
pub use given_up::{GivenUp, GivenUpNote};
pub use index::Index;
pub use key::{
    BackupPlace, IMPORTED, backup_id, cluster_key, family, family_prefix, history_prefix, wal_key, wal_prefix,
};
pub use lineage::lineage;
pub use listing::{BackupList, Catalog, DamagedBackup, list};
pub use manifest::{
    ArchiveSettings, DatabaseLocale, FORMAT, KIND_FILES, KIND_POSTGRES_BASE, KIND_POSTGRES_DUMP,
    KIND_POSTGRES_SNAPSHOT, Manifest, ManifestObject, ObjectRole, PostgresFacts, Slot, Snapshot, Standby, Tablespace,
};
pub use query::{Pick, Proven, Query, find, find_among};
pub use stand_in::list_whole;
pub use view::{wal_branches, wal_view};
pub use wal_object::{WalPlace, packed_wal_key, wal_file_of, wal_objects};

#[cfg(test)]
mod tests;
