//! Headers of WAL pages, and of the first page of a segment.

use super::fields::{u16_at, u32_at, u64_at};
use super::lsn::{Lsn, SystemId, Timeline};
use super::segment::{SegmentName, SegmentSize};
use super::version::Major;

/// The size of a WAL page as every packaged PostgreSQL is built.
pub const WAL_PAGE_BYTES: usize = 8192;

/// The bytes of a header that is not the first of a segment.
const SHORT_HEADER_BYTES: usize = 24;
/// The bytes of the first header of a segment.
const LONG_HEADER_BYTES: usize = 40;

const FIRST_IS_CONTINUED: u16 = 0x0001;
const LONG_HEADER: u16 = 0x0002;
const OVERWRITES: u16 = 0x0008;
const ALL_FLAGS: u16 = 0x000F;

/// Why bytes are not a WAL page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Fewer bytes than a header.
    #[error("{0} bytes are too few for a WAL page")]
    Short(usize),
    /// A magic number of no known version.
    #[error("magic number `{0:04X}` is not WAL of PostgreSQL 13 to 18")]
    Magic(u16),
    /// Flags no version sets.
    #[error("page flags `{0:04X}` are unknown")]
    Flags(u16),
    /// The first page of a segment without the long header.
    #[error("the first page has no segment header")]
    NotFirst,
    /// A segment size PostgreSQL does not have.
    #[error("a segment size of {0} bytes is impossible")]
    SegmentSize(u32),
    /// Another page size than the usual one.
    #[error("WAL pages of {0} bytes are not supported")]
    PageSize(u32),
}

/// The header of any page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageHeader {
    /// The major version of the server that wrote it.
    pub major: Major,
    /// The timeline it was written on.
    pub timeline: Timeline,
    /// The position of its first byte.
    pub address: Lsn,
    /// Bytes of a record begun on an earlier page; zero when none is continued.
    pub continued_bytes: u32,
    /// Whether it begins with the rest of a record.
    pub continues: bool,
    /// Whether the record begun before was given up after a crash.
    pub overwrites: bool,
    /// Bytes of the header itself.
    pub header_bytes: usize,
}

impl PageHeader {
    /// Reads the header of a page.
    ///
    /// # Errors
    /// Fails when the bytes are no WAL page of a known version.
    pub fn parse(page: &[u8]) -> Result<Self, PageError> {
        let short = || PageError::Short(page.len());
        let magic = u16_at(page, 0).ok_or_else(short)?;
        let flags = u16_at(page, 2).ok_or_else(short)?;
        let timeline = u32_at(page, 4).ok_or_else(short)?;
        let address = u64_at(page, 8).ok_or_else(short)?;
        let continued_bytes = u32_at(page, 16).ok_or_else(short)?;
        let major = Major::of_wal(magic).ok_or(PageError::Magic(magic))?;
        if flags & !ALL_FLAGS != 0 {
            return Err(PageError::Flags(flags));
        }
        let header_bytes = if flags & LONG_HEADER != 0 { LONG_HEADER_BYTES } else { SHORT_HEADER_BYTES };
        if page.len() < header_bytes {
            return Err(short());
        }
        Ok(Self {
            major,
            timeline: Timeline(timeline),
            address: Lsn(address),
            continued_bytes,
            continues: flags & FIRST_IS_CONTINUED != 0,
            overwrites: flags & OVERWRITES != 0,
            header_bytes,
        })
    }
}

/// The header of a segment's first page: which cluster, timeline and position it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The page's own header.
    pub page: PageHeader,
    /// The cluster.
    pub system_id: SystemId,
    /// The segment size.
    pub segment_size: SegmentSize,
}

/// A segment that is not what its name says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentMismatch {
    /// The header belongs to another segment number.
    #[error("the header says position {found}, the name says {expected}")]
    Position {
        /// What the header says.
        found: Lsn,
        /// What the name says.
        expected: Lsn,
    },
    /// The header belongs to a younger timeline.
    #[error("the header says timeline {found}, the name says {expected}")]
    Timeline {
        /// What the header says.
        found: Timeline,
        /// What the name says.
        expected: Timeline,
    },
    /// The file is not as long as its header says.
    #[error("{found} bytes instead of {expected}")]
    Length {
        /// The file's length.
        found: u64,
        /// The segment size.
        expected: u64,
    },
}

impl SegmentHeader {
    /// Reads the first page of a segment.
    ///
    /// # Errors
    /// Fails when the bytes are not the start of a segment of a known version.
    pub fn parse(first_page: &[u8]) -> Result<Self, PageError> {
        let page = PageHeader::parse(first_page)?;
        if page.header_bytes != LONG_HEADER_BYTES {
            return Err(PageError::NotFirst);
        }
        let short = || PageError::Short(first_page.len());
        let system_id = SystemId(u64_at(first_page, 24).ok_or_else(short)?);
        let size = u32_at(first_page, 32).ok_or_else(short)?;
        let page_size = u32_at(first_page, 36).ok_or_else(short)?;
        let segment_size = SegmentSize::new(size).ok_or(PageError::SegmentSize(size))?;
        if usize::try_from(page_size) != Ok(WAL_PAGE_BYTES) {
            return Err(PageError::PageSize(page_size));
        }
        Ok(Self { page, system_id, segment_size })
    }

    /// Holds the header against the segment's name and the file's length.
    ///
    /// The header's timeline may be older than the name's: a promoted server copies the start of the
    /// segment in which its timeline began.
    ///
    /// # Errors
    /// Fails with the first thing that differs.
    pub fn check(&self, name: SegmentName, length_bytes: u64) -> Result<(), SegmentMismatch> {
        let expected = name.start(self.segment_size);
        if !name.fits(self.segment_size) || self.page.address != expected {
            return Err(SegmentMismatch::Position { found: self.page.address, expected });
        }
        if self.page.timeline > name.timeline() || self.page.timeline.0 == 0 {
            return Err(SegmentMismatch::Timeline { found: self.page.timeline, expected: name.timeline() });
        }
        if length_bytes != self.segment_size.bytes() {
            return Err(SegmentMismatch::Length { found: length_bytes, expected: self.segment_size.bytes() });
        }
        Ok(())
    }
}
