//! Every store's copy of a segment, each judged by itself: a recovery takes the first that is whole, and nobody hears of
//! the others until they are needed.

use super::super::{WalError, read_file};
use super::{ClusterView, LookError, Recoverable};
use crate::action::StoreError;
use crate::base::Digest;
use crate::catalog::recovery::Archive;
use crate::pgformat::{Lsn, SegmentHeader, SegmentName, SystemId, WalFileName, WalWalker, Walked};

/// One store's copy of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentCopy {
    /// The store.
    pub store: String,
    /// What its plain bytes are, or what is wrong with them.
    pub read: Result<Content, String>,
}

/// The plain bytes of a whole copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Their SHA-256.
    pub sha256: Digest,
    /// How many.
    pub size_bytes: u64,
}

impl Recoverable {
    /// Reads every store's copy of a segment to its end; a store that has none is not told. A copy is wrong when it is not
    /// what was stored or not what its name says, when no key here opens it, and when its records end although the next
    /// segment is there.
    ///
    /// # Errors
    /// Fails when a store gives no answer.
    pub async fn copies(&self, cluster: &ClusterView, name: SegmentName) -> Result<Vec<SegmentCopy>, LookError> {
        let (archive, system_id) = (&cluster.archive, cluster.system_id);
        let next = follows(archive, name);
        let mut copies = Vec::new();
        for source in self.sources(system_id, Some(archive.size)) {
            let read = match read_file(&source, WalFileName::Segment(name)).await {
                // What lies in a folder of another program has no digest: its own content tells.
                Err(WalError::Store(StoreError::Refused { what, .. })) if self.lying => Err(what),
                Err(WalError::Damaged { what, .. }) => Err(what),
                // Nobody knows what it is: another store's copy has to do.
                Err(error) if error.is_of_key() => Err(error.to_string()),
                Err(WalError::Store(StoreError::NotFound { .. })) => continue,
                other => Ok(other?),
            };
            let read = match read {
                Ok(bytes) => judged(name, (system_id, next), bytes).await?,
                Err(why) => Err(why),
            };
            copies.push(SegmentCopy { store: source.store.name().to_owned(), read });
        }
        Ok(copies)
    }
}

/// The next segment of the same timeline, where the archive has it: then this one was written to its end.
fn follows(archive: &Archive, name: SegmentName) -> Option<SegmentName> {
    let next = SegmentName::new(name.timeline(), name.number(archive.size) + 1, archive.size);
    archive.segments.contains_key(&next).then_some(next)
}

async fn judged(
    name: SegmentName,
    (system_id, next): (SystemId, Option<SegmentName>),
    bytes: Vec<u8>,
) -> Result<Result<Content, String>, LookError> {
    let judging = tokio::task::spawn_blocking(move || {
        belongs(name, system_id, &bytes)?;
        if let (Some(next), Some(end)) = (next, breaks_off(name, &bytes)) {
            return Err(format!("{end}, though `{next}` follows"));
        }
        Ok(Content { sha256: Digest::of(&bytes), size_bytes: bytes.len() as u64 })
    });
    judging.await.map_err(|error| WalError::Usage(format!("judging a segment broke off: {error}")).into())
}

fn belongs(name: SegmentName, system_id: SystemId, bytes: &[u8]) -> Result<(), String> {
    let header = SegmentHeader::parse(bytes).map_err(|error| error.to_string())?;
    if header.system_id != system_id {
        return Err(format!("it belongs to cluster {}", header.system_id));
    }
    header.check(name, bytes.len() as u64).map_err(|error| error.to_string())
}

/// Where its records end before it does.
fn breaks_off(name: SegmentName, bytes: &[u8]) -> Option<String> {
    let size = SegmentHeader::parse(bytes).ok()?.segment_size;
    let mut walker = WalWalker::new(size);
    match walker.segment(name, bytes, &mut |_| {}) {
        Walked::ToTheEnd => None,
        Walked::Halted(halt) => {
            let end: Lsn = walker.end().unwrap_or(name.start(size));
            Some(format!("its records end at {end}: {halt}"))
        }
    }
}
