//! What one segment holds: how far it is valid, and its newest commit.

use super::lsn::Lsn;
use super::segment::{SegmentName, SegmentSize};
use super::walker::{Halt, WalWalker, Walked};
use crate::base::Timestamp;

/// The content of a segment by itself. A record that goes on in the next segment is not counted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentScan {
    /// Where the first record that starts here begins.
    pub first_record: Option<Lsn>,
    /// The position after the last valid record that is whole here; the segment's start when there is none.
    pub end: Lsn,
    /// Valid records that are whole here.
    pub records: u64,
    /// The newest commit, by the primary's clock.
    pub newest_commit: Option<Timestamp>,
    /// Why valid WAL ends inside the segment; `None` when it goes on to the next.
    pub halt: Option<Halt>,
}

impl SegmentScan {
    /// Walks a segment.
    #[must_use]
    pub fn of(name: SegmentName, size: SegmentSize, bytes: &[u8]) -> Self {
        let mut walker = WalWalker::new(size);
        let mut records = 0;
        let mut newest_commit = None;
        let walked = walker.segment(name, bytes, &mut |record| {
            records += 1;
            newest_commit = newest_commit.max(record.committed_at());
        });
        let halt = match walked {
            Walked::ToTheEnd => None,
            Walked::Halted(halt) => Some(halt),
        };
        let end = walker.end().unwrap_or_else(|| name.start(size));
        Self { first_record: walker.first(), end, records, newest_commit, halt }
    }
}
