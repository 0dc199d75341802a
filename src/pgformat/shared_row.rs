//! What `DROP DATABASE` does to the row of a database (`dropdb` in `dbcommands.c`).
//!
//! The row is marked invalid in place first, at once and for good whatever becomes of the transaction; then it is deleted
//! as rows are. Of the tables that all databases share only `pg_database` has rows that are overwritten in place.

use super::fields::{i32_at, u16_at, u32_at};
use super::record::WalRecord;
use super::version::{Change, Major};

const RM_HEAP: u8 = 10;
const OPERATION: u8 = 0x70;
const DELETE: u8 = 0x10;
const INPLACE: u8 = 0x70;
/// The tablespace `pg_global`.
const GLOBAL: u32 = 1664;
/// What `datconnlimit` is in the row of a database whose drop has begun.
const INVALID: i32 = -2;
/// Where the row's number stands in the data of a deletion, behind the transaction's.
const ITEM_OF_DELETE_AT: usize = 4;
/// Where `datconnlimit` stands: behind the two locales while those were of fixed length.
const LIMIT_AT: usize = 80;
const LIMIT_BEHIND_LOCALES_AT: usize = 208;

/// Where a row of a shared table lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowPlace {
    file: u32,
    block: u32,
    item: u16,
}

/// What was written over the row of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwritten {
    /// The database of this number is being dropped.
    Invalid(u32),
    /// Something else.
    Valid,
    /// The record has an image of the page in place of the row.
    Untold,
}

/// What a record does to a row of a shared table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedRow {
    /// It is overwritten in place: it is one of `pg_database`.
    InPlace(RowPlace, Overwritten),
    /// It is deleted.
    Deleted(RowPlace),
}

impl SharedRow {
    /// Reads what a record does; `None` for anything else, and for one that makes no sense.
    #[must_use]
    pub fn of(record: &WalRecord<'_>) -> Option<Self> {
        let item_at = match record.info & OPERATION {
            _ if record.rmid != RM_HEAP => return None,
            DELETE => ITEM_OF_DELETE_AT,
            INPLACE => 0,
            _ => return None,
        };
        let first = record.first_block()?;
        if (first.file.tablespace, first.file.database) != (GLOBAL, 0) {
            return None;
        }
        let item = u16_at(record.main_data().ok()?, item_at)?;
        let place = RowPlace { file: first.file.file, block: first.number, item };
        Some(match record.info & OPERATION {
            DELETE => Self::Deleted(place),
            _ => Self::InPlace(place, overwritten(first.data, record.major())),
        })
    }
}

fn overwritten(row: &[u8], major: Major) -> Overwritten {
    let at = if major.has(Change::LocaleProvider) { LIMIT_AT } else { LIMIT_BEHIND_LOCALES_AT };
    match (u32_at(row, 0), i32_at(row, at)) {
        (Some(oid), Some(INVALID)) => Overwritten::Invalid(oid),
        (Some(_), Some(_)) => Overwritten::Valid,
        (None, _) | (_, None) => Overwritten::Untold,
    }
}
