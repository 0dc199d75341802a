//! A segment of which the archive has only the beginning, and the server that goes on in it.
//!
//! A recovery that was given up had rescued it; the server was started again and writes on in the same segment. Until that is
//! archived, a listing alone takes the copy for the whole of it. Only what is noted with the objects is read here, so no key is
//! needed.

use super::WalError;
use super::packed::Source;
use super::unfinished::{Successor, Unfinished, successor};
use crate::action::StoreError;
use crate::catalog::wal_objects;
use crate::pgformat::{Lsn, SegmentName, SegmentScan, WalFileName};

/// The beginning of a segment, where no store has more of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    /// The segment.
    pub segment: SegmentName,
    /// The position up to which the archive has it.
    pub until: Lsn,
    copy: Unfinished,
}

impl Beginning {
    /// Looks at every copy of a segment; `None` where one is whole, and where there is none.
    ///
    /// # Errors
    /// Fails when a store gives no answer.
    pub async fn of(sources: &[Source<'_>], segment: SegmentName) -> Result<Option<Self>, WalError> {
        let mut longest: Option<(Unfinished, Lsn)> = None;
        for source in sources {
            let Some(size) = source.identity.segment_size else { return Ok(None) };
            let name = WalFileName::Segment(segment);
            for key in wal_objects(source.store, source.prefix, source.identity.system_id, name).await? {
                let facts = match source.store.head(&key).await {
                    Ok(facts) => facts,
                    // The whole one has just taken its place: it is listed under its own name.
                    Err(StoreError::NotFound { .. }) => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
                let Some(copy) = Unfinished::told(&facts) else { return Ok(None) };
                if longest.is_none_or(|(known, _)| known.is_shorter_than(&copy)) {
                    longest = Some((copy, copy.end(segment.start(size))));
                }
            }
        }
        Ok(longest.map(|(copy, until)| Self { segment, until, copy }))
    }

    /// Tells whether a server's own copy of the segment goes on where the archive's ends, and nobody else did: then a recovery
    /// rescues it.
    ///
    /// # Errors
    /// Fails when a store gives no answer.
    pub async fn goes_on_in(&self, sources: &[Source<'_>], own: &[u8]) -> Result<bool, WalError> {
        let Some(size) = sources.first().and_then(|source| source.identity.segment_size) else { return Ok(false) };
        if !self.copy.begins(own) || SegmentScan::of(self.segment, size, own).end <= self.until {
            return Ok(false);
        }
        for source in sources {
            let found = successor((source.store, source.prefix), &source.identity, self.segment).await?;
            if found != Successor::Nobody {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
