//! Copies of backups that steps found damaged on their way, as their notes tell it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::state::StepState;

/// A store's copy of a backup that a step found damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedCopy {
    /// The backup.
    pub backup: String,
    /// The store.
    pub store: String,
    /// What is wrong with it, in the words of who read it.
    pub faults: Vec<String>,
}

impl DamagedCopy {
    /// Says it in a few words.
    #[must_use]
    pub fn words(&self) -> String {
        format!("the copy of backup `{}` in store `{}` is damaged", self.backup, self.store)
    }
}

/// The copies that a step found damaged, each once, as the member `sighting` of its notes says. It may have succeeded all
/// the same: by another store's copy.
#[must_use]
pub fn damaged(known: &StepState) -> Vec<DamagedCopy> {
    let seen = known.notes.iter().filter_map(|(_, _, data)| read(data.get("sighting")?));
    let by_copy: BTreeMap<(String, String), DamagedCopy> =
        seen.map(|copy| ((copy.store.clone(), copy.backup.clone()), copy)).collect();
    by_copy.into_values().collect()
}

fn read(sighting: &Value) -> Option<DamagedCopy> {
    let verification = sighting.get("verification")?;
    if verification.get("verdict")?.as_str()? != "failed" {
        return None;
    }
    let backup = sighting.get("backup")?;
    let faults = verification.get("faults").and_then(Value::as_array).into_iter().flatten();
    Some(DamagedCopy {
        backup: backup.get("id")?.as_str()?.to_owned(),
        store: backup.get("store")?.as_str()?.to_owned(),
        faults: faults.filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}
