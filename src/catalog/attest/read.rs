//! What was attested of a backup, read from what lies beside its manifest.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use super::verified::Verdict;
use super::{HoldNote, Proof, Verification, hold, proof, verified};
use crate::action::{ObjectFacts, ReadStore};
use crate::base::{Digest, Timestamp};
use crate::catalog::{BackupPlace, Catalog, CatalogError};

/// How many of the newest proofs and verifications are read at most to find one that passed.
const LOOK_BACK: usize = 8;

/// What was attested of one backup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attested {
    /// The hold, whether it still counts or not. One that cannot be read counts.
    pub hold: Option<HoldNote>,
    /// The newest restore that passed its checks. Whether its signature holds is for the reader to ask.
    pub last_proof: Option<Proof>,
    /// The newest restore of all, where it failed its checks: whatever passed before, the last word is that it does not.
    pub last_failed: Option<Proof>,
    /// The verification that says most: the newest failure that no later pass of at least its level took back, else the
    /// deepest pass since the last failure.
    pub last_verified: Option<Verification>,
}

impl Attested {
    /// Tells whether it must be kept now.
    #[must_use]
    pub fn is_held(&self, now: Timestamp) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.counts_at(now))
    }

    /// Tells whether a restore of it was proven: the newest word counts.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.last_proof.is_some() && self.last_failed.is_none()
    }

    /// When a restore of it was proven, unless a later one failed.
    #[must_use]
    pub fn proven_at(&self) -> Option<Timestamp> {
        self.last_proof.as_ref().filter(|_| self.last_failed.is_none()).map(|proof| proof.at)
    }

    /// Tells whether its bytes were found damaged when they were last looked at.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.last_verified.as_ref().is_some_and(|note| note.verdict == Verdict::Failed)
    }
}

/// What lies beside a manifest, by what it says.
#[derive(Debug, Default)]
pub(in crate::catalog) struct Beside<'a> {
    pub hold: Option<&'a ObjectFacts>,
    /// Newest first.
    pub proofs: Vec<&'a ObjectFacts>,
    /// Newest first.
    pub verified: Vec<&'a ObjectFacts>,
}

impl<'a> Beside<'a> {
    /// Sorts what is listed below a backup's folder.
    pub(in crate::catalog) fn of(folder: &str, listed: impl Iterator<Item = &'a ObjectFacts>) -> Self {
        let mut beside = Self::default();
        for facts in listed {
            let Some(name) = facts.key.as_str().strip_prefix(folder) else { continue };
            match name {
                hold::NAME => beside.hold = Some(facts),
                name if name.starts_with(proof::FOLDER) && name.ends_with(".json") => beside.proofs.push(facts),
                name if name.starts_with(verified::FOLDER) && name.ends_with(".json") => beside.verified.push(facts),
                _ => {}
            }
        }
        // Names begin with the time.
        beside.proofs.reverse();
        beside.verified.reverse();
        beside
    }

    /// Reads what has to be read to know what was attested of the backup with this manifest.
    pub(in crate::catalog) async fn read(
        &self,
        manifest: Digest,
        catalog: Catalog<'_>,
    ) -> Result<Attested, CatalogError> {
        let mut attested = Attested::default();
        if let Some(facts) = self.hold {
            attested.hold = Some(match note(catalog.note(facts).await)? {
                Some(hold) => hold,
                None => HoldNote::new("unknown", "`hold.json` cannot be read", facts.modified_at),
            });
        }
        for facts in self.proofs.iter().take(LOOK_BACK) {
            let found: Option<Proof> = note(catalog.note(facts).await)?;
            let Some(found) = found.filter(|proof| proof.manifest == manifest) else { continue };
            match found.verdict {
                Verdict::Passed => {
                    attested.last_proof = Some(found);
                    break;
                }
                Verdict::Failed => attested.last_failed = attested.last_failed.or(Some(found)),
            }
        }
        let mut verdicts = Verdicts::default();
        for facts in self.telling() {
            let found: Option<Verification> = note(catalog.note(facts).await)?;
            if let Some(found) = found.filter(|note| note.manifest == manifest) {
                verdicts.follow(found);
            }
        }
        attested.last_verified = verdicts.told();
        Ok(attested)
    }
}

impl<'a> Beside<'a> {
    /// The verifications that are read, oldest first: the newest ones, and the newest of each level, however many that
    /// looked at less came after it.
    fn telling(&self) -> Vec<&'a ObjectFacts> {
        let mut levels = BTreeSet::new();
        let mut read: Vec<&ObjectFacts> = Vec::new();
        for (at, facts) in self.verified.iter().enumerate() {
            if levels.insert(verified::level_of(facts.key.as_str())) || at < LOOK_BACK {
                read.push(facts);
            }
        }
        read.reverse();
        read
    }
}

/// What verifications say together, followed from the oldest to the newest.
#[derive(Debug, Default)]
struct Verdicts {
    /// Failures that no pass of at least their level came after.
    failed: Vec<Verification>,
    /// The deepest pass since the last failure.
    passed: Option<Verification>,
}

impl Verdicts {
    /// Who looked at less takes nothing back: bytes that were found damaged have their sizes.
    fn follow(&mut self, note: Verification) {
        if note.verdict == Verdict::Failed {
            self.passed = None;
            self.failed.push(note);
            return;
        }
        self.failed.retain(|failure| failure.level > note.level);
        if self.passed.as_ref().is_none_or(|best| note.level >= best.level) {
            self.passed = Some(note);
        }
    }

    fn told(mut self) -> Option<Verification> {
        self.failed.pop().or(self.passed)
    }
}

/// A note that was read; `None` for one that makes no sense.
fn note<T: DeserializeOwned>(read: Result<Vec<u8>, CatalogError>) -> Result<Option<T>, CatalogError> {
    match read {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(CatalogError::Damaged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads what was attested of one backup.
///
/// # Errors
/// Fails when the store does.
pub async fn attested(store: &dyn ReadStore, place: &BackupPlace, manifest: Digest) -> Result<Attested, CatalogError> {
    let folder = format!("{}/", place.folder());
    let listed = store.list(&folder).await?;
    Beside::of(&folder, listed.iter()).read(manifest, Catalog::of(store)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::attest::Level;

    fn told(notes: &[(Level, Verdict)]) -> Option<(Level, Verdict)> {
        let mut verdicts = Verdicts::default();
        for (second, (level, verdict)) in notes.iter().enumerate() {
            let at = Timestamp::from_second(i64::try_from(second).expect("few")).expect("a time");
            let (manifest, by, faults) = (Digest::of(b"m"), "run 1".to_owned(), Vec::new());
            let (level, verdict) = (*level, *verdict);
            verdicts.follow(Verification { format: 1, manifest, level, at, by, read_bytes: 0, verdict, faults });
        }
        verdicts.told().map(|note| (note.level, note.verdict))
    }

    #[test]
    fn a_look_at_less_takes_no_damage_back() {
        use Level::{Content, Digests, Manifest, Sizes};
        use Verdict::{Failed, Passed};
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[(Digests, Failed), (Sizes, Passed), (Manifest, Passed)]), Some((Digests, Failed)));
        assert_eq!(told(&[(Digests, Failed), (Sizes, Failed), (Sizes, Passed)]), Some((Digests, Failed)));
        assert_eq!(told(&[(Content, Passed), (Digests, Failed), (Digests, Passed)]), Some((Digests, Passed)));
        assert_eq!(told(&[(Sizes, Failed), (Content, Passed), (Sizes, Passed)]), Some((Content, Passed)));
        assert_eq!(told(&[(Content, Passed), (Sizes, Failed)]), Some((Sizes, Failed)));
    }

    #[test]
    fn damage_is_read_however_many_looks_at_less_came_after_it() {
        let names = (1..30).map(|day| format!("b/verified/202601{day:02}T020000.000000Z-sizes-00000000.json"));
        let names = std::iter::once("b/verified/20260101T000000.000000Z-digests-00000000.json".to_owned()).chain(names);
        let facts: Vec<ObjectFacts> = names.map(|name| facts(&name)).collect();
        let beside = Beside::of("b/", facts.iter());
        let read: Vec<&str> = beside.telling().iter().map(|facts| facts.key.as_str()).collect();
        assert_eq!(read.len(), LOOK_BACK + 1);
        assert!(read[0].contains("-digests-"), "{read:?}");
    }

    fn facts(key: &str) -> ObjectFacts {
        ObjectFacts::new(key.parse().expect("a key"), 1, Timestamp::UNIX_EPOCH)
    }
}
