//! What the content of a WAL file proves by itself.

use crate::pgformat::{
    Halt, PageHeader, SegmentHeader, SegmentName, SegmentScan, SystemId, WalFileName, WalWalker, Walked,
};
use crate::wal::push::verify;
use crate::wal::{Identity, WalError};

/// Holds a file against its name and, for a segment, against the cluster and its own checksums.
///
/// # Errors
/// Fails when it is not what its name says, is another cluster's, or its records do not lead to its end.
pub(super) fn prove(name: WalFileName, bytes: &[u8], expected: Option<SystemId>) -> Result<(), WalError> {
    let segment = match name {
        WalFileName::Segment(segment) => Some(segment),
        WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. } => None,
    };
    let header = SegmentHeader::parse(bytes).ok();
    // Files that are no segments do not say whose they are, and nobody asks them.
    let system_id = expected.or(header.map(|header| header.system_id)).unwrap_or(SystemId(0));
    verify(name, bytes, &Identity { system_id, segment_size: header.map(|header| header.segment_size) })?;
    let (Some(segment), Some(header)) = (segment, header) else { return Ok(()) };
    match SegmentScan::of(segment, header.segment_size, bytes) {
        SegmentScan { halt: Some(halt), end, .. } => {
            Err(WalError::Damaged { name, what: format!("its WAL breaks off at {end}: {halt}") })
        }
        SegmentScan { halt: None, .. } => Ok(()),
    }
}

/// Whether a segment goes on with a record that began in the one before it.
pub(super) fn is_continued(segment: &[u8]) -> bool {
    PageHeader::parse(segment).is_ok_and(|header| header.continues)
}

/// Holds the record that crosses from one proven segment into the next against its checksum.
///
/// # Errors
/// Fails when the second does not go on where the first one breaks off.
pub(super) fn join(
    (before, earlier): (SegmentName, &[u8]),
    (segment, bytes): (SegmentName, &[u8]),
) -> Result<(), Halt> {
    let Ok(header) = SegmentHeader::parse(earlier) else { return Ok(()) };
    let mut walker = WalWalker::new(header.segment_size);
    match walker.segment(before, earlier, &mut |_| {}) {
        // Nothing leads from there into this one.
        Walked::Halted(_) => return Ok(()),
        Walked::ToTheEnd => {}
    }
    match walker.segment(segment, bytes, &mut |_| {}) {
        Walked::Halted(halt) => Err(halt),
        Walked::ToTheEnd => Ok(()),
    }
}
