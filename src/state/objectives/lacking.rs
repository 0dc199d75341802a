//! Stores that did not get their copy of a backup, as the notes of the steps tell it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::state::StepState;

/// A store that lacks backups which others have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LackingStore {
    /// The store.
    pub store: String,
    /// How many backups of the step it lacks.
    pub backups: usize,
    /// Why it did not get the first of them.
    pub why: String,
}

impl LackingStore {
    /// Says it in a few words.
    #[must_use]
    pub fn words(&self) -> String {
        let what = match self.backups {
            1 => "the backup".to_owned(),
            count => format!("{count} backups"),
        };
        format!("store `{}` lacks {what}: {}", self.store, self.why)
    }
}

/// The stores that did not get what the step's last attempt brought into others, each once, as the member `lacking` of its
/// notes says. What an earlier attempt did not reach, a later one may have.
#[must_use]
pub fn lacking(known: &StepState) -> Vec<LackingStore> {
    let began = known.attempts.last().map(|attempt| attempt.started_at);
    let of_last = known.notes.iter().filter(|(at, _, _)| began.is_none_or(|began| *at >= began));
    let mut by_store: BTreeMap<String, LackingStore> = BTreeMap::new();
    for (store, why) in of_last.filter_map(|(_, _, data)| read(data.get("lacking")?)) {
        let first = || LackingStore { store: store.clone(), backups: 0, why };
        by_store.entry(store.clone()).or_insert_with(first).backups += 1;
    }
    by_store.into_values().collect()
}

fn read(note: &Value) -> Option<(String, String)> {
    Some((note.get("store")?.as_str()?.to_owned(), note.get("why")?.as_str()?.to_owned()))
}
