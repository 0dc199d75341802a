//! The record of a relation's new file (`storage_xlog.h` of PostgreSQL 13 to 18).

use super::fields::u32_at;
use super::record::WalRecord;
use super::transaction::{RelationFile, relation_file};

const RM_SMGR: u8 = 2;
const OPERATION: u8 = 0xF0;
const CREATE: u8 = 0x10;
/// The fork that holds the rows.
const MAIN: u32 = 0;

/// Reads which file of a relation a record makes; `None` for any other record, and for a file beside the rows.
#[must_use]
pub fn new_file(record: &WalRecord<'_>) -> Option<RelationFile> {
    if (record.rmid, record.info & OPERATION) != (RM_SMGR, CREATE) {
        return None;
    }
    let data = record.main_data().ok()?;
    (u32_at(data, 12)? == MAIN).then(|| relation_file(data)).flatten()
}
