//! One WAL record: its header, its checksum, and the commit time some records carry.

use super::fields::{i64_at, u16_at, u32_at, u64_at};
use super::lsn::Lsn;
use super::transaction::{RelationFile, relation_file};
use super::version::{Change, Major};
use crate::base::Timestamp;

/// The bytes of a record's fixed header.
pub(crate) const RECORD_HEADER_BYTES: usize = 24;
/// The largest record PostgreSQL writes.
pub(crate) const MAX_RECORD_BYTES: u32 = 1020 << 20;

const CRC_AT: usize = 20;
pub(crate) const RM_XLOG: u8 = 0;
pub(crate) const RM_XACT: u8 = 1;
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

/// What the header of a block says.
struct Block {
    /// Its own bytes.
    header: usize,
    /// The bytes of data it announces.
    data: usize,
    /// The file, unless it is that of the block before.
    file: Option<RelationFile>,
}

/// The first page that a record touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FirstBlock<'a> {
    /// The file.
    pub(crate) file: RelationFile,
    /// The number of the page.
    pub(crate) number: u32,
    /// What the record says of it; empty where it has an image of the page instead.
    pub(crate) data: &'a [u8],
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
    major: Major,
    bytes: &'a [u8],
}

impl<'a> WalRecord<'a> {
    /// Reads a whole record of `bytes` at `lsn`.
    pub(crate) fn parse(bytes: &'a [u8], lsn: Lsn, end: Lsn, major: Major) -> Result<Self, RecordError> {
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

    /// Returns the major version of the server that wrote it.
    #[must_use]
    pub fn major(&self) -> Major {
        self.major
    }

    /// Returns all of its bytes.
    pub(super) fn raw(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the record's own data, behind the headers and data of the blocks it touches.
    ///
    /// # Errors
    /// Fails when the headers do not add up to the record's length.
    pub fn main_data(&self) -> Result<&'a [u8], RecordError> {
        self.blocks(&mut |_| {})
    }

    /// Returns the files of relations that it touches, each once.
    ///
    /// # Errors
    /// Fails when the headers do not add up to the record's length.
    pub fn files(&self) -> Result<Vec<RelationFile>, RecordError> {
        let mut files = Vec::new();
        self.blocks(&mut |file| {
            if !files.contains(&file) {
                files.push(file);
            }
        })?;
        Ok(files)
    }

    /// Returns the page that it touches, where that is a single one.
    pub(crate) fn first_block(&self) -> Option<FirstBlock<'a>> {
        if *self.bytes.get(RECORD_HEADER_BYTES)? != 0 {
            return None;
        }
        let block = self.block(RECORD_HEADER_BYTES)?;
        let after = RECORD_HEADER_BYTES + block.header;
        let number = u32_at(self.bytes, after.checked_sub(4)?)?;
        let main = self.main_data().ok()?;
        let end = self.bytes.len().checked_sub(main.len())?;
        // Behind an image only what was asked for all the same.
        let length = usize::from(u16_at(self.bytes, RECORD_HEADER_BYTES + 2)?);
        let data = self.bytes.get(end.checked_sub(length)?..end)?;
        Some(FirstBlock { file: block.file?, number, data })
    }

    /// Walks the headers of its blocks and returns the data behind them.
    fn blocks(&self, see: &mut dyn FnMut(RelationFile)) -> Result<&'a [u8], RecordError> {
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
                    let block = self.block(at).ok_or(RecordError::Blocks)?;
                    block.file.into_iter().for_each(&mut *see);
                    at += block.header;
                    block_bytes += block.data;
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

    /// Reads the block header at `at`.
    fn block(&self, at: usize) -> Option<Block> {
        const HAS_IMAGE: u8 = 0x10;
        const SAME_RELATION: u8 = 0x80;
        let flags = *self.bytes.get(at + 1)?;
        let mut data = usize::from(u16_at(self.bytes, at + 2)?);
        let mut header = 4;
        if flags & HAS_IMAGE != 0 {
            data += usize::from(u16_at(self.bytes, at + 4)?);
            let image = *self.bytes.get(at + 8)?;
            let compressed = if self.major.has(Change::ImageCompression) { 0x04 | 0x08 | 0x10 } else { 0x02 };
            header += if image & 0x01 != 0 && image & compressed != 0 { 7 } else { 5 };
        }
        let mut file = None;
        if flags & SAME_RELATION == 0 {
            file = Some(relation_file(self.bytes.get(at + header..)?)?);
            header += 12;
        }
        Some(Block { header: header + 4, data, file })
    }

    /// Returns when the transaction committed, if this is the record of a commit.
    #[must_use]
    pub fn committed_at(&self) -> Option<Timestamp> {
        let operation = self.info & XACT_OPERATION;
        if self.rmid != RM_XACT || !(operation == XACT_COMMIT || operation == XACT_COMMIT_PREPARED) {
            return None;
        }
        postgres_time(i64_at(self.main_data().ok()?, 0)?)
    }
}

/// A time as PostgreSQL counts: microseconds since 2000.
pub(crate) fn postgres_time(micros: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(micros.checked_add(POSTGRES_EPOCH * 1_000_000)?).ok()
}
