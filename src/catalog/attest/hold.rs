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

    /// Lists the holds that count, newest first: one put on top ends none before it.
    pub fn counting(&self, now: Timestamp) -> impl Iterator<Item = &HoldNote> {
        std::iter::once(self).chain(self.before.iter().rev()).filter(move |note| note.is_open(now))
    }

    /// The hold that lasts longest of those that count.
    #[must_use]
    pub fn lasting(&self, now: Timestamp) -> Option<&HoldNote> {
        self.counting(now).max_by_key(|note| (note.until.is_none(), note.until))
    }

    /// Tells whether any still counts.
    #[must_use]
    pub fn counts_at(&self, now: Timestamp) -> bool {
        self.counting(now).next().is_some()
    }

    /// Whether this one, without those before it, was not lifted and has not ended.
    fn is_open(&self, now: Timestamp) -> bool {
        self.lifted.is_none() && self.until.is_none_or(|until| now < until)
    }

    /// Ends the newest that counts, on record; gives it as it was.
    fn lift(&mut self, lifted: &Lifted) -> Option<HoldNote> {
        let is_open = |note: &Self| note.is_open(lifted.at);
        let note = if is_open(self) { self } else { self.before.iter_mut().rev().find(|note| is_open(note))? };
        let was = HoldNote { before: Vec::new(), ..note.clone() };
        (note.until, note.lifted) = (Some(lifted.at), Some(lifted.clone()));
        Some(was)
    }
}

/// Holds a backup: nothing prunes it. A hold that is there goes on to count; the same again is no other.
///
/// # Errors
/// Fails when the store does.
pub async fn hold(store: &dyn Store, place: &BackupPlace, note: &HoldNote) -> Result<(), CatalogError> {
    let mut note = note.clone();
    let known = current(store, place).await?;
    let is_same = |one: &HoldNote| (&one.by, &one.reason, one.until) == (&note.by, &note.reason, note.until);
    if known.as_ref().is_some_and(|known| known.counting(note.since).any(is_same)) {
        return Ok(());
    }
    note.before = known.map(on_record).unwrap_or_default();
    put(store, &place.key(NAME)?, super::proof::text(&note), PutOptions::default()).await
}

/// What lifting a hold came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unheld {
    /// The hold that was lifted.
    pub hold: HoldNote,
    /// The holds that still count, newest first.
    pub left: Vec<HoldNote>,
}

/// Lifts the newest hold that counts, on record; `None` where none does.
///
/// # Errors
/// Fails when the store does.
pub async fn unhold(store: &dyn Store, place: &BackupPlace, lifted: &Lifted) -> Result<Option<Unheld>, CatalogError> {
    let Some(mut note) = current(store, place).await? else { return Ok(None) };
    let Some(hold) = note.lift(lifted) else { return Ok(None) };
    put(store, &place.key(NAME)?, super::proof::text(&note), PutOptions::default()).await?;
    let left = note.counting(lifted.at).map(|one| HoldNote { before: Vec::new(), ..one.clone() }).collect();
    Ok(Some(Unheld { hold, left }))
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

#[cfg(test)]
mod tests {
    use super::{HoldNote, Lifted, on_record};
    use crate::base::Timestamp;

    fn day(day: i64) -> Timestamp {
        Timestamp::from_second(day * 86_400).expect("a time")
    }

    /// A hold for good, and one on top of it that ends on day 5.
    fn two() -> HoldNote {
        let for_good = HoldNote::new("legal", "case 4711", day(1));
        HoldNote { until: Some(day(5)), before: on_record(for_good), ..HoldNote::new("ops", "test", day(2)) }
    }

    fn reasons(note: &HoldNote, now: i64) -> Vec<&str> {
        note.counting(day(now)).map(|one| one.reason.as_str()).collect()
    }

    #[test]
    fn a_hold_that_ends_leaves_the_one_before_it() {
        assert_eq!(reasons(&two(), 3), ["test", "case 4711"]);
        assert_eq!(two().lasting(day(3)).map(|one| one.reason.as_str()), Some("case 4711"));
        assert_eq!(reasons(&two(), 6), ["case 4711"]);
        assert!(two().counts_at(day(6000)));
    }

    #[test]
    fn one_that_is_lifted_leaves_the_one_before_it_and_the_next_lift_ends_that() {
        let lifted = |at: i64| Lifted { by: "ops".to_owned(), reason: "over".to_owned(), at: day(at) };
        let mut note = two();
        assert_eq!(note.lift(&lifted(3)).map(|was| was.reason).as_deref(), Some("test"));
        assert_eq!(reasons(&note, 3), ["case 4711"]);
        assert_eq!(note.lift(&lifted(4)).map(|was| was.reason).as_deref(), Some("case 4711"));
        assert!(!note.counts_at(day(4)) && note.lift(&lifted(4)).is_none());
        assert!(note.before[0].lifted.is_some() && note.lifted.is_some(), "both stay on record");
    }
}
