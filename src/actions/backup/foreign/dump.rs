//! A dated dump.

use super::Reader;
use super::name::file;
use crate::action::{ActionError, ObjectKey};
use crate::base::Timestamp;
use crate::catalog::{KIND_POSTGRES_DUMP, Manifest, ManifestObject, ObjectRole, backup_id};

/// A dump that another program made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignDump {
    /// Where it lies.
    pub key: ObjectKey,
    /// Its size.
    pub size_bytes: u64,
    /// What its name has before the time: most often the database.
    pub name: String,
    /// When it was taken, as its name says, in UTC.
    pub taken_at: Timestamp,
}

impl ForeignDump {
    /// Reads all of it and describes it as a backup of `source`.
    ///
    /// # Errors
    /// Fails when the store does, when none of the keys fits, and when it is damaged.
    pub async fn describe(&self, reader: &Reader<'_>, source: &str) -> Result<Manifest, ActionError> {
        let (found, ()) = reader.read(&self.key, |_| Ok(())).await?;
        let file = file(self.key.as_str());
        let object = ManifestObject::new(file, found.stored.size_bytes, found.stored.sha256, ObjectRole::Dump);
        let plain = (!found.encoding.is_plain()).then_some(found.plain.into());
        let object = ManifestObject { encoding: found.encoding, plain, key: Some(self.key.to_string()), ..object };
        Ok(Manifest {
            objects: vec![object],
            label: Some(format!("imported from {}", self.key)),
            ..Manifest::new(backup_id("imported", file), KIND_POSTGRES_DUMP, source, (self.taken_at, self.taken_at))
        })
    }
}
