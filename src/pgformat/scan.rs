//! What one segment holds: how far it is valid, and its newest commit.

use super::lsn::Lsn;
use super::record::WalRecord;
use super::segment::{SegmentName, SegmentSize};
use super::transaction::TransactionEnd;
use super::walker::{Halt, WalWalker, Walked};
use crate::base::Timestamp;

/// A commit in the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Where its record begins.
    pub lsn: Lsn,
    /// The transaction.
    pub xid: u32,
    /// When, by the primary's clock.
    pub at: Timestamp,
}

impl Commit {
    /// Reads the commit that a record is; `None` for any other.
    #[must_use]
    pub fn of(record: &WalRecord<'_>) -> Option<Self> {
        let at = record.committed_at()?;
        let xid = TransactionEnd::of(record).map_or(record.xid, |end| end.xid);
        Some(Self { lsn: record.lsn, xid, at })
    }
}

/// The content of a segment by itself. A record that goes on in the next segment is not counted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentScan {
    /// Where the segment begins.
    pub start: Lsn,
    /// Where the first record that starts here begins.
    pub first_record: Option<Lsn>,
    /// The position after the last valid record that is whole here; the segment's start when there is none.
    pub end: Lsn,
    /// Valid records that are whole here.
    pub records: u64,
    /// The newest commit, by the primary's clock.
    pub newest_commit: Option<Timestamp>,
    /// The first commit that begins here.
    pub first_commit: Option<Commit>,
    /// The last commit that begins here.
    pub last_commit: Option<Commit>,
    /// Where the last record begins.
    pub last_record: Option<Lsn>,
    /// Why valid WAL ends inside the segment; `None` when it goes on to the next.
    pub halt: Option<Halt>,
}

impl SegmentScan {
    /// Walks a segment.
    #[must_use]
    pub fn of(name: SegmentName, size: SegmentSize, bytes: &[u8]) -> Self {
        let mut walker = WalWalker::new(size);
        let start = name.start(size);
        let mut scan = Self {
            start,
            first_record: None,
            end: start,
            records: 0,
            newest_commit: None,
            first_commit: None,
            last_commit: None,
            last_record: None,
            halt: None,
        };
        let walked = walker.segment(name, bytes, &mut |record| scan.see(record));
        if let Walked::Halted(halt) = walked {
            scan.halt = Some(halt);
        }
        scan.end = walker.end().unwrap_or(start);
        scan.first_record = walker.first();
        scan
    }

    /// Tells whether two copies of a segment prove the same records as far as both go: one of them may be cut short.
    #[must_use]
    pub fn agree((ours, own): (&Self, &[u8]), (theirs, other): (&Self, &[u8])) -> bool {
        let shared = ours.end.min(theirs.end).0.saturating_sub(ours.start.0);
        let shared = usize::try_from(shared).unwrap_or(usize::MAX);
        matches!((own.get(..shared), other.get(..shared)), (Some(own), Some(other)) if own == other)
    }

    /// Where the last record up to the segment's end begins: the last of its own, else one that began before it.
    #[must_use]
    pub fn last_position(&self) -> Lsn {
        self.last_record.unwrap_or(Lsn(self.start.0.saturating_sub(1)))
    }

    fn see(&mut self, record: &WalRecord<'_>) {
        self.records += 1;
        self.last_record = Some(record.lsn);
        if let Some(commit) = Commit::of(record) {
            self.newest_commit = self.newest_commit.max(Some(commit.at));
            self.first_commit.get_or_insert(commit);
            self.last_commit = Some(commit);
        }
    }
}
