//! The manifest: what a bundle claims.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::{Digest, EventSeq, RunId, Timestamp};
use crate::event::Outcome;

/// The version of the bundle's format.
pub(super) const FORMAT: u32 = 1;

/// What a bundle claims to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this format.
    pub format: u32,
    /// The run.
    pub run: RunId,
    /// The runbook's name.
    pub name: String,
    /// How the run ended; absent for one that has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Whether it has ended.
    pub finished: bool,
    /// The time of its last event, and of every member.
    pub at: Timestamp,
    /// SHA-256 of `plan.json`.
    pub plan: Digest,
    /// The number of its last event.
    pub seq: EventSeq,
    /// The hash of its last event.
    pub head: Digest,
    /// The version of the program that made the bundle.
    pub program: String,
    /// Files of the run that are too large for a bundle, with their sizes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
    /// Every other member.
    pub members: BTreeMap<String, Member>,
}

impl Manifest {
    /// The one text it is written as.
    ///
    /// # Errors
    /// Fails when it cannot be written as JSON, which nothing in it causes.
    pub(super) fn text(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

/// One member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its size.
    pub size_bytes: u64,
    /// Its content.
    pub sha256: Digest,
}
