//! What is known of a run when it starts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Actor;
use crate::base::{Digest, RunId, StepId, Timestamp};

/// What is known when a run starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunHeader {
    /// The format of this journal.
    pub format: u32,
    /// The runbook's name.
    pub name: String,
    /// `real`, `drill` or `dry_run`.
    pub mode: crate::base::mode::Mode,
    /// The environment's name.
    pub environment: String,
    /// Who started it.
    pub actor: Actor,
    /// The engine's process.
    pub pid: u32,
    /// The host it runs on.
    pub host: String,
    /// The program's version.
    pub version: String,
    /// SHA-256 of `plan.json`.
    pub plan: Digest,
    /// When service was lost; absent when the runbook does not declare it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident_at: Option<Timestamp>,
    /// The locks it holds to its end, databases as `database:…`. Absent in journals of versions that did not write them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locks: Option<BTreeSet<String>>,
    /// The run that this one takes finished steps from, or undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<RunOrigin>,
}

/// The earlier run that a run builds on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunOrigin {
    /// That run.
    pub run: RunId,
    /// What for.
    pub purpose: OriginPurpose,
    /// When that run started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The step to begin with, or to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
    /// Why, in the words of whoever started this run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What an earlier run is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OriginPurpose {
    /// Its finished steps are not made again: `run --from STEP --of RUN`.
    Seed,
    /// It is undone: `undo RUN`.
    Undo,
    /// What it left behind is removed: `reap RUN`.
    Reap,
}
