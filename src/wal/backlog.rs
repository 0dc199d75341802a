//! What waits to be archived, and whether it threatens to fill the disk.
//!
//! A server keeps what it cannot archive; when the disk of `pg_wal` is full it stops. Nothing is ever dropped here: a
//! person must bring the archive back or give the disk room.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;

use crate::base::units::ByteSize;
use crate::pgformat::{ArchiverNotes, SegmentName, SegmentSize};

/// From how many waiting segments on the backlog is held against the disk's room.
const MANY: u64 = 8;
/// With room for fewer segments than this, any backlog is an alarm.
const FEW: u64 = 32;

/// The WAL of a server that waits to be archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Segments that wait.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Room left on the disk of `pg_wal`.
    pub free_bytes: u64,
    /// The size of that disk.
    pub total_bytes: u64,
}

/// What a backlog means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is room for more.
    Calm,
    /// When as much again has come, the disk is full.
    Threatening,
    /// The disk is nearly full, and the server will stop.
    Critical,
}

impl Backlog {
    /// Looks into a `pg_wal`.
    ///
    /// # Errors
    /// Fails when the folder or its disk cannot be looked at.
    pub fn of(pg_wal: &Path, size: SegmentSize) -> io::Result<Self> {
        let segments = waiting(pg_wal)?.len() as u64;
        let disk = rustix::fs::statvfs(pg_wal)?;
        Ok(Self {
            segments,
            bytes: segments * size.bytes(),
            free_bytes: disk.f_bavail * disk.f_frsize,
            total_bytes: disk.f_blocks * disk.f_frsize,
        })
    }

    /// Judges it.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        let segment = self.bytes.checked_div(self.segments).unwrap_or_default();
        if self.segments > 0 && self.free_bytes < FEW * segment {
            Pressure::Critical
        } else if self.segments >= MANY && self.free_bytes < self.bytes {
            Pressure::Threatening
        } else {
            Pressure::Calm
        }
    }

    /// The words of an alarm; `None` while there is room.
    #[must_use]
    pub fn alarm(&self) -> Option<String> {
        let word = match self.pressure() {
            Pressure::Calm => return None,
            Pressure::Threatening => "ALARM",
            Pressure::Critical => "ALARM, CRITICAL",
        };
        Some(format!("{word}: {self}; when it is full the server stops: bring the archive back, or give the disk room"))
    }
}

impl fmt::Display for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, free) = (ByteSize(self.bytes), ByteSize(self.free_bytes));
        write!(f, "{} segments ({bytes}) wait in `pg_wal`, whose disk has {free} left", self.segments)
    }
}

/// The segments that wait to be archived, in the order the server will ask for them.
///
/// # Errors
/// Fails when `archive_status` cannot be read; where there is none, nothing waits.
pub(super) fn waiting(pg_wal: &Path) -> io::Result<BTreeSet<SegmentName>> {
    let mut notes = ArchiverNotes::default();
    match std::fs::read_dir(pg_wal.join(ArchiverNotes::FOLDER)) {
        Ok(mut entries) => entries.try_for_each(|entry| entry.map(|entry| notes.take(&entry.file_name())))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(notes.waiting)
}

#[cfg(test)]
mod tests {
    use super::{Backlog, Pressure};

    fn backlog(segments: u64, free: u64) -> Backlog {
        let one = 16 << 20;
        Backlog { segments, bytes: segments * one, free_bytes: free * one, total_bytes: 10_000 * one }
    }

    #[test]
    fn a_backlog_is_held_against_the_room_that_is_left() {
        assert_eq!(backlog(0, 1).pressure(), Pressure::Calm);
        assert_eq!(backlog(7, 40).pressure(), Pressure::Calm);
        assert_eq!(backlog(100, 101).pressure(), Pressure::Calm);
        assert_eq!(backlog(100, 99).pressure(), Pressure::Threatening);
        assert_eq!(backlog(1, 31).pressure(), Pressure::Critical);
        assert!(backlog(100, 99).alarm().is_some_and(|words| words.contains("100 segments")));
        assert_eq!(backlog(3, 1000).alarm(), None);
    }
}
