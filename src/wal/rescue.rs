//! WAL outside the archive: rescued from the lost server, or streamed beside the base backup.

use std::path::{Path, PathBuf};

use super::push::verify;
use super::{Identity, WalError};
use crate::pgformat::{SegmentScan, WalFileName};

/// A file found in a rescue folder that is what its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RescuedSegment {
    /// Where it was found.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// For a segment: how far its records are valid.
    pub scan: Option<SegmentScan>,
}

impl RescuedSegment {
    /// Tells whether it is whole: a segment whose records go on into the next, or any other file.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.scan.as_ref().is_none_or(|scan| scan.halt.is_none())
    }
}

/// Looks for a file in the folders, in order; the first that is what its name says and is whole wins, else
/// the one whose valid WAL reaches furthest.
///
/// # Errors
/// Fails when a folder cannot be read. Files that belong elsewhere are passed over.
pub fn read_rescued(
    folders: &[PathBuf],
    name: WalFileName,
    identity: &Identity,
) -> Result<Option<RescuedSegment>, WalError> {
    let mut best: Option<RescuedSegment> = None;
    for folder in folders {
        let path = folder.join(name.to_string());
        let Some(bytes) = read(&path)? else { continue };
        if verify(name, &bytes, identity).is_err() {
            continue;
        }
        let scan = match (name, identity.segment_size) {
            (WalFileName::Segment(segment), Some(size)) => Some(SegmentScan::of(segment, size, &bytes)),
            (WalFileName::Segment(_), None) => continue,
            (WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. }, _) => None,
        };
        let found = RescuedSegment { path, bytes, scan };
        if found.is_whole() {
            return Ok(Some(found));
        }
        let reach = |segment: &RescuedSegment| segment.scan.as_ref().map(|scan| scan.end);
        if best.as_ref().is_none_or(|best| reach(best) < reach(&found)) {
            best = Some(found);
        }
    }
    Ok(best)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, WalError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(WalError::File { operation: "read", path: path.to_owned(), source }),
    }
}
