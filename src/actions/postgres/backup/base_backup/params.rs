//! The arguments of `postgres.base_backup`, and what it gives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::{BackupHandle, DatabaseRef, Late, StoreRef};
use crate::base::Timestamp;
use crate::base::units::ByteSize;

/// The arguments of `postgres.base_backup`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaseBackupParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// A label, kept in the backup; default `runbook RUN`.
    #[serde(default)]
    pub label: Option<String>,
    /// `fast` (default) checkpoints at once; `spread` spares the server's disks and takes minutes.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// The most that is read per second, for example `50MB`.
    #[serde(default)]
    pub max_rate: Option<ByteSize>,
    /// The stores that each get a complete copy. Default: `store` and `backup_stores` of the database.
    #[serde(default)]
    pub stores: Option<Vec<StoreRef>>,
    /// How many of them must have it in the end; those that fail beyond that are noted. Default: all.
    #[serde(default)]
    pub at_least: Option<usize>,
    /// The tier whose retention applies: `daily`, `monthly` …
    #[serde(default)]
    pub tier: Option<String>,
    /// The entry of a standby of the same cluster that the data is read from, to spare the primary.
    #[serde(default)]
    pub source: Option<DatabaseRef>,
    /// Takes only what changed since another backup, on which it then rests (PostgreSQL 17 on, with `summarize_wal`).
    /// Without any backup to rest on it is full.
    #[serde(default)]
    pub incremental: bool,
    /// The backup that an incremental one rests on. Default: the newest whole base backup.
    #[serde(default)]
    pub parent: Option<Late<BackupHandle>>,
    /// What a page with a wrong checksum does: `fail` (default) keeps no backup, `note` keeps it and records the pages.
    #[serde(default)]
    pub on_bad_page: OnBadPage,
}

/// What a page with a wrong checksum does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadPage {
    /// The step fails, and there is no backup.
    #[default]
    Fail,
    /// The backup is kept; its manifest names the pages.
    Note,
}

/// How the backup's checkpoint is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Checkpoint {
    /// At once.
    #[default]
    Fast,
    /// Spread over time.
    Spread,
}

/// The outputs of `postgres.base_backup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BaseBackupOutput {
    /// The backup.
    pub backup: BackupHandle,
    /// The bytes of its objects as they are stored.
    pub size_bytes: u64,
    /// Where replay begins.
    pub start_lsn: String,
    /// Where it is consistent.
    pub stop_lsn: String,
    /// Its timeline.
    pub timeline: u32,
    /// When it ended, by the server's clock.
    #[schemars(with = "String")]
    pub ended_at: Timestamp,
    /// Whether all WAL it needs was seen in its store; it carries a copy of its own in any case.
    pub wal_archived: bool,
    /// The backup that this one rests on; null for a full one.
    #[serde(default)]
    pub parent: Option<String>,
    /// The backup in every store that has it.
    #[serde(default)]
    pub copies: Vec<BackupHandle>,
}
