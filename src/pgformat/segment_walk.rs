//! One segment walked as its bytes come, in pieces of any size: nobody has to hold it whole.

use super::lsn::Lsn;
use super::page::WAL_PAGE_BYTES;
use super::record::WalRecord;
use super::segment::SegmentName;
use super::walker::{Halt, WalWalker, Walked};

/// A segment on its way through a [`WalWalker`]. Keeps less than a page of it, and what a record has on earlier pages.
#[derive(Debug)]
pub struct SegmentWalk {
    walker: WalWalker,
    name: SegmentName,
    /// The address of the page that comes next; `None` behind the last that counts.
    next: Result<Option<Lsn>, Halt>,
    /// The beginning of a page whose rest has not come.
    part: Vec<u8>,
}

impl SegmentWalk {
    /// Goes on with a walk in the segment that follows, or begins one.
    #[must_use]
    pub fn new(mut walker: WalWalker, name: SegmentName) -> Self {
        let next = walker.begin(name);
        Self { walker, name, next, part: Vec::new() }
    }

    /// Walks the next bytes and gives each valid record to `see`. What comes behind a halt is not looked at.
    pub fn take(&mut self, mut bytes: &[u8], see: &mut dyn FnMut(&WalRecord<'_>)) {
        if !self.part.is_empty() {
            let missing = (WAL_PAGE_BYTES - self.part.len()).min(bytes.len());
            let (rest, behind) = bytes.split_at(missing);
            self.part.extend_from_slice(rest);
            bytes = behind;
            if self.part.len() < WAL_PAGE_BYTES {
                return;
            }
            let mut page = std::mem::take(&mut self.part);
            self.page(&page, see);
            page.clear();
            self.part = page;
        }
        let mut pages = bytes.chunks_exact(WAL_PAGE_BYTES);
        for page in pages.by_ref() {
            self.page(page, see);
        }
        self.part.extend_from_slice(pages.remainder());
    }

    fn page(&mut self, page: &[u8], see: &mut dyn FnMut(&WalRecord<'_>)) {
        if let Ok(Some(address)) = self.next {
            self.next = self.walker.next(self.name, (address, page), see);
        }
    }

    /// Says where and why the records of what came so far end before the segment does: after the position, if one was
    /// whole. `None` for a segment whose records lead to its end.
    #[must_use]
    pub fn halt(&self) -> Option<(Option<Lsn>, Halt)> {
        let halt = match &self.next {
            Ok(None) => return None,
            Ok(Some(_)) => Halt::Short,
            Err(halt) => halt.clone(),
        };
        Some((self.walker.end(), halt))
    }

    /// Ends the segment: what has not come is missing. Gives the walk back for the segment that follows.
    #[must_use]
    pub fn finish(mut self) -> (WalWalker, Walked) {
        let walked = self.walker.close(self.next);
        (self.walker, walked)
    }
}
