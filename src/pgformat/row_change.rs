//! What records do to the rows of tables (`heapam_xlog.h`).

use super::fields::u16_at;
use super::record::WalRecord;

const RM_HEAP2: u8 = 9;
const RM_HEAP: u8 = 10;
const OPERATION: u8 = 0x70;

/// What was done to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowVerb {
    /// They were added.
    Insert,
    /// They got other values.
    Update,
    /// They were removed.
    Delete,
    /// All of a table were removed; told only where WAL is made for logical decoding.
    Truncate,
}

/// A change of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowChange {
    /// What was done.
    pub verb: RowVerb,
    /// To how many of them.
    pub rows: u64,
}

impl RowChange {
    /// Reads the change that a record makes; `None` for one that changes no rows.
    #[must_use]
    pub fn of(record: &WalRecord<'_>) -> Option<Self> {
        let one = |verb| Some(Self { verb, rows: 1 });
        match (record.rmid, record.info & OPERATION) {
            (RM_HEAP, 0x00) => one(RowVerb::Insert),
            (RM_HEAP, 0x10) => one(RowVerb::Delete),
            (RM_HEAP, 0x20 | 0x40) => one(RowVerb::Update),
            (RM_HEAP, 0x30) => one(RowVerb::Truncate),
            (RM_HEAP2, 0x50) => {
                let rows = u64::from(u16_at(record.main_data().ok()?, 2)?);
                Some(Self { verb: RowVerb::Insert, rows })
            }
            _ => None,
        }
    }
}
