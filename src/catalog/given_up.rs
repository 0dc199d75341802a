//! Timelines that were given up: a recovery opened them before the end of the WAL, and stopped their servers for good.
//!
//! Their history is in the archive by then, and stays: no later timeline may take the number. So a note beside it says that
//! nobody is to follow them. Its name alone tells which timeline, and up to where it was written: who lists the archive
//! knows. It counts as long as nobody went on behind that position.

use serde::{Deserialize, Serialize};

use super::CatalogError;
use super::backup::put;
use super::key::history_prefix;
use crate::action::{ObjectKey, PutOptions, Store, StoreError};
use crate::base::Timestamp;
use crate::pgformat::{Lsn, SystemId, Timeline};

/// What stands between the timeline and the position in the name of a note.
const MIDDLE: &str = ".given-up.";
const ENDING: &str = ".json";

/// What a note tells to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUpNote {
    /// The version of this format.
    pub format: u32,
    /// The run that gave it up.
    pub run: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: String,
}

/// A timeline that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// The timeline.
    pub timeline: Timeline,
    /// Where its server had written to when it was stopped.
    pub until: Lsn,
}

impl GivenUp {
    /// Reads the name of a note; `None` for any other name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let (timeline, until) = name.strip_suffix(ENDING)?.split_once(MIDDLE)?;
        let timeline = u32::from_str_radix(timeline, 16).ok().filter(|_| timeline.len() == 8)?;
        let until = u64::from_str_radix(until, 16).ok().filter(|_| until.len() == 16)?;
        Some(Self { timeline: Timeline(timeline), until: Lsn(until) })
    }

    fn name(self) -> String {
        format!("{}{MIDDLE}{:016X}{ENDING}", self.timeline.hex(), self.until.0)
    }

    /// Writes it down in a store. A note is never written over: a later one has a name of its own.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn note(
        self,
        store: &dyn Store,
        (prefix, system_id): (&str, SystemId),
        note: &GivenUpNote,
    ) -> Result<(), CatalogError> {
        let text = format!("{}{}", history_prefix(prefix, system_id), self.name());
        let key: ObjectKey = text.parse().map_err(|_| CatalogError::Key(text))?;
        let damaged =
            |error: serde_json::Error| CatalogError::Damaged { key: key.to_string(), what: error.to_string() };
        let options = PutOptions { if_absent: true, ..PutOptions::default() };
        match put(store, &key, serde_json::to_vec_pretty(note).map_err(damaged)?, options).await {
            // Who noted it first also said why.
            Err(CatalogError::Store(StoreError::Exists { .. })) => Ok(()),
            put => put,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_note_tells_all_and_no_other_name_is_one() {
        let given_up = GivenUp { timeline: Timeline(18), until: Lsn(0x1_0500_0148) };
        assert_eq!(given_up.name(), "00000012.given-up.0000000105000148.json");
        assert_eq!(GivenUp::of_name(&given_up.name()), Some(given_up));
        for other in ["00000012.history", "00000012.given-up.5.json", "12.given-up.0000000105000148.json"] {
            assert_eq!(GivenUp::of_name(other), None, "{other}");
        }
    }
}
