//! What a server says of its archiving.

use crate::base::Timestamp;
use crate::catalog::ArchiveSettings;
use crate::pgformat::{Lsn, SegmentSize, SystemId, Timeline, WalFileName};

/// A server's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSide {
    /// The cluster.
    pub system_id: SystemId,
    /// Its segment size.
    pub segment_size: SegmentSize,
    /// The timeline it writes, or follows.
    pub timeline: Timeline,
    /// The position up to which WAL was written or, on a standby, received.
    pub position: Lsn,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// How it archives.
    pub archiving: ArchiveSettings,
    /// What it counts.
    pub counters: Counters,
    /// Files it wants to archive and has not, oldest first.
    pub ready: Vec<Ready>,
    /// The files of `pg_wal`.
    pub wal_files: u64,
    /// Their size.
    pub wal_bytes: u64,
    /// The room of the file system with `pg_wal`, where it can be looked at.
    pub room: Option<Room>,
    /// Its clock.
    pub now: Timestamp,
}

/// What `pg_stat_archiver` shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// How many files it believes to be archived.
    pub archived: u64,
    /// The last of them.
    pub last_archived: Option<String>,
    /// When that was.
    pub last_archived_at: Option<Timestamp>,
    /// How many attempts it saw fail.
    pub failed: u64,
    /// The file of the last of them.
    pub last_failed: Option<String>,
    /// When that was.
    pub last_failed_at: Option<Timestamp>,
}

impl Counters {
    /// Whether the last attempt that is counted failed.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.last_failed_at.is_some() && self.last_failed_at > self.last_archived_at
    }
}

/// A file that waits to be archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Its name.
    pub name: WalFileName,
    /// Since when it waits.
    pub since: Timestamp,
}

/// The room of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What can still be written.
    pub free_bytes: u64,
    /// The whole of it.
    pub total_bytes: u64,
}
