//! Records that people and recoveries orient themselves by (`pg_control.h`, `xlog_internal.h`, `dbcommands_xlog.h`).

use super::fields::{i64_at, u32_at, u64_at};
use super::lsn::{Lsn, Timeline};
use super::record::{RM_XLOG, WalRecord, postgres_time};
use super::version::Change;
use crate::base::Timestamp;

const RM_DBASE: u8 = 4;
const OPERATION: u8 = 0xF0;
const CHECKPOINT_SHUTDOWN: u8 = 0x00;
const CHECKPOINT_ONLINE: u8 = 0x10;
const RESTORE_POINT: u8 = 0x70;
const END_OF_RECOVERY: u8 = 0x90;

/// The longest name of a restore point.
const NAME_BYTES: usize = 64;
/// Where a checkpoint's time stands, in seconds since 1970.
const CHECKPOINT_TIME_AT: usize = 64;

/// What a record marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landmark {
    /// A restore point that somebody named.
    RestorePoint {
        /// Its name.
        name: String,
        /// When it was made, by the primary's clock.
        at: Timestamp,
    },
    /// A checkpoint.
    Checkpoint {
        /// Where replay from it begins.
        redo: Lsn,
        /// When it began.
        at: Timestamp,
    },
    /// A timeline began: a server was promoted.
    Promotion {
        /// The timeline.
        timeline: Timeline,
        /// The one it left.
        left: Timeline,
        /// When, by the clock of the server that was promoted.
        at: Timestamp,
    },
    /// A whole database was dropped.
    DatabaseDropped {
        /// Its identity in `pg_database`.
        oid: u32,
    },
}

impl Landmark {
    /// Reads what a record marks; `None` for one that marks nothing, or makes no sense.
    #[must_use]
    pub fn of(record: &WalRecord<'_>) -> Option<Self> {
        let operation = record.info & OPERATION;
        match (record.rmid, operation) {
            (RM_XLOG, RESTORE_POINT) => restore_point(record.main_data().ok()?),
            (RM_XLOG, END_OF_RECOVERY) => promotion(record.main_data().ok()?),
            (RM_XLOG, CHECKPOINT_SHUTDOWN | CHECKPOINT_ONLINE) => checkpoint(record.main_data().ok()?),
            (RM_DBASE, 0x10) if !record.major().has(Change::DatabaseByWal) => dropped(record.main_data().ok()?),
            (RM_DBASE, 0x20) if record.major().has(Change::DatabaseByWal) => dropped(record.main_data().ok()?),
            _ => None,
        }
    }
}

fn restore_point(data: &[u8]) -> Option<Landmark> {
    let name = data.get(8..)?.split(|byte| *byte == 0).next()?;
    let name = String::from_utf8_lossy(&name[..name.len().min(NAME_BYTES)]).into_owned();
    Some(Landmark::RestorePoint { name, at: postgres_time(i64_at(data, 0)?)? })
}

fn promotion(data: &[u8]) -> Option<Landmark> {
    let (timeline, left) = (Timeline(u32_at(data, 8)?), Timeline(u32_at(data, 12)?));
    Some(Landmark::Promotion { timeline, left, at: postgres_time(i64_at(data, 0)?)? })
}

/// A server that ends its recovery without being asked to promote writes a checkpoint that names both timelines.
fn checkpoint(data: &[u8]) -> Option<Landmark> {
    let at = Timestamp::from_second(i64_at(data, CHECKPOINT_TIME_AT)?).ok()?;
    let (timeline, left) = (Timeline(u32_at(data, 8)?), Timeline(u32_at(data, 12)?));
    if timeline != left {
        return Some(Landmark::Promotion { timeline, left, at });
    }
    Some(Landmark::Checkpoint { redo: Lsn(u64_at(data, 0)?), at })
}

fn dropped(data: &[u8]) -> Option<Landmark> {
    Some(Landmark::DatabaseDropped { oid: u32_at(data, 0)? })
}
