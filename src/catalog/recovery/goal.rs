//! Where a recovery is to end.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::Timestamp;
use crate::pgformat::Lsn;

/// Where a recovery is to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// At the end of the archived WAL.
    Newest,
    /// As soon as the backup is consistent.
    Immediate,
    /// At the last commit not after a time.
    Time(Timestamp),
    /// At a position, included.
    Lsn(Lsn),
    /// At a named restore point.
    Name(String),
    /// After the commit of a transaction.
    Xid(u64),
}

/// Whether what happened at the goal itself is recovered (manual, `recovery_target_inclusive`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// Up to it and with it.
    #[default]
    Included,
    /// Up to just before it.
    Excluded,
}

impl Edge {
    /// Tells whether a server that is to end at the time `at` replays what was committed at `committed`.
    #[must_use]
    pub fn takes(self, committed: Timestamp, at: Timestamp) -> bool {
        match self {
            Self::Included => committed <= at,
            Self::Excluded => committed < at,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("the end of the archived WAL"),
            Self::Immediate => f.write_str("the end of the backup"),
            Self::Time(at) => write!(f, "`{at}`"),
            Self::Lsn(lsn) => write!(f, "`{lsn}`"),
            Self::Name(name) => write!(f, "the restore point `{name}`"),
            Self::Xid(xid) => write!(f, "the commit of transaction {xid}"),
        }
    }
}

/// The number of a transaction as the WAL has it: `txid_current()` counts on where that begins anew.
#[must_use]
pub fn without_epoch(xid: u64) -> u32 {
    u32::try_from(xid & u64::from(u32::MAX)).unwrap_or_default()
}
