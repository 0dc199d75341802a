//! Holds: a person keeps a backup from being pruned.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::{PutOptions, Store};
use crate::base::Timestamp;
use crate::catalog::backup::put;
use crate::catalog::{BackupPlace, CatalogError};

/// The hold's name in the backup's folder.
pub(super) const NAME: &str = "hold.json";

/// Why a backup is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HoldNote {
    /// The version of this format.
    pub format: u32,
    /// Who holds it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// Until when; without it, until the hold is lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub until: Option<Timestamp>,
}

impl HoldNote {
    /// A hold that begins now.
    #[must_use]
    pub fn new(by: &str, reason: &str, since: Timestamp) -> Self {
        Self { format: 1, by: by.to_owned(), reason: reason.to_owned(), since, until: None }
    }

    /// Tells whether it still counts.
    #[must_use]
    pub fn counts_at(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Holds a backup: nothing prunes it. A hold that is there is replaced.
///
/// # Errors
/// Fails when the store does.
pub async fn hold(store: &dyn Store, place: &BackupPlace, note: &HoldNote) -> Result<(), CatalogError> {
    put(store, &place.key(NAME)?, super::proof::text(note), PutOptions::default()).await
}

/// Lifts the hold. One that is not there is no error.
///
/// # Errors
/// Fails when the store does.
pub async fn unhold(store: &dyn Store, place: &BackupPlace) -> Result<(), CatalogError> {
    Ok(store.delete(&place.key(NAME)?).await?)
}
