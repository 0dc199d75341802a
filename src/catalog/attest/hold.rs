//! Holds: a person keeps a backup from being pruned.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::{PutOptions, Store, StoreError};
use crate::base::Timestamp;
use crate::catalog::backup::put;
use crate::catalog::{BackupPlace, CatalogError, read_small};

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
    /// Who lifted it, when and why; `until` is that time then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted: Option<Lifted>,
    /// The holds before this one, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<HoldNote>,
}

/// How a hold ended by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lifted {
    /// Who lifted it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
}

impl HoldNote {
    /// A hold that begins now.
    #[must_use]
    pub fn new(by: &str, reason: &str, since: Timestamp) -> Self {
        Self {
            format: 1,
            by: by.to_owned(),
            reason: reason.to_owned(),
            since,
            until: None,
            lifted: None,
            before: Vec::new(),
        }
    }

    /// Tells whether it still counts.
    #[must_use]
    pub fn counts_at(&self, now: Timestamp) -> bool {
        self.lifted.is_none() && self.until.is_none_or(|until| now < until)
    }
}

/// Holds a backup: nothing prunes it. A hold that is there is replaced, and kept on record.
///
/// # Errors
/// Fails when the store does.
pub async fn hold(store: &dyn Store, place: &BackupPlace, note: &HoldNote) -> Result<(), CatalogError> {
    let mut note = note.clone();
    note.before = current(store, place).await?.map(on_record).unwrap_or_default();
    put(store, &place.key(NAME)?, super::proof::text(&note), PutOptions::default()).await
}

/// Lifts the hold, on record; tells whether there was one. Earlier versions of this program see one that has ended.
///
/// # Errors
/// Fails when the store does.
pub async fn unhold(store: &dyn Store, place: &BackupPlace, lifted: &Lifted) -> Result<bool, CatalogError> {
    let Some(note) = current(store, place).await?.filter(|note| note.counts_at(lifted.at)) else { return Ok(false) };
    let note = HoldNote { until: Some(lifted.at), lifted: Some(lifted.clone()), ..note };
    put(store, &place.key(NAME)?, super::proof::text(&note), PutOptions::default()).await?;
    Ok(true)
}

/// The hold that is there. One that cannot be read counts as one that nobody knows more of.
async fn current(store: &dyn Store, place: &BackupPlace) -> Result<Option<HoldNote>, CatalogError> {
    let unreadable = || HoldNote::new("unknown", "`hold.json` cannot be read", Timestamp::UNIX_EPOCH);
    match read_small(store.as_read(), &place.key(NAME)?, super::NOTE_LIMIT).await {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).unwrap_or_else(|_| unreadable()))),
        Err(CatalogError::Damaged { .. }) => Ok(Some(unreadable())),
        Err(CatalogError::Store(StoreError::NotFound { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A hold behind those before it.
fn on_record(mut note: HoldNote) -> Vec<HoldNote> {
    let mut all = std::mem::take(&mut note.before);
    all.push(note);
    all
}
