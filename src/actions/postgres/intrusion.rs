//! What replay would do outside the data directory of a side instance.
//!
//! Replaying `CREATE TABLESPACE` removes the cluster's folder at the *original* location and makes it
//! anew. On the host of the production server that would destroy production's data, so a side
//! instance never replays WAL that holds such a record, nor WAL that nobody looked through.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;

use super::marker::Marker;
use super::supply::Supply;
use crate::action::ActionError;
use crate::base::pool::Pool;
use crate::pgformat::{Halt, SegmentName, WalRecord, WalWalker, Walked};

const RM_TABLESPACE: u8 = 5;
const CREATE: u8 = 0x00;
const OPERATION: u8 = 0xF0;

/// Refuses WAL that creates a tablespace. Gives the last segment that may be fetched: what is archived later was not
/// looked through.
///
/// # Errors
/// Fails when there is such a record, and when a segment cannot be read or breaks off before the last one.
pub(crate) async fn refuse(
    supply: Supply<'_>,
    path: &[SegmentName],
    marker: &Marker,
) -> Result<Option<SegmentName>, ActionError> {
    if let Some((_, location)) = tablespaces(supply, path).await?.first() {
        let fact =
            format!("the WAL creates a tablespace at `{}`: replay would empty that very folder", location.display());
        return Err(ActionError::fatal(fact).help("take a new base backup, which holds the tablespace, and drill that"));
    }
    // A copy that came with the backup may be cut short where the archive's own, once it is there, goes on.
    let last = path.iter().rev().find(|name| supply.archived.contains(name));
    let size = supply.shelf.size;
    Ok(last.copied().or_else(|| SegmentName::holding(marker.timeline, marker.start, size).prev(size)))
}

/// The tablespaces that WAL creates: each with its link in the data directory and its location, in order.
///
/// # Errors
/// Fails when a segment cannot be read, and when one breaks off before the last: what follows would not be seen.
pub(crate) async fn tablespaces(
    supply: Supply<'_>,
    path: &[SegmentName],
) -> Result<Vec<(PathBuf, PathBuf)>, ActionError> {
    let mut walker = WalWalker::new(supply.shelf.size);
    let (mut all, pool) = (Vec::new(), Pool::default());
    let read = |name: &SegmentName| {
        let (name, pool) = (*name, &pool);
        async move { supply.segment_from(pool, name).await.map(|bytes| (name, bytes)) }
    };
    let mut segments = std::pin::pin!(futures_util::stream::iter(path.iter().map(read)).buffered(1));
    let mut next = segments.next().await.transpose()?;
    while let Some((name, bytes)) = next {
        let walking = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            let walked = walker.segment(name, &bytes, &mut |record| found.extend(created(record)));
            (walker, walked, found)
        });
        // The next one is read meanwhile.
        let (walked, following) = tokio::join!(walking, segments.next());
        let (end, found);
        (walker, end, found) =
            walked.map_err(|error| ActionError::fatal("walking a segment panicked").because(&error))?;
        all.extend(found);
        match end {
            Walked::Halted(halt) if path.last() != Some(&name) => return Err(broken_off(name, &halt)),
            Walked::Halted(_) | Walked::ToTheEnd => {}
        }
        next = following.transpose()?;
    }
    Ok(all)
}

fn broken_off(name: SegmentName, halt: &Halt) -> ActionError {
    let fact = format!("segment `{name}` breaks off ({halt}), though the WAL goes on behind it");
    ActionError::fatal(fact)
        .help("bring a whole copy of that segment into the archive, or recover to a target before it")
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
