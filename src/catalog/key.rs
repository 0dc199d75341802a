//! Where things lie: the one place that joins keys.

use super::CatalogError;
use super::manifest::{KIND_POSTGRES_BASE, KIND_POSTGRES_DUMP, Manifest};
use crate::action::ObjectKey;
use crate::pgformat::{SystemId, Timeline, WalFileName};

fn key(text: String) -> Result<ObjectKey, CatalogError> {
    text.parse().map_err(|_| CatalogError::Key(text))
}

/// The name of the manifest in a backup's folder.
pub const MANIFEST: &str = "manifest.json";

/// Where one backup lies: `<prefix>/<family>[/<tier>]/<id>/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackupPlace {
    /// What everything of its source begins with.
    pub prefix: String,
    /// Its kind as a folder: `base`, `dump`, else the kind with `.` as `-`.
    pub family: String,
    /// Its tier, where it has one.
    pub tier: Option<String>,
    /// Its id.
    pub id: String,
}

impl BackupPlace {
    /// The place of a backup of this kind and tier.
    #[must_use]
    pub fn new(prefix: &str, (kind, tier): (&str, Option<&str>), id: &str) -> Self {
        Self { prefix: prefix.to_owned(), family: family(kind), tier: tier.map(str::to_owned), id: id.to_owned() }
    }

    /// The place of the backup that a manifest describes.
    #[must_use]
    pub fn of(prefix: &str, manifest: &Manifest) -> Self {
        Self::new(prefix, (&manifest.kind, manifest.tier.as_deref()), &manifest.id)
    }

    /// Its folder, without a `/` at the end.
    #[must_use]
    pub fn folder(&self) -> String {
        let family = family_prefix(&self.prefix, &self.family);
        match &self.tier {
            Some(tier) => format!("{family}{tier}/{}", self.id),
            None => format!("{family}{}", self.id),
        }
    }

    /// The key of something in its folder.
    ///
    /// # Errors
    /// Fails when a part of the place cannot be one part of a key.
    pub fn key(&self, name: &str) -> Result<ObjectKey, CatalogError> {
        let parts = [Some(&self.family), self.tier.as_ref(), Some(&self.id)];
        match parts.into_iter().flatten().find(|part| part.contains('/') || part.is_empty()) {
            Some(part) => Err(CatalogError::Key(part.clone())),
            None => key(format!("{}/{name}", self.folder())),
        }
    }

    /// The key of its manifest.
    ///
    /// # Errors
    /// Fails as [`BackupPlace::key`].
    pub fn manifest_key(&self) -> Result<ObjectKey, CatalogError> {
        self.key(MANIFEST)
    }
}

/// What stands for the run in the id of a backup that was imported.
pub const IMPORTED: &str = "imported";

/// Returns the id of the backup that a step of a run makes: the same for each attempt, and one part of a key.
#[must_use]
pub fn backup_id(run: &str, step: &str) -> String {
    let mut id = format!("{run}-");
    for c in step.chars() {
        match c {
            // A step of a sub-runbook; no id of a step has a dot.
            '/' => id.push('.'),
            c if c.is_ascii_alphanumeric() || "_-".contains(c) => id.push(c),
            other => id.extend(other.to_string().bytes().map(|byte| format!("={byte:02x}"))),
        }
    }
    id
}

/// Returns the folder of all backups of one kind.
#[must_use]
pub fn family(kind: &str) -> String {
    match kind {
        KIND_POSTGRES_BASE => "base".to_owned(),
        KIND_POSTGRES_DUMP => "dump".to_owned(),
        other => other.replace('.', "-"),
    }
}

/// Returns what the keys of all backups of a family begin with.
#[must_use]
pub fn family_prefix(prefix: &str, family: &str) -> String {
    match prefix {
        "" => format!("{family}/"),
        prefix => format!("{prefix}/{family}/"),
    }
}

/// Finds the prefix under which a manifest lies: what its key has before the place that it says of itself.
#[must_use]
pub(super) fn prefix_of(manifest_key: &str, manifest: &Manifest) -> Option<String> {
    let own = BackupPlace::of("", manifest).folder();
    let before = manifest_key.strip_suffix(MANIFEST)?.strip_suffix('/')?.strip_suffix(&own)?;
    match before {
        "" => Some(String::new()),
        before => before.strip_suffix('/').map(str::to_owned),
    }
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
