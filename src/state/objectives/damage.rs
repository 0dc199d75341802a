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

/// The copies that a step found damaged, each once, as the member `sighting` of its notes says: of each level at which a
/// copy was looked at, the last word counts. It may have succeeded all the same: by another store's copy.
#[must_use]
pub fn damaged(known: &StepState) -> Vec<DamagedCopy> {
    let mut by_level: BTreeMap<(String, String, String), Option<DamagedCopy>> = BTreeMap::new();
    for seen in known.notes.iter().filter_map(|(_, _, data)| read(data.get("sighting")?)) {
        by_level.insert(
            (seen.copy.store.clone(), seen.copy.backup.clone(), seen.level),
            seen.has_failed.then_some(seen.copy),
        );
    }
    let failed = by_level.into_iter().filter_map(|((store, backup, _), copy)| Some(((store, backup), copy?)));
    failed.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// One look at a copy.
struct Seen {
    copy: DamagedCopy,
    level: String,
    has_failed: bool,
}

fn read(sighting: &Value) -> Option<Seen> {
    let verification = sighting.get("verification")?;
    let backup = sighting.get("backup")?;
    let faults = verification.get("faults").and_then(Value::as_array).into_iter().flatten();
    let copy = DamagedCopy {
        backup: backup.get("id")?.as_str()?.to_owned(),
        store: backup.get("store")?.as_str()?.to_owned(),
        faults: faults.filter_map(Value::as_str).map(str::to_owned).collect(),
    };
    let level = verification.get("level").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(Seen { copy, level, has_failed: verification.get("verdict")?.as_str()? == "failed" })
}
