//! Opaque typed outputs that travel from step to step: no paths or addresses a runbook could fake.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Digest, RunId};

/// One backup of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupHandle {
    /// The database it was taken of.
    pub database: String,
    /// The store it lies in.
    pub store: String,
    /// Its id within the database's prefix.
    pub id: String,
    /// Its kind, for example `postgres.base`.
    pub kind: String,
    /// Its tier, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// SHA-256 of its manifest: the very backup that was chosen, or the step fails.
    pub manifest: Digest,
    /// The manifest itself, where none lies in the store: the backup is another program's, used where it lies, unproven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub described: Option<String>,
}

/// A backup that is extracted and verified beside the live data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StagedHandle {
    /// The database it is for.
    pub database: String,
    /// The backup.
    pub backup: BackupHandle,
    /// Where it lies; must be the place computed at bind.
    pub dir: PathBuf,
}

/// A running server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceHandle {
    /// The database it serves.
    pub database: String,
    /// Its data directory; must be the place computed at bind.
    pub pgdata: PathBuf,
    /// The folder of its socket, where it listens on one.
    pub socket: Option<PathBuf>,
    /// Its port.
    pub port: u16,
    /// The name of a side instance of the database: it lies in the run's scratch folder, whatever the database's own place is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<String>,
    /// What it waits for while it is in recovery; absent when it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
    /// The run whose recovery it waits in, which `--from` hands to another one; absent when it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub run: Option<RunId>,
}

/// What a server in recovery waits for. It can be read; it opens when it is promoted, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Waits {
    /// Replay is paused: for somebody who looks, then promotes or goes on to a later target.
    Paused,
    /// Replay goes on as WAL arrives: for its promotion.
    Standby,
}
