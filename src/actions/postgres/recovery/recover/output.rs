//! What a recovery came to.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::slot::SlotFate;
use crate::action::InstanceHandle;
use crate::base::Timestamp;
use crate::event::Coverage;

/// The outputs of `postgres.recover`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecoverOutput {
    /// The running server.
    pub instance: InstanceHandle,
    /// Whether it is open, or waits.
    #[serde(default)]
    pub state: InstanceState,
    /// Where replay ended: the position at which the new timeline began, or where it waits.
    pub recovered_to_lsn: String,
    /// How much WAL was replayed.
    #[serde(default)]
    pub replayed_bytes: Option<u64>,
    /// The newest recovered commit, by the primary's clock; null when replay saw none.
    #[schemars(with = "Option<String>")]
    pub recovered_to_time: Option<Timestamp>,
    /// All that was committed before this moment is in the data: the newest recovered commit, or the start of the backup
    /// where that is later. Null where neither is known.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub as_of: Option<Timestamp>,
    /// The new timeline; the one that is replayed where the server waits.
    pub timeline: u32,
    /// The last position the old server is known to have flushed; null when its `pg_wal` was lost.
    pub last_flushed_lsn: Option<String>,
    /// What the loss figure rests on.
    pub loss: RecoverLoss,
    /// Where the old data is kept; null when there was none.
    pub kept: Option<PathBuf>,
    /// The segment of the new timeline that was seen in the archive; null where nothing is archived, or not yet.
    #[serde(default)]
    pub archived: Option<String>,
    /// The replication slots of the old server, and what became of each.
    #[serde(default)]
    pub slots: Vec<SlotFate>,
    /// Standbys of the old server, as the backup knew them: each must be rebuilt or rewound.
    #[serde(default)]
    pub standbys: Vec<String>,
    /// Enabled subscriptions, each with its database: what their publishers had confirmed and this data lacks is not sent again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscriptions: Vec<String>,
    /// Prepared transactions that nobody has ended: they hold their locks.
    #[serde(default)]
    pub prepared: Vec<String>,
    /// Unlogged tables, the first ones of each database: every recovery leaves them empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emptied: Vec<String>,
    /// The `synchronous_standby_names` of which none is connected: every commit waits until one is. Null when commits go on.
    #[serde(default)]
    pub waits_for_standby: Option<String>,
}

/// Whether a recovered server is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// It is open, on a new timeline.
    #[default]
    Open,
    /// It waits at its target.
    Paused,
    /// It follows the archive.
    Standby,
}

/// What is known about loss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecoverLoss {
    /// `to_last_flushed`: all that was known to be flushed, or all up to the chosen target, is there.
    #[schemars(with = "String")]
    pub coverage: Coverage,
    /// The newest commit known to be recovered, else the end of the backup.
    #[schemars(with = "Option<String>")]
    pub newest_commit_at: Option<Timestamp>,
    /// In a drill: the first commit that only the live server has. Everything before it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub complete_until: Option<Timestamp>,
    /// The target, where replay ended at one; with a position, a transaction, a restore point or the end of the backup the moment
    /// that this came to.
    /// What was committed after it was given up by choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub chosen_target_at: Option<Timestamp>,
}
