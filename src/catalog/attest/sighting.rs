//! What a run saw of a copy without being free to write there: it stands in the run's journal, and whoever ends the run
//! keeps it beside the copy, as a verification.
//!
//! A step that restores a backup only reads the store it lies in, and often may do no more. What it finds damaged is
//! known all the same by the time somebody chooses again.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Verification, verified};
use crate::action::{BackupHandle, Store, StoreError};
use crate::catalog::{Backup, BackupPlace, CatalogError, load};

/// The member of a note's data.
const MEMBER: &str = "sighting";

/// What was seen of one store's copy of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The copy.
    pub backup: BackupHandle,
    /// What the keys of its catalog begin with.
    pub prefix: String,
    /// What was found.
    pub verification: Verification,
}

impl Sighting {
    /// What `verification` says of a backup.
    #[must_use]
    pub fn of(backup: &Backup, verification: Verification) -> Self {
        Self { backup: backup.handle(), prefix: backup.prefix.clone(), verification }
    }

    /// The data of the note that tells it.
    #[must_use]
    pub fn data(&self) -> Value {
        json!({ MEMBER: self })
    }

    /// Reads it from the data of a note; `None` where the note tells something else.
    #[must_use]
    pub fn read(data: &Value) -> Option<Self> {
        serde_json::from_value(data.get(MEMBER)?.clone()).ok()
    }

    /// Where the copy lies in its store.
    #[must_use]
    pub fn place(&self) -> BackupPlace {
        let BackupHandle { kind, tier, id, .. } = &self.backup;
        BackupPlace::new(&self.prefix, (kind, tier.as_deref()), id)
    }

    /// Keeps it beside the copy, unless that is gone or another one by now; tells whether it did. Again is success.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn keep(&self, store: &dyn Store) -> Result<bool, CatalogError> {
        let place = self.place();
        match load(store.as_read(), &place).await {
            Ok(found) if found.digest == self.backup.manifest => {}
            Ok(_) | Err(CatalogError::Damaged { .. } | CatalogError::Store(StoreError::NotFound { .. })) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        verified(store, &place, &self.verification).await.map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Digest;
    use crate::catalog::attest::{Attested, Level, Verdict};
    use crate::catalog::{KIND_POSTGRES_BASE, Manifest};

    #[test]
    fn what_was_seen_is_read_back_from_the_note_that_tells_it() {
        let at = "2026-01-28T14:30:00Z".parse().expect("a time");
        let mut manifest = Manifest::new("b1".to_owned(), KIND_POSTGRES_BASE, "main", (at, at));
        manifest.tier = Some("daily".to_owned());
        let digest = Digest::of(b"manifest");
        let (store, prefix) = ("second".to_owned(), "main".to_owned());
        let backup = Backup { store, prefix, manifest, digest, attested: Attested::default(), missing: Vec::new() };
        let verification = Verification {
            format: 1,
            manifest: digest,
            level: Level::Digests,
            at,
            by: "run 1".to_owned(),
            read_bytes: 0,
            verdict: Verdict::Failed,
            faults: vec!["`base.tar` is damaged".to_owned()],
        };
        let sighting = Sighting::of(&backup, verification);
        assert_eq!(Sighting::read(&sighting.data()), Some(sighting.clone()));
        assert_eq!(sighting.place(), backup.place());
        assert_eq!(Sighting::read(&json!({ "faults": [] })), None);
    }
}
