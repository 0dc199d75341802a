//! Walks WAL from segment to segment, record by record, up to the first byte that is not valid.

use super::fields::{u32_at, u64_at};
use super::lsn::{Lsn, Timeline};
use super::page::{PageError, PageHeader, WAL_PAGE_BYTES};
use super::record::{MAX_RECORD_BYTES, RECORD_HEADER_BYTES, RecordError, WalRecord};
use super::segment::{SegmentName, SegmentSize};
use super::version::Major;

/// Why valid WAL ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// Zeros where a record would begin: the usual end of a segment that is being written.
    #[error("nothing is written there")]
    Unwritten,
    /// No WAL page of a known version.
    #[error("the page is not valid")]
    Page(#[source] PageError),
    /// A page that belongs elsewhere: a recycled segment not yet overwritten.
    #[error("the page belongs to position {0}")]
    Address(Lsn),
    /// A page of a timeline that does not fit.
    #[error("the page belongs to timeline {0}")]
    Timeline(Timeline),
    /// A page that does not go on with the record begun before it.
    #[error("a record breaks off at the end of a page")]
    Torn,
    /// A record that is not valid.
    #[error("the record is not valid")]
    Record(#[source] RecordError),
    /// Fewer bytes than a segment has.
    #[error("the segment is cut short")]
    Short,
    /// A segment that does not follow the one before.
    #[error("segment `{0}` does not follow")]
    NotNext(SegmentName),
}

/// How far one segment was walked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walked {
    /// To its end: the next segment goes on.
    ToTheEnd,
    /// Valid WAL ends here.
    Halted(Halt),
}

/// A record of which only the beginning was seen.
#[derive(Debug, Clone)]
struct Begun {
    lsn: Lsn,
    length: usize,
    bytes: Vec<u8>,
}

/// The state between two segments.
#[derive(Debug, Clone)]
pub struct WalWalker {
    size: SegmentSize,
    next: Option<Lsn>,
    timeline: Timeline,
    begun: Option<Begun>,
    /// The buffer of the last record that went over a page: the next one takes it.
    spare: Vec<u8>,
    last: Option<Lsn>,
    first: Option<Lsn>,
    end: Option<Lsn>,
    switched: bool,
    halted: Option<Halt>,
}

impl WalWalker {
    /// A walk that begins with the first record that starts in the first segment given.
    #[must_use]
    pub fn new(size: SegmentSize) -> Self {
        Self {
            size,
            next: None,
            timeline: Timeline(0),
            begun: None,
            spare: Vec::new(),
            last: None,
            first: None,
            end: None,
            switched: false,
            halted: None,
        }
    }

    /// Returns where the first record began.
    #[must_use]
    pub fn first(&self) -> Option<Lsn> {
        self.first
    }

    /// Returns the position after the last valid record; `None` before any was seen.
    #[must_use]
    pub fn end(&self) -> Option<Lsn> {
        self.end
    }

    /// Walks the next segment and gives each valid record to `see`. After a halt every call repeats it.
    pub fn segment(&mut self, name: SegmentName, bytes: &[u8], see: &mut dyn FnMut(&WalRecord<'_>)) -> Walked {
        let next = self.pages(name, bytes, see);
        self.close(next)
    }

    fn pages(
        &mut self,
        name: SegmentName,
        bytes: &[u8],
        see: &mut dyn FnMut(&WalRecord<'_>),
    ) -> Result<Option<Lsn>, Halt> {
        let mut next = self.begin(name)?;
        for page in bytes.chunks_exact(WAL_PAGE_BYTES) {
            let Some(address) = next else { break };
            next = self.next(name, (address, page), see)?;
        }
        Ok(next)
    }

    /// Says how far a segment was walked of which no more comes. A halt is remembered.
    pub(super) fn close(&mut self, next: Result<Option<Lsn>, Halt>) -> Walked {
        let halt = match next {
            Ok(None) => return Walked::ToTheEnd,
            Ok(Some(_)) => Halt::Short,
            Err(halt) => halt,
        };
        self.halted = Some(halt.clone());
        Walked::Halted(halt)
    }

    /// Begins a segment. Gives the address of its first page; after a halt, that halt.
    pub(super) fn begin(&mut self, name: SegmentName) -> Result<Option<Lsn>, Halt> {
        if let Some(halt) = &self.halted {
            return Err(halt.clone());
        }
        let start = name.start(self.size);
        if self.next.is_some_and(|next| next != start) {
            return Err(Halt::NotNext(name));
        }
        self.switched = false;
        Ok(Some(start))
    }

    /// Walks the page at an address. Gives that of the next one; `None` behind the last that counts.
    pub(super) fn next(
        &mut self,
        name: SegmentName,
        (address, page): (Lsn, &[u8]),
        see: &mut dyn FnMut(&WalRecord<'_>),
    ) -> Result<Option<Lsn>, Halt> {
        let end = name.end(self.size);
        let header = PageHeader::parse(page).map_err(|error| match page.iter().all(|byte| *byte == 0) {
            true => Halt::Unwritten,
            false => Halt::Page(error),
        })?;
        if header.address != address {
            return Err(Halt::Address(header.address));
        }
        if header.timeline < self.timeline || header.timeline > name.timeline() {
            return Err(Halt::Timeline(header.timeline));
        }
        self.timeline = header.timeline;
        self.page(&header, page, see)?;
        if self.switched {
            self.end = Some(end);
        }
        let following = address.plus(WAL_PAGE_BYTES as u64);
        if self.switched || following >= end {
            self.next = Some(end);
            return Ok(None);
        }
        Ok(Some(following))
    }

    /// Walks one page whose header fits.
    fn page(&mut self, header: &PageHeader, page: &[u8], see: &mut dyn FnMut(&WalRecord<'_>)) -> Result<(), Halt> {
        let Some(mut at) = self.continued(header, page, see)? else { return Ok(()) };
        while !self.switched && at + 8 <= page.len() {
            let lsn = header.address.plus(at as u64);
            let length = u32_at(page, at).unwrap_or_default();
            if length == 0 {
                return Err(Halt::Unwritten);
            }
            let bytes = usize::try_from(length).unwrap_or(usize::MAX);
            if bytes < RECORD_HEADER_BYTES || length > MAX_RECORD_BYTES {
                return Err(Halt::Record(RecordError::Length(length)));
            }
            let here = &page[at..];
            if here.len() >= 16 {
                self.check_prev(Lsn(u64_at(here, 8).unwrap_or_default()), lsn)?;
            }
            if bytes > here.len() {
                let mut begun = std::mem::take(&mut self.spare);
                begun.clear();
                begun.extend_from_slice(here);
                self.begun = Some(Begun { lsn, length: bytes, bytes: begun });
                return Ok(());
            }
            at = aligned(at + bytes);
            self.accept(&here[..bytes], lsn, header.address.plus(at as u64), header.major, see)?;
        }
        Ok(())
    }

    /// Handles the rest of a record begun on an earlier page. Returns where the first new record is, or
    /// `None` when the page holds no new one.
    fn continued(
        &mut self,
        header: &PageHeader,
        page: &[u8],
        see: &mut dyn FnMut(&WalRecord<'_>),
    ) -> Result<Option<usize>, Halt> {
        let from = header.header_bytes;
        let announced = usize::try_from(header.continued_bytes).unwrap_or(usize::MAX);
        let Some(mut begun) = self.begun.take() else {
            if !header.continues {
                return Ok(Some(from));
            }
            if self.last.is_some() {
                return Err(Halt::Torn);
            }
            let at = aligned(from.saturating_add(announced));
            return Ok((at < page.len()).then_some(at));
        };
        if !header.continues {
            // A server that crashed inside the record marks the next page and overwrites it.
            return if header.overwrites { Ok(Some(from)) } else { Err(Halt::Torn) };
        }
        let missing = begun.length - begun.bytes.len();
        if announced != missing {
            return Err(Halt::Torn);
        }
        let take = missing.min(page.len() - from);
        begun.bytes.extend_from_slice(&page[from..from + take]);
        if take < missing {
            self.begun = Some(begun);
            return Ok(None);
        }
        let at = aligned(from + take);
        let end = header.address.plus(at as u64);
        self.accept(&begun.bytes, begun.lsn, end, header.major, see)?;
        self.spare = begun.bytes;
        Ok(Some(at))
    }

    fn check_prev(&self, prev: Lsn, lsn: Lsn) -> Result<(), Halt> {
        if prev < lsn && self.last.is_none_or(|last| last == prev) {
            return Ok(());
        }
        Err(Halt::Record(RecordError::Prev))
    }

    fn accept(
        &mut self,
        bytes: &[u8],
        lsn: Lsn,
        end: Lsn,
        major: Major,
        see: &mut dyn FnMut(&WalRecord<'_>),
    ) -> Result<(), Halt> {
        let record = WalRecord::parse(bytes, lsn, end, major).map_err(Halt::Record)?;
        self.check_prev(record.prev, lsn)?;
        self.first.get_or_insert(lsn);
        self.last = Some(lsn);
        self.end = Some(end);
        self.switched = record.is_switch();
        see(&record);
        Ok(())
    }
}

/// Rounds up to the eight bytes that records are aligned to.
fn aligned(at: usize) -> usize {
    at.saturating_add(7) & !7
}
