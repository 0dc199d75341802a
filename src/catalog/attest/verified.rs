//! Verifications: how much of a backup was read and compared, and what came of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::{PutOptions, Store};
use crate::base::{Digest, Timestamp};
use crate::catalog::backup::put;
use crate::catalog::{BackupPlace, CatalogError};

/// The folder of verifications in the backup's folder.
pub(super) const FOLDER: &str = "verified/";

/// How much of a backup is looked at; each level does what the ones before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The manifest is there and makes sense.
    Manifest,
    /// Every object is there with its size.
    Sizes,
    /// Every stored byte was read and has its digest.
    #[default]
    Digests,
    /// Every object was decrypted and decompressed, and what is inside can be listed.
    Content,
}

impl Level {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Sizes => "sizes",
            Self::Digests => "digests",
            Self::Content => "content",
        }
    }
}

/// Whether it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything was as it must be.
    Passed,
    /// Something was not.
    Failed,
}

/// One verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// The version of this format.
    pub format: u32,
    /// SHA-256 of the manifest that was verified.
    pub manifest: Digest,
    /// How much was looked at.
    pub level: Level,
    /// When it ended.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Who asked for it: a run, or a person.
    pub by: String,
    /// The bytes that were read.
    pub read_bytes: u64,
    /// Whether everything held.
    pub verdict: Verdict,
    /// What did not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

impl Verification {
    /// Tells whether at least this much of the backup held.
    #[must_use]
    pub fn holds(&self, level: Level) -> bool {
        self.verdict == Verdict::Passed && self.level >= level
    }
}

/// Writes a verification beside the manifest.
///
/// # Errors
/// Fails when the store does.
pub async fn verified(store: &dyn Store, place: &BackupPlace, note: &Verification) -> Result<(), CatalogError> {
    let text = super::proof::text(note);
    put(store, &place.key(&name(note, &text))?, text, PutOptions::default()).await
}

/// Names begin with the time and sort by it, also after those of earlier versions, which knew whole seconds; two of one
/// moment differ by what they say.
fn name(note: &Verification, text: &[u8]) -> String {
    let at = note.at.strftime("%Y%m%dT%H%M%S%.6fZ");
    format!("{FOLDER}{at}-{}-{}.json", note.level.as_str(), &Digest::of(text).short()[..8])
}

/// The word for the level in such a name; all that cannot be read are of one level.
pub(super) fn level_of(key: &str) -> &str {
    let name = key.rsplit('/').next().unwrap_or_default();
    name.trim_end_matches(".json").split('-').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Level, Verdict, Verification, name};
    use crate::base::{Digest, Timestamp};

    fn note(at: &str, verdict: Verdict) -> Verification {
        let at: Timestamp = at.parse().expect("a time");
        let (manifest, by) = (Digest::of(b"m"), "run 1".to_owned());
        Verification { format: 1, manifest, level: Level::Content, at, by, read_bytes: 1, verdict, faults: Vec::new() }
    }

    fn named(at: &str, verdict: Verdict) -> String {
        let note = note(at, verdict);
        name(&note, &serde_json::to_vec(&note).expect("a note"))
    }

    #[test]
    fn two_verifications_of_one_second_or_one_moment_are_two_and_the_later_one_sorts_last() {
        let (early, late) = ("2026-01-28T14:30:02.000001Z", "2026-01-28T14:30:02.9Z");
        assert!(named(early, Verdict::Failed) < named(late, Verdict::Passed));
        assert!(named(late, Verdict::Passed) < named("2026-01-28T14:30:03Z", Verdict::Passed));
        assert_ne!(named(late, Verdict::Failed), named(late, Verdict::Passed));
        assert!(named(late, Verdict::Passed).as_str() < "verified/20260128T143002Z-content.json");
        assert!("verified/20260128T143001Z-content.json" < named(early, Verdict::Passed).as_str());
    }
}
