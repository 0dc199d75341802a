//! What replay would do outside the data directory of a side instance.
//!
//! Replaying `CREATE TABLESPACE` removes the cluster's folder at the *original* location and makes it
//! anew. On the host of the production server that would destroy production's data, so a side
//! instance never replays WAL that holds such a record.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt as _;

use super::archive::Shelf;
use crate::action::{ActionError, ReadFiles};
use crate::pgformat::{SegmentName, WalRecord, WalWalker};
use crate::transfer::Pool;

const RM_TABLESPACE: u8 = 5;
const CREATE: u8 = 0x00;
const OPERATION: u8 = 0xF0;

/// Refuses WAL that creates a tablespace. `embedded` is the folder of the WAL that came with the backup.
///
/// # Errors
/// Fails when there is such a record, and when a segment cannot be read.
pub(crate) async fn refuse(
    shelf: &Shelf<'_>,
    path: &[SegmentName],
    embedded: &Path,
    files: &dyn ReadFiles,
) -> Result<(), ActionError> {
    match tablespaces(shelf, path, embedded, files).await?.first() {
        None => Ok(()),
        Some((_, location)) => {
            let fact = format!(
                "the WAL creates a tablespace at `{}`: replay would empty that very folder",
                location.display()
            );
            Err(ActionError::fatal(fact).help("take a new base backup, which holds the tablespace, and drill that"))
        }
    }
}

/// The tablespaces that WAL creates: each with its link in the data directory and its location, in order.
///
/// # Errors
/// Fails when a segment cannot be read.
pub(crate) async fn tablespaces(
    shelf: &Shelf<'_>,
    path: &[SegmentName],
    embedded: &Path,
    files: &dyn ReadFiles,
) -> Result<Vec<(PathBuf, PathBuf)>, ActionError> {
    let mut walker = WalWalker::new(shelf.size);
    let (mut all, pool) = (Vec::new(), Pool::default());
    let read = |segment: &SegmentName| {
        let (name, pool) = (*segment, &pool);
        async move {
            match files.read(&embedded.join(name.to_string()), 1 << 30) {
                Ok(bytes) => Ok((name, Bytes::from(bytes))),
                Err(_) => shelf.segment_from(pool, name).await.map(|bytes| (name, bytes)),
            }
        }
    };
    let mut segments = std::pin::pin!(futures_util::stream::iter(path.iter().map(read)).buffered(1));
    let mut next = segments.next().await.transpose()?;
    while let Some((name, bytes)) = next {
        let walking = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            walker.segment(name, &bytes, &mut |record| found.extend(created(record)));
            (walker, found)
        });
        // The next one is read meanwhile.
        let (walked, following) = tokio::join!(walking, segments.next());
        let found;
        (walker, found) = walked.map_err(|error| ActionError::fatal("walking a segment panicked").because(&error))?;
        all.extend(found);
        next = following.transpose()?;
    }
    Ok(all)
}

/// The tablespace that a record creates.
fn created(record: &WalRecord<'_>) -> Option<(PathBuf, PathBuf)> {
    if record.rmid != RM_TABLESPACE || record.info & OPERATION != CREATE {
        return None;
    }
    let data = record.main_data().ok()?;
    let oid = u32::from_le_bytes(data.get(..4)?.try_into().ok()?);
    let location = data.get(4..)?.split(|byte| *byte == 0).next()?;
    let location = PathBuf::from(OsString::from_vec(location.to_vec()));
    Some((Path::new("pg_tblspc").join(oid.to_string()), location))
}
