//! How transactions ended, as the records of `RM_XACT` tell it (`xact.h` and `xactdesc.c` of PostgreSQL 13 to 18).

use super::fields::{i64_at, u32_at};
use super::lsn::Lsn;
use super::record::{RM_XACT, WalRecord, postgres_time};
use super::version::{Change, Major};
use crate::base::Timestamp;

const OPERATION: u8 = 0x70;
const COMMIT: u8 = 0x00;
const ABORT: u8 = 0x20;
const COMMIT_PREPARED: u8 = 0x30;
const ABORT_PREPARED: u8 = 0x40;
const HAS_INFO: u8 = 0x80;

const HAS_DATABASE: u32 = 1;
const HAS_SUBTRANSACTIONS: u32 = 1 << 1;
const HAS_DROPPED_FILES: u32 = 1 << 2;
const HAS_INVALIDATIONS: u32 = 1 << 3;
const HAS_TWO_PHASE: u32 = 1 << 4;
const HAS_DROPPED_STATISTICS: u32 = 1 << 8;

const INVALIDATION_BYTES: usize = 16;
/// The kind of statistics that belong to a relation.
const STATISTICS_OF_RELATION: u32 = 2;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It counts.
    Committed,
    /// It does not.
    Aborted,
}

/// The file of a relation: the numbers by which the WAL names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct RelationFile {
    /// The tablespace.
    pub tablespace: u32,
    /// The database; zero for what all share.
    pub database: u32,
    /// Its number, which a rewrite changes (`pg_relation_filenode`).
    pub file: u32,
}

/// A relation that ceased to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct DroppedRelation {
    /// The database.
    pub database: u32,
    /// Its identity in `pg_class`.
    pub oid: u32,
}

/// The end of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionEnd {
    /// Where the record begins.
    pub lsn: Lsn,
    /// Where the next one can begin.
    pub end: Lsn,
    /// How it ended.
    pub outcome: Outcome,
    /// The transaction; of a prepared one its own number, not that of who ended it.
    pub xid: u32,
    /// When, by the primary's clock.
    pub at: Timestamp,
    /// Transactions that ended with it.
    pub subtransactions: Vec<u32>,
    /// Files removed by it: of dropped relations, and the old ones of truncated or rewritten relations.
    pub dropped_files: Vec<RelationFile>,
    /// Relations dropped by it; `None` before PostgreSQL 15, which does not tell them from rewritten ones.
    pub dropped: Option<Vec<DroppedRelation>>,
}

impl TransactionEnd {
    /// Reads the end of a transaction; `None` for any other record, and for one that makes no sense.
    #[must_use]
    pub fn of(record: &WalRecord<'_>) -> Option<Self> {
        let outcome = match record.info & OPERATION {
            _ if record.rmid != RM_XACT => return None,
            COMMIT | COMMIT_PREPARED => Outcome::Committed,
            ABORT | ABORT_PREPARED => Outcome::Aborted,
            _ => return None,
        };
        let data = record.main_data().ok()?;
        let at = postgres_time(i64_at(data, 0)?)?;
        let (lsn, end, xid) = (record.lsn, record.end, record.xid);
        let (subtransactions, dropped_files, dropped) =
            (Vec::new(), Vec::new(), record.major().has(Change::DroppedStatistics).then(Vec::new));
        let mut ended = Self { lsn, end, outcome, xid, at, subtransactions, dropped_files, dropped };
        if record.info & HAS_INFO != 0 {
            let mut rest = Rest { data, at: 8 };
            ended.details(&mut rest, record.major())?;
        }
        Some(ended)
    }

    fn details(&mut self, rest: &mut Rest<'_>, major: Major) -> Option<()> {
        let flags = rest.number()?;
        let has = |flag: u32| flags & flag != 0;
        if has(HAS_DATABASE) {
            rest.skip(8)?;
        }
        if has(HAS_SUBTRANSACTIONS) {
            self.subtransactions = rest.list(4, |item| u32_at(item, 0))?;
        }
        if has(HAS_DROPPED_FILES) {
            self.dropped_files = rest.list(12, relation_file)?;
        }
        if has(HAS_DROPPED_STATISTICS) {
            let bytes = if major.has(Change::WideStatistics) { 16 } else { 12 };
            let items = rest.list(bytes, |item| Some((u32_at(item, 0)?, u32_at(item, 4)?, u32_at(item, 8)?)))?;
            let relations = items.into_iter().filter(|(kind, _, _)| *kind == STATISTICS_OF_RELATION);
            self.dropped = Some(relations.map(|(_, database, oid)| DroppedRelation { database, oid }).collect());
        }
        if has(HAS_INVALIDATIONS) {
            let count = rest.number()?;
            rest.skip(usize::try_from(count).ok()?.checked_mul(INVALIDATION_BYTES)?)?;
        }
        if has(HAS_TWO_PHASE) {
            self.xid = rest.number()?;
        }
        Some(())
    }
}

/// Reads a tablespace, a database and a file.
pub(crate) fn relation_file(bytes: &[u8]) -> Option<RelationFile> {
    Some(RelationFile { tablespace: u32_at(bytes, 0)?, database: u32_at(bytes, 4)?, file: u32_at(bytes, 8)? })
}

/// What of a record was not read yet.
struct Rest<'a> {
    data: &'a [u8],
    at: usize,
}

impl Rest<'_> {
    fn number(&mut self) -> Option<u32> {
        let number = u32_at(self.data, self.at)?;
        self.at += 4;
        Some(number)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.at = self.at.checked_add(bytes).filter(|at| *at <= self.data.len())?;
        Some(())
    }

    /// Reads a count and that many items.
    fn list<T>(&mut self, bytes: usize, item: impl Fn(&[u8]) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.number()?).ok()?;
        let from = self.at;
        self.skip(count.checked_mul(bytes)?)?;
        self.data[from..self.at].chunks_exact(bytes).map(item).collect()
    }
}
