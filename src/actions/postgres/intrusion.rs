//! What replay would do outside the data directory of a side instance.
//!
//! Replaying `CREATE TABLESPACE` removes the cluster's folder at the *original* location and makes it
//! anew. On the host of the production server that would destroy production's data, so a side
//! instance never replays WAL that holds such a record.

use std::path::Path;

use super::archive::{self, Shelf};
use crate::action::{ActionError, ReadFiles};
use crate::catalog;
use crate::pgformat::{SegmentName, WalFileName, WalRecord, WalWalker};

const RM_TABLESPACE: u8 = 5;
const CREATE: u8 = 0x00;
const OPERATION: u8 = 0xF0;

/// Refuses WAL that creates a tablespace. `embedded` is the folder of the WAL that came with the backup.
///
/// # Errors
/// Fails when there is such a record, and when a segment cannot be read.
pub(crate) async fn refuse(
    shelf: Shelf<'_>,
    path: &[SegmentName],
    embedded: &Path,
    files: &dyn ReadFiles,
) -> Result<(), ActionError> {
    let mut walker = WalWalker::new(shelf.size);
    for segment in path {
        let own = files.read(&embedded.join(segment.to_string()), 1 << 30);
        let bytes = match own {
            Ok(bytes) => bytes,
            Err(_) => {
                let key = catalog::wal_key(shelf.prefix, shelf.system_id, WalFileName::Segment(*segment));
                let key = key.map_err(|error| archive::broken(&error))?;
                catalog::read_verified(shelf.store, &key, 1 << 30).await.map_err(|error| archive::broken(&error))?
            }
        };
        let name = *segment;
        let walked = tokio::task::spawn_blocking(move || {
            let mut found = None;
            walker.segment(name, &bytes, &mut |record| found = found.take().or_else(|| created(record)));
            (walker, found)
        });
        let found;
        (walker, found) =
            walked.await.map_err(|error| ActionError::fatal("walking a segment panicked").because(&error))?;
        if let Some(location) = found {
            let fact = format!("the WAL creates a tablespace at `{location}`: replay would empty that very folder");
            return Err(
                ActionError::fatal(fact).help("take a new base backup, which holds the tablespace, and drill that")
            );
        }
    }
    Ok(())
}

/// The location of the tablespace that a record creates.
fn created(record: &WalRecord<'_>) -> Option<String> {
    if record.rmid != RM_TABLESPACE || record.info & OPERATION != CREATE {
        return None;
    }
    let data = record.main_data().ok()?;
    let path = data.get(4..)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(path).into_owned())
}
