//! Stores one WAL file in the archive.

use std::path::Path;

use super::{Identity, WalError};
use crate::action::{PutOptions, Store, StoreError};
use crate::base::Digest;
use crate::catalog::{claim_prefix, wal_key};
use crate::pgformat::{BackupLabel, SegmentHeader, SegmentName, TimelineHistory, WalFileName};

/// The largest file a WAL archive takes: the largest segment.
const LIMIT_BYTES: u64 = 1 << 30;

/// What a push did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The file was stored.
    Stored,
    /// The same content was there; it was made durable again.
    WasThere,
}

/// Checks that the file is what its name says and stores it durably. Never overwrites other content.
///
/// # Errors
/// Fails when the file belongs to another cluster, timeline or position, when the archive has other
/// content under its name, and when the store fails. Nothing is visible in the archive then.
pub async fn push_file(
    store: &dyn Store,
    prefix: &str,
    identity: &Identity,
    path: &Path,
    name: WalFileName,
) -> Result<Pushed, WalError> {
    let at = |source| WalError::File { operation: "read", path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(at)?.len();
    if length > LIMIT_BYTES {
        return Err(WalError::Mismatch { name, what: format!("{length} bytes are more than any WAL file has") });
    }
    let bytes = std::fs::read(path).map_err(at)?;
    verify(name, &bytes, identity)?;
    claim_prefix(store, prefix, identity.system_id).await?;
    let key = wal_key(prefix, identity.system_id, name)?;
    let sha256 = Digest::of(&bytes);
    let metadata =
        [("sha256".to_owned(), sha256.to_string()), ("system_id".to_owned(), identity.system_id.to_string())];
    let options = PutOptions { if_absent: true, metadata: metadata.into(), ..PutOptions::default() };
    match store.put(&key, Box::new(std::io::Cursor::new(bytes)), options).await {
        Ok(outcome) if outcome.sha256 != sha256 => {
            Err(WalError::Damaged { name, what: "the store wrote other bytes than it was given".to_owned() })
        }
        Ok(outcome) if outcome.existed => Ok(Pushed::WasThere),
        Ok(_) => Ok(Pushed::Stored),
        Err(StoreError::Exists { .. }) => Err(WalError::Differs(name)),
        Err(error) => Err(error.into()),
    }
}

/// Checks that bytes are the file `name` of the cluster.
pub(super) fn verify(name: WalFileName, bytes: &[u8], identity: &Identity) -> Result<(), WalError> {
    let mismatch = |what: String| WalError::Mismatch { name, what };
    match name {
        WalFileName::Segment(segment) | WalFileName::PartialSegment(segment) => {
            verify_segment(name, segment, bytes, identity)
        }
        WalFileName::History(timeline) => {
            let text = std::str::from_utf8(bytes).map_err(|_| mismatch("it is no text".to_owned()))?;
            TimelineHistory::parse(timeline, text).map(drop).map_err(|error| mismatch(error.to_string()))
        }
        WalFileName::BackupHistory { segment, .. } => {
            let label =
                BackupLabel::parse(&String::from_utf8_lossy(bytes)).map_err(|error| mismatch(error.to_string()))?;
            if label.start_segment == segment {
                return Ok(());
            }
            Err(mismatch(format!("it says segment `{}`", label.start_segment)))
        }
    }
}

fn verify_segment(name: WalFileName, segment: SegmentName, bytes: &[u8], identity: &Identity) -> Result<(), WalError> {
    let mismatch = |what: String| WalError::Mismatch { name, what };
    let header = SegmentHeader::parse(bytes).map_err(|error| mismatch(error.to_string()))?;
    if header.system_id != identity.system_id {
        return Err(WalError::OtherCluster {
            what: format!("`{name}`"),
            found: header.system_id,
            expected: identity.system_id,
        });
    }
    if let Some(size) = identity.segment_size.filter(|size| *size != header.segment_size) {
        let (theirs, ours) = (header.segment_size.bytes(), size.bytes());
        return Err(mismatch(format!("its segments have {theirs} bytes, the cluster's {ours}")));
    }
    header.check(segment, bytes.len() as u64).map_err(|error| mismatch(error.to_string()))
}
