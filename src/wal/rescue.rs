//! WAL outside the archive: rescued from the lost server, or streamed beside the base backup.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::push::verify;
use super::{Identity, WalError};
use crate::pgformat::{SegmentHeader, SegmentName, SegmentScan, WAL_PAGE_BYTES, WalFileName};

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

/// Finds a later segment of the same timeline that belongs to the cluster: then nothing before it may be
/// taken for the end of the WAL. Recycled files, whose content is not what their name says, do not count.
pub(super) fn later_rescued(
    folders: &[PathBuf],
    after: SegmentName,
    identity: &Identity,
) -> Result<Option<SegmentName>, WalError> {
    let mut latest = None;
    for folder in folders {
        let at = |source| WalError::File { operation: "list", path: folder.clone(), source };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(at(error)),
        };
        for entry in entries {
            let entry = entry.map_err(at)?;
            let Some(name) = entry.file_name().to_str().and_then(|name| name.parse::<SegmentName>().ok()) else {
                continue;
            };
            let wanted = name.timeline() == after.timeline() && name > after && Some(name) > latest;
            if wanted && belongs(&entry.path(), name, identity).map_err(at)? {
                latest = Some(name);
            }
        }
    }
    Ok(latest)
}

fn belongs(path: &Path, name: SegmentName, identity: &Identity) -> std::io::Result<bool> {
    let mut page = Vec::new();
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    file.take(WAL_PAGE_BYTES as u64).read_to_end(&mut page)?;
    let header = SegmentHeader::parse(&page).ok();
    Ok(header.is_some_and(|header| header.system_id == identity.system_id && header.check(name, length).is_ok()))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, WalError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(WalError::File { operation: "read", path: path.to_owned(), source }),
    }
}
