//! Restore proofs: a run restored the backup and checked what came of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stamp;
use super::verified::Verdict;
use crate::action::{ObjectKey, PutOptions, ReadStore, Store};
use crate::base::{Digest, Timestamp};
use crate::catalog::backup::put;
use crate::catalog::{BackupPlace, CatalogError, ContentFacts, read_small};

/// The folder of proofs in the backup's folder.
pub(super) const FOLDER: &str = "proofs/";

/// The largest proof, hold or verification that is read.
pub(in crate::catalog) const NOTE_LIMIT: u64 = 1 << 20;

/// What a restore proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proof {
    /// The version of this format.
    pub format: u32,
    /// The backup's id.
    pub backup: String,
    /// SHA-256 of the manifest that was restored: a proof of other bytes is none.
    pub manifest: Digest,
    /// The run.
    pub run: String,
    /// `drill` or `real`.
    pub mode: String,
    /// The environment it was restored in.
    pub environment: String,
    /// When the checks ended.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// From the start of the run until then.
    pub took_ms: u64,
    /// How far the WAL was replayed, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached_lsn: Option<String>,
    /// The checks that were made, one a line.
    #[serde(default)]
    pub checks: Vec<String>,
    /// Whether all of them passed.
    pub verdict: Verdict,
    /// What a base backup holds at its end, taken by its first restore to there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<ContentFacts>,
}

/// A proof as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedProof {
    /// The key of the proof.
    pub key: ObjectKey,
    /// What it says.
    pub proof: Proof,
    /// The text that is signed.
    pub text: Vec<u8>,
    /// The signature (SSHSIG), where there is one.
    pub signature: Option<String>,
}

/// The text of a note.
pub(super) fn text(note: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(note).unwrap_or_default();
    text.push(b'\n');
    text
}

impl Proof {
    /// The text that is stored and signed.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        text(self)
    }

    /// Adds facts. Those of so many tables that nobody would read the proof any more are left out.
    #[must_use]
    pub fn with_facts(self, facts: ContentFacts) -> Self {
        let more = Self { facts: Some(facts), ..self.clone() };
        if more.text().len() as u64 <= NOTE_LIMIT { more } else { self }
    }

    fn name(&self) -> String {
        format!("{FOLDER}{}-{}.json", stamp(self.at), self.run)
    }
}

/// Writes a proof beside the manifest, its signature first. The same proof again is success.
///
/// # Errors
/// Fails when the store does.
pub async fn prove(
    store: &dyn Store,
    place: &BackupPlace,
    proof: &Proof,
    signature: Option<&str>,
) -> Result<(), CatalogError> {
    let once = || PutOptions { if_absent: true, ..PutOptions::default() };
    let name = proof.name();
    if let Some(signature) = signature {
        put(store, &place.key(&format!("{name}.sig"))?, signature.as_bytes().to_vec(), once()).await?;
    }
    put(store, &place.key(&name)?, proof.text(), once()).await
}

/// Reads every proof of a backup, oldest first.
///
/// # Errors
/// Fails when the store does, or when a proof cannot be read.
pub async fn proofs(store: &dyn ReadStore, place: &BackupPlace) -> Result<Vec<SignedProof>, CatalogError> {
    let listed = store.list(&format!("{}/{FOLDER}", place.folder())).await?;
    let mut found = Vec::new();
    for facts in listed.iter().filter(|facts| facts.key.as_str().ends_with(".json")) {
        let text = read_small(store, &facts.key, NOTE_LIMIT).await?;
        let proof = serde_json::from_slice(&text).map_err(|error| CatalogError::Damaged {
            key: facts.key.to_string(),
            what: format!("it cannot be read: {error}"),
        })?;
        let beside = listed.iter().find(|other| other.key.as_str() == format!("{}.sig", facts.key));
        let signature = match beside {
            Some(beside) => {
                Some(String::from_utf8_lossy(&read_small(store, &beside.key, NOTE_LIMIT).await?).into_owned())
            }
            None => None,
        };
        found.push(SignedProof { key: facts.key.clone(), proof, text, signature });
    }
    Ok(found)
}
