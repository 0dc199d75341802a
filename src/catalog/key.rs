//! Where things lie: the one place that joins keys.

use super::CatalogError;
use crate::action::ObjectKey;
use crate::base::Timestamp;
use crate::pgformat::{SystemId, Timeline, WalFileName};

fn key(text: String) -> Result<ObjectKey, CatalogError> {
    text.parse().map_err(|_| CatalogError::Key(text))
}

/// Returns the id of a backup that starts at `at`: `20260128T143002Z-base`. Sorts by time.
#[must_use]
pub fn backup_id(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ-base").to_string()
}

/// Returns what the keys of all base backups begin with.
#[must_use]
pub fn base_prefix(prefix: &str) -> String {
    format!("{prefix}/base/")
}

/// Returns the key of a backup's manifest.
///
/// # Errors
/// Fails when prefix or id cannot be part of a key.
pub fn manifest_key(prefix: &str, id: &str) -> Result<ObjectKey, CatalogError> {
    object_key(prefix, id, "manifest.json")
}

/// Returns the key of an object of a backup.
///
/// # Errors
/// Fails when a part cannot be part of a key.
pub fn object_key(prefix: &str, id: &str, name: &str) -> Result<ObjectKey, CatalogError> {
    key(format!("{prefix}/base/{id}/{name}"))
}

/// Returns the key of the note that says whose WAL lies under the prefix.
///
/// # Errors
/// Fails when the prefix cannot be part of a key.
pub fn cluster_key(prefix: &str) -> Result<ObjectKey, CatalogError> {
    key(format!("{prefix}/wal/cluster"))
}

/// Returns what the keys of a timeline's segments begin with.
#[must_use]
pub fn wal_prefix(prefix: &str, system_id: SystemId, timeline: Timeline) -> String {
    format!("{prefix}/wal/{system_id}/{}/", timeline.hex())
}

/// Returns what the keys of a cluster's history files begin with.
#[must_use]
pub fn history_prefix(prefix: &str, system_id: SystemId) -> String {
    format!("{prefix}/wal/{system_id}/history/")
}

/// Returns the key of a file of the WAL archive.
///
/// # Errors
/// Fails when the prefix cannot be part of a key.
pub fn wal_key(prefix: &str, system_id: SystemId, name: WalFileName) -> Result<ObjectKey, CatalogError> {
    match name {
        WalFileName::History(_) => key(format!("{}{name}", history_prefix(prefix, system_id))),
        WalFileName::Segment(_) | WalFileName::PartialSegment(_) | WalFileName::BackupHistory { .. } => {
            key(format!("{}{name}", wal_prefix(prefix, system_id, name.timeline())))
        }
    }
}
