//! What was attested of a backup, read from what lies beside its manifest.

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
    /// The verification that says most: a failed one when it is the newest, else the deepest since the last failure.
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
        for facts in self.verified.iter().take(LOOK_BACK) {
            let found: Option<Verification> = note(catalog.note(facts).await)?;
            let Some(found) = found.filter(|note| note.manifest == manifest) else { continue };
            let better = attested.last_verified.as_ref().is_none_or(|best| found.level > best.level);
            let failed = found.verdict == Verdict::Failed;
            if better && !(failed && attested.last_verified.is_some()) {
                attested.last_verified = Some(found);
            }
            if failed {
                break;
            }
        }
        Ok(attested)
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
