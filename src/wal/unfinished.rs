//! The archived copy of a segment that was still being written.
//!
//! A recovery archives the last segment of the lost server as far as its records are proven. When the recovery is given up and
//! that server is started again, it goes on in this very segment: what it archives then begins with all that the copy proves.
//! So the copy says how far it goes, and only the segment that goes on from there may take its place.

use std::collections::BTreeMap;
use std::io::Read as _;

use super::push::WalFile;
use super::{Identity, WalError};
use crate::action::{ObjectFacts, ReadStore};
use crate::base::Digest;
use crate::catalog::{wal_branches, wal_objects};
use crate::pgformat::{Lsn, SegmentName, SegmentScan, Timeline, WalFileName};

const BYTES: &str = "unfinished-bytes";
const SHA256: &str = "unfinished-sha256";

/// How far the records of a copy are proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfinished {
    /// How many bytes from its start.
    bytes: u64,
    /// SHA-256 of these bytes.
    sha256: Digest,
}

impl Unfinished {
    /// Looks at a file; `None` when it is no segment, or one that the next goes on from. Blocking.
    pub(super) fn of(file: &WalFile, identity: &Identity) -> Result<Option<Self>, WalError> {
        let (WalFileName::Segment(segment), Some(size)) = (file.name, identity.segment_size) else { return Ok(None) };
        let mut plain = Vec::new();
        file.open()?.take(size.bytes()).read_to_end(&mut plain).map_err(|source| file.unread(source))?;
        let scan = SegmentScan::of(segment, size, &plain);
        let proven = scan.end.0.saturating_sub(scan.start.0);
        let prefix = usize::try_from(proven).ok().and_then(|bytes| plain.get(..bytes));
        Ok(scan
            .halt
            .and(prefix)
            .filter(|prefix| !prefix.is_empty())
            .map(|prefix| Self { bytes: proven, sha256: Digest::of(prefix) }))
    }

    /// What an object's metadata tell.
    pub(super) fn told(facts: &ObjectFacts) -> Option<Self> {
        let bytes = facts.metadata.get(BYTES)?.parse().ok()?;
        Some(Self { bytes, sha256: facts.metadata.get(SHA256)?.parse().ok()? })
    }

    /// Writes it into an object's metadata.
    pub(super) fn tell(&self, metadata: &mut BTreeMap<String, String>) {
        metadata.insert(BYTES.to_owned(), self.bytes.to_string());
        metadata.insert(SHA256.to_owned(), self.sha256.to_string());
    }

    /// Tells whether it proves nothing behind so many bytes from the segment's start.
    pub(super) fn ends_by(&self, bytes: u64) -> bool {
        self.bytes <= bytes
    }

    /// Tells where it ends in a segment that begins at a position.
    pub(super) fn end(&self, start: Lsn) -> Lsn {
        Lsn(start.0.saturating_add(self.bytes))
    }

    /// Tells whether a segment's bytes begin with all that the copy proves.
    pub(super) fn begins(&self, segment: &[u8]) -> bool {
        let prefix = usize::try_from(self.bytes).ok().and_then(|bytes| segment.get(..bytes));
        prefix.is_some_and(|prefix| Digest::of(prefix) == self.sha256)
    }

    /// Tells whether another copy of the segment proves more.
    pub(super) fn is_shorter_than(&self, other: &Self) -> bool {
        self.bytes < other.bytes
    }

    /// Tells whether a file begins with all that the copy proves. Blocking.
    pub(super) fn goes_on_in(&self, file: &WalFile) -> Result<bool, WalError> {
        let mut prefix = Vec::new();
        file.open()?.take(self.bytes).read_to_end(&mut prefix).map_err(|source| file.unread(source))?;
        Ok(self.begins(&prefix))
    }
}

/// Who else may have gone on where a copy ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Successor {
    /// Nobody.
    Nobody,
    /// Another timeline: whoever still writes on this one is a server that a finished recovery, or a standby, has taken the
    /// place of.
    Timeline(Timeline),
    /// It cannot be told.
    Untold,
}

/// Tells which timeline went on from this one by the end of a segment. One that was given up does not count, as long as
/// nobody has gone on with it.
pub(super) async fn successor(
    (store, prefix): (&dyn ReadStore, &str),
    identity: &Identity,
    segment: SegmentName,
) -> Result<Successor, WalError> {
    let (Some(size), system_id) = (identity.segment_size, identity.system_id) else { return Ok(Successor::Untold) };
    let mut archive = wal_branches(store, prefix, (system_id, size)).await?;
    for (timeline, until) in archive.given_up.clone() {
        let last = SegmentName::new(timeline, size.number_of(until), size);
        for key in wal_objects(store, prefix, system_id, WalFileName::Segment(last)).await? {
            // Whole, it was archived by a server that had gone on behind the note.
            let proven = Unfinished::told(&store.head(&key).await?).map_or(size.bytes(), |copy| copy.bytes);
            if last.start(size).0 + proven > until.0 {
                archive.given_up.remove(&timeline);
            }
        }
    }
    Ok(match archive.successor(segment.timeline()) {
        Some((timeline, at)) if at <= segment.end(size) => Successor::Timeline(timeline),
        Some(_) | None => Successor::Nobody,
    })
}
