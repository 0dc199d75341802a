//! One WAL record: its header, its checksum, and the commit time some records carry.

use super::fields::{i64_at, u16_at, u32_at, u64_at};
use super::lsn::Lsn;
use crate::base::Timestamp;

/// The bytes of a record's fixed header.
pub(crate) const RECORD_HEADER_BYTES: usize = 24;
/// The largest record PostgreSQL writes.
pub(crate) const MAX_RECORD_BYTES: u32 = 1020 << 20;

const CRC_AT: usize = 20;
const RM_XLOG: u8 = 0;
const RM_XACT: u8 = 1;
const XLOG_SWITCH: u8 = 0x40;
const XACT_OPERATION: u8 = 0x70;
const XACT_COMMIT: u8 = 0x00;
const XACT_COMMIT_PREPARED: u8 = 0x30;
/// Seconds from 1970 to 2000, where PostgreSQL counts from.
const POSTGRES_EPOCH: i64 = 946_684_800;

/// Why bytes are not a valid record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A length no record has.
    #[error("a record of {0} bytes is impossible")]
    Length(u32),
    /// The checksum is wrong.
    #[error("a record's checksum is wrong")]
    Checksum,
    /// The link to the record before it is wrong.
    #[error("a record's link to its predecessor is wrong")]
    Prev,
    /// The headers of its blocks make no sense.
    #[error("the headers of a record's blocks make no sense")]
    Blocks,
}

/// A record whose checksum was found right.
#[derive(Debug, Clone, Copy)]
pub struct WalRecord<'a> {
    /// Where it begins.
    pub lsn: Lsn,
    /// Where the next record can begin.
    pub end: Lsn,
    /// Where the record before it began.
    pub prev: Lsn,
    /// The transaction, zero when none.
    pub xid: u32,
    /// Which part of the server wrote it.
    pub rmid: u8,
    /// What that part says about it.
    pub info: u8,
    major: u16,
    bytes: &'a [u8],
}

impl<'a> WalRecord<'a> {
    /// Reads a whole record of `bytes` at `lsn`.
    pub(crate) fn parse(bytes: &'a [u8], lsn: Lsn, end: Lsn, major: u16) -> Result<Self, RecordError> {
        let length = u32_at(bytes, 0).unwrap_or_default();
        let wrong = RecordError::Length(length);
        if bytes.len() < RECORD_HEADER_BYTES || usize::try_from(length) != Ok(bytes.len()) {
            return Err(wrong);
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[RECORD_HEADER_BYTES..]), &bytes[..CRC_AT]);
        if u32_at(bytes, CRC_AT) != Some(crc) {
            return Err(RecordError::Checksum);
        }
        Ok(Self {
            lsn,
            end,
            prev: Lsn(u64_at(bytes, 8).ok_or(wrong)?),
            xid: u32_at(bytes, 4).ok_or(wrong)?,
            rmid: bytes[17],
            info: bytes[16],
            major,
            bytes,
        })
    }

    /// Tells whether the rest of the segment after this record is empty.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.rmid == RM_XLOG && self.info & 0xF0 == XLOG_SWITCH
    }

    /// Returns the record's own data, behind the headers and data of the blocks it touches.
    ///
    /// # Errors
    /// Fails when the headers do not add up to the record's length.
    pub fn main_data(&self) -> Result<&'a [u8], RecordError> {
        let mut at = RECORD_HEADER_BYTES;
        let mut block_bytes = 0;
        while self.bytes.len().saturating_sub(at) > block_bytes {
            match *self.bytes.get(at).ok_or(RecordError::Blocks)? {
                255 => {
                    let length = usize::from(*self.bytes.get(at + 1).ok_or(RecordError::Blocks)?);
                    return self.last(at + 2 + block_bytes, length);
                }
                254 => {
                    let length = u32_at(self.bytes, at + 1).and_then(|n| usize::try_from(n).ok());
                    return self.last(at + 5 + block_bytes, length.ok_or(RecordError::Blocks)?);
                }
                253 => at += 3,
                252 => at += 5,
                0..=32 => {
                    let (header, data) = self.block(at).ok_or(RecordError::Blocks)?;
                    at += header;
                    block_bytes += data;
                }
                33..=251 => return Err(RecordError::Blocks),
            }
        }
        if self.bytes.len() == at + block_bytes { Ok(&[]) } else { Err(RecordError::Blocks) }
    }

    /// Returns the last `length` bytes, which must begin at `from`.
    fn last(&self, from: usize, length: usize) -> Result<&'a [u8], RecordError> {
        let data = self.bytes.get(from..).ok_or(RecordError::Blocks)?;
        if data.len() == length { Ok(data) } else { Err(RecordError::Blocks) }
    }

    /// Returns the bytes of the block header at `at`, and of the data it announces.
    fn block(&self, at: usize) -> Option<(usize, usize)> {
        const HAS_IMAGE: u8 = 0x10;
        const SAME_RELATION: u8 = 0x80;
        let flags = *self.bytes.get(at + 1)?;
        let mut data = usize::from(u16_at(self.bytes, at + 2)?);
        let mut header = 4;
        if flags & HAS_IMAGE != 0 {
            data += usize::from(u16_at(self.bytes, at + 4)?);
            let image = *self.bytes.get(at + 8)?;
            let compressed = if self.major <= 14 { 0x02 } else { 0x04 | 0x08 | 0x10 };
            header += if image & 0x01 != 0 && image & compressed != 0 { 7 } else { 5 };
        }
        if flags & SAME_RELATION == 0 {
            header += 12;
        }
        Some((header + 4, data))
    }

    /// Returns when the transaction committed, if this is the record of a commit.
    #[must_use]
    pub fn committed_at(&self) -> Option<Timestamp> {
        let operation = self.info & XACT_OPERATION;
        if self.rmid != RM_XACT || !(operation == XACT_COMMIT || operation == XACT_COMMIT_PREPARED) {
            return None;
        }
        let micros = i64_at(self.main_data().ok()?, 0)?;
        Timestamp::from_microsecond(micros.checked_add(POSTGRES_EPOCH * 1_000_000)?).ok()
    }
}
