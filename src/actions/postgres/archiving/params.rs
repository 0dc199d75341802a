//! The arguments and outputs of `postgres.configure_archiving`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::apply;
use super::change::SettingChange;
use super::want::CheckpointTuning;
use crate::action::{DatabaseRef, Late, StoreRef};
use crate::base::Timestamp;
use crate::base::units::{ByteSize, Span};

/// The arguments of `postgres.configure_archiving`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigureArchivingParams {
    /// The database of the inventory; its store and prefix are where the WAL goes.
    pub database: DatabaseRef,
    /// `apply` (default) changes what differs and proves it; `plan` only tells what differs; `put_back` does nothing but that.
    #[serde(default)]
    pub mode: ArchivingMode,
    /// After how long an unfinished segment is handed over, in whole seconds. Default 1m.
    #[serde(default = "minute")]
    pub archive_timeout: Span,
    /// The most that may be lost with the machine; an `archive_timeout` that cannot keep it is refused. The `rpo`
    /// of the database in the inventory counts too, whichever is smaller.
    #[serde(default)]
    pub rpo: Option<Span>,
    /// Whether the server may be restarted, which a change of `archive_mode` or `wal_level` needs.
    #[serde(default)]
    pub restart: Restart,
    /// Whether archiving by another program may be replaced.
    #[serde(default)]
    pub foreign: Foreign,
    /// The stores that get the WAL, among them the database's own; default: its `store` and `wal_stores` of the inventory.
    #[serde(default)]
    pub stores: Option<Vec<StoreRef>>,
    /// In how many of them a segment must be safe; default: `wal_at_least` of the inventory, else all.
    #[serde(default)]
    pub at_least: Option<usize>,
    /// Connections that send WAL; a larger number stays. Default 4.
    #[serde(default)]
    pub max_wal_senders: Option<u32>,
    /// WAL that is kept for standbys that fall behind; stays as it is when left out.
    #[serde(default)]
    pub wal_keep_size: Option<ByteSize>,
    /// How checkpoints are spread; stays as it is when left out.
    #[serde(default)]
    pub checkpoint: Option<CheckpointTuning>,
    /// The folder of `wal.yaml`, its secrets and its spool. Default: `PGDATA.runbook-wal`, beside the data directory; for
    /// a container `via.compose.folder`, which is mounted there.
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// How long the first segment may take to reach the archive. Default 2m.
    #[serde(default)]
    pub within: Option<Span>,
    /// Puts settings back as the output `before` of an earlier step tells them; nothing else is done then.
    #[serde(default)]
    pub put_back: Option<Late<BTreeMap<String, Option<String>>>>,
}

impl ConfigureArchivingParams {
    /// Whether settings are put back, and nothing is set up.
    pub(super) fn puts_back(&self) -> bool {
        self.put_back.is_some() || self.mode == ArchivingMode::PutBack
    }

    /// What the inventory says of a database, and nothing else.
    pub(super) fn of(database: &str) -> Self {
        Self {
            database: DatabaseRef(database.to_owned()),
            mode: ArchivingMode::Apply,
            archive_timeout: minute(),
            rpo: None,
            restart: Restart::Refused,
            foreign: Foreign::Keep,
            stores: None,
            at_least: None,
            max_wal_senders: None,
            wal_keep_size: None,
            checkpoint: None,
            folder: None,
            within: None,
            put_back: None,
        }
    }
}

fn minute() -> Span {
    Span(Duration::from_secs(60))
}

/// Whether anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArchivingMode {
    /// What differs is changed.
    #[default]
    Apply,
    /// What differs is told.
    Plan,
    /// What `put_back` names is put back. An undo says so: a step that did not come to its end has told it nothing, and without this
    /// mode it would set archiving up.
    PutBack,
}

/// Whether the server may be restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// No: what needs one is refused.
    #[default]
    Refused,
    /// Where a change needs it.
    Allowed,
    /// Somebody else restarts it later; archiving is not proven before.
    Later,
}

/// What becomes of archiving by another program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Foreign {
    /// It stays, and the step is refused.
    #[default]
    Keep,
    /// It is replaced: backups that rely on it get no more WAL.
    Replace,
}

/// The outputs of `postgres.configure_archiving`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigureArchivingOutput {
    /// What differed from what is wanted.
    pub changed: Vec<SettingChange>,
    /// What `ALTER SYSTEM` had set before of what was changed; null where it had set nothing.
    pub before: BTreeMap<String, Option<String>>,
    /// Whether the server was restarted.
    pub restarted: bool,
    /// When it was told to stop for that.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub restarted_at: Option<Timestamp>,
    /// For how long it answered nobody then.
    #[serde(default)]
    pub down_ms: Option<u64>,
    /// Whether something counts only after a restart that is still to be made.
    pub restart_needed: bool,
    /// The server's command.
    pub archive_command: String,
    /// The configuration that the command reads.
    pub config: PathBuf,
    /// The segment that was seen in the archive; null when nothing was proven.
    pub segment: Option<String>,
}

impl ConfigureArchivingOutput {
    /// The same after a restart.
    pub(super) fn after(self, down: apply::Down) -> Self {
        let (restarted_at, down_ms) = (Some(down.since), Some(apply::millis(down.took)));
        Self { restarted: true, restart_needed: false, restarted_at, down_ms, ..self }
    }
}
