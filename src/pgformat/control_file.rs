//! `global/pg_control`: the state of a cluster as its server last wrote it.

use super::fields::{i32_at, i64_at, u32_at, u64_at};
use super::lsn::{Lsn, SystemId, Timeline};
use super::page::WAL_PAGE_BYTES;
use super::segment::SegmentSize;
use super::version::{Change, Major};
use crate::base::Timestamp;

/// Why bytes are not a `pg_control` that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlFileError {
    /// Fewer bytes than the structure has.
    #[error("pg_control has only {0} bytes")]
    Short(usize),
    /// A version that is not known, or another byte order.
    #[error("pg_control version {0} is not of PostgreSQL 13 to 18 on a little-endian machine")]
    Version(u32),
    /// The checksum is wrong.
    #[error("pg_control is damaged: its checksum is {found:08X}, not {stored:08X}")]
    Checksum {
        /// The checksum of the bytes.
        found: u32,
        /// The checksum in the file.
        stored: u32,
    },
    /// A value that cannot be.
    #[error("pg_control says {0}")]
    Impossible(String),
}

/// What the server was doing when it last wrote `pg_control`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterState {
    /// Starting for the first time.
    Startup,
    /// Shut down cleanly.
    ShutDown,
    /// Shut down cleanly while in recovery.
    ShutDownInRecovery,
    /// Shutting down.
    ShuttingDown,
    /// In recovery after a crash.
    InCrashRecovery,
    /// In recovery from an archive or as a standby.
    InArchiveRecovery,
    /// Running, or it crashed while it ran.
    InProduction,
}

impl ClusterState {
    fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Startup,
            1 => Self::ShutDown,
            2 => Self::ShutDownInRecovery,
            3 => Self::ShuttingDown,
            4 => Self::InCrashRecovery,
            5 => Self::InArchiveRecovery,
            6 => Self::InProduction,
            _ => return None,
        })
    }

    /// Tells whether the server ended in order: nothing is left only in memory or half written.
    #[must_use]
    pub fn is_clean(self) -> bool {
        matches!(self, Self::ShutDown | Self::ShutDownInRecovery)
    }
}

/// Settings that a server in recovery must not have smaller than the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// `max_connections`.
    pub max_connections: i32,
    /// `max_worker_processes`.
    pub max_worker_processes: i32,
    /// `max_wal_senders`.
    pub max_wal_senders: i32,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: i32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: i32,
}

/// The content of `pg_control`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlFile {
    /// The cluster's identity.
    pub system_id: SystemId,
    /// The format: 1300 for PostgreSQL 13 to 16, 1700 for 17, 1800 for 18.
    pub control_version: u32,
    /// The catalog version, which tells the major version.
    pub catalog_version: u32,
    /// What the server was doing.
    pub state: ClusterState,
    /// When the file was written, to the second.
    pub written_at: Timestamp,
    /// The newest checkpoint's record.
    pub checkpoint: Lsn,
    /// Where replay from that checkpoint begins.
    pub redo: Lsn,
    /// The checkpoint's timeline.
    pub timeline: Timeline,
    /// When the checkpoint was taken, to the second.
    pub checkpoint_at: Timestamp,
    /// A recovery must reach this before the data is consistent; zero when none.
    pub min_recovery_point: Lsn,
    /// The timeline of that point; `None` when there is none.
    pub min_recovery_timeline: Option<Timeline>,
    /// Start of the base backup being recovered; zero when none.
    pub backup_start: Lsn,
    /// End of a base backup taken from a standby; zero when none.
    pub backup_end: Lsn,
    /// Whether recovery must still see the end-of-backup record.
    pub backup_end_required: bool,
    /// `wal_level`: 0 minimal, 1 replica, 2 logical.
    pub wal_level: i32,
    /// The settings of the server that wrote the file.
    pub limits: ServerLimits,
    /// The size of a WAL segment.
    pub segment_size: SegmentSize,
    /// The version of the data checksums; zero when they are off.
    pub data_checksum_version: u32,
}

impl ControlFile {
    /// The file's place inside a data directory.
    pub const PATH: &'static str = "global/pg_control";

    /// Tells whether a change is in the server whose data it is.
    #[must_use]
    pub fn has(&self, change: Change) -> bool {
        Major::of_catalog(self.catalog_version).is_some_and(|major| major.has(change))
    }

    /// Reads the content of the file.
    ///
    /// # Errors
    /// Fails when the version is not known, the checksum is wrong or a value cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self, ControlFileError> {
        let short = || ControlFileError::Short(bytes.len());
        let version = u32_at(bytes, 8).ok_or_else(short)?;
        let crc_at = match version {
            1300 | 1700 => 288,
            1800 => 292,
            other => return Err(ControlFileError::Version(other)),
        };
        let stored = u32_at(bytes, crc_at).ok_or_else(short)?;
        let found = crc32c::crc32c(&bytes[..crc_at]);
        if found != stored {
            return Err(ControlFileError::Checksum { found, stored });
        }
        Self::fields(bytes, version)
    }

    /// Reads the fields of a file whose length and checksum are known to be right.
    fn fields(bytes: &[u8], control_version: u32) -> Result<Self, ControlFileError> {
        let short = || ControlFileError::Short(bytes.len());
        let impossible = |what: String| ControlFileError::Impossible(what);
        let u32_of = |at| u32_at(bytes, at).ok_or_else(short);
        let i32_of = |at| i32_at(bytes, at).ok_or_else(short);
        let lsn_of = |at| u64_at(bytes, at).map(Lsn).ok_or_else(short);
        let time_of = |at| {
            let second = i64_at(bytes, at).ok_or_else(short)?;
            Timestamp::from_second(second).map_err(|_| impossible(format!("a time of {second}")))
        };
        let page = u32_of(224)?;
        if usize::try_from(page) != Ok(WAL_PAGE_BYTES) {
            return Err(impossible(format!("WAL pages of {page} bytes, which is not supported")));
        }
        let (state, size, recovery_timeline) = (u32_of(16)?, u32_of(228)?, u32_of(144)?);
        Ok(Self {
            system_id: SystemId(u64_at(bytes, 0).ok_or_else(short)?),
            control_version,
            catalog_version: u32_of(12)?,
            state: ClusterState::of(state).ok_or_else(|| impossible(format!("a state of {state}")))?,
            written_at: time_of(24)?,
            checkpoint: lsn_of(32)?,
            redo: lsn_of(40)?,
            timeline: Timeline(u32_of(48)?),
            checkpoint_at: time_of(104)?,
            min_recovery_point: lsn_of(136)?,
            min_recovery_timeline: (recovery_timeline > 0).then_some(Timeline(recovery_timeline)),
            backup_start: lsn_of(152)?,
            backup_end: lsn_of(160)?,
            backup_end_required: bytes.get(168).is_some_and(|byte| *byte != 0),
            wal_level: i32_of(172)?,
            limits: ServerLimits {
                max_connections: i32_of(180)?,
                max_worker_processes: i32_of(184)?,
                max_wal_senders: i32_of(188)?,
                max_prepared_transactions: i32_of(192)?,
                max_locks_per_transaction: i32_of(196)?,
            },
            segment_size: SegmentSize::new(size).ok_or_else(|| impossible(format!("segments of {size} bytes")))?,
            data_checksum_version: u32_of(252)?,
        })
    }
}
