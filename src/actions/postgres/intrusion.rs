//! What replay would do outside the data directory of a side instance.
//!
//! Replaying `CREATE TABLESPACE` removes the cluster's folder at the *original* location and makes it
//! anew. On the host of the production server that would destroy production's data, so a side
//! instance never replays WAL that holds such a record, nor WAL that nobody looked through.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;

use super::course::Plan;
use super::marker::Marker;
use super::supply::Supply;
use crate::action::ActionError;
use crate::base::pool::Pool;
use crate::event::ErrorClass;
use crate::pgformat::{Halt, SegmentName, WalRecord, WalWalker, Walked};

const RM_TABLESPACE: u8 = 5;
const CREATE: u8 = 0x00;
const OPERATION: u8 = 0xF0;

/// The tablespaces that WAL creates, as far as it could be looked through.
pub(crate) struct Looked {
    /// Each with its link in the data directory and its location, in order.
    made: Vec<(PathBuf, PathBuf)>,
    /// The segment behind which nothing was seen, and why.
    broken: Option<(SegmentName, ActionError)>,
}

impl Looked {
    /// Takes them where all of the WAL must have been seen.
    ///
    /// # Errors
    /// Fails when it was not.
    pub(crate) fn whole(self) -> Result<Vec<(PathBuf, PathBuf)>, ActionError> {
        self.broken.map_or(Ok(self.made), |(_, error)| Err(error))
    }

    /// Takes them where a server that stops at a target cannot replay what lies behind a break either; gives the break as
    /// well. A second copy of that segment, which came with the backup, could lead it on.
    ///
    /// # Errors
    /// Fails when there is such a copy.
    pub(crate) fn up_to_a_break(
        self,
        supply: Supply<'_>,
    ) -> Result<(Vec<(PathBuf, PathBuf)>, Option<ActionError>), ActionError> {
        match self.broken {
            Some((name, error)) if supply.aside.embedded.contains(&name) => Err(error),
            broken => Ok((self.made, broken.map(|(_, error)| error))),
        }
    }
}

/// Refuses WAL that creates a tablespace. Gives the last segment that may be fetched, on the timeline that is followed:
/// what is archived later was not looked through.
///
/// # Errors
/// Fails when there is such a record, and when a segment cannot be read or breaks off before the last one.
pub(crate) async fn refuse(
    supply: Supply<'_>,
    plan: &Plan,
    marker: &Marker,
) -> Result<Option<SegmentName>, ActionError> {
    if let Some((_, location)) = tablespaces(supply, &plan.path).await?.whole()?.first() {
        let fact =
            format!("the WAL creates a tablespace at `{}`: replay would empty that very folder", location.display());
        return Err(ActionError::fatal(fact).help("take a new base backup, which holds the tablespace, and drill that"));
    }
    // A copy that came with the backup may be cut short where the archive's own, once it is there, goes on.
    let last = plan.path.iter().rev().find(|name| supply.archived.contains(name));
    let size = supply.shelf.size;
    let last = last.copied().or_else(|| SegmentName::holding(marker.timeline, marker.start, size).prev(size));
    // Just after a promotion the archive has the history of the new timeline and no segment of it yet.
    Ok(last.map(|name| name.on(plan.course.timeline)))
}

/// Looks for the tablespaces that WAL creates, up to the first segment that is damaged or breaks off before the last.
///
/// # Errors
/// Fails when nothing can be told of a segment: a store gives no answer.
pub(crate) async fn tablespaces(supply: Supply<'_>, path: &[SegmentName]) -> Result<Looked, ActionError> {
    let mut walker = WalWalker::new(supply.shelf.size);
    let (mut made, pool) = (Vec::new(), Pool::default());
    let read = |name: &SegmentName| {
        let (name, pool) = (*name, &pool);
        async move { (name, supply.segment_from(pool, name).await) }
    };
    let mut segments = std::pin::pin!(futures_util::stream::iter(path.iter().map(read)).buffered(1));
    let mut next = segments.next().await;
    while let Some((name, read)) = next {
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(error) if error.info().class == ErrorClass::Fatal => {
                return Ok(Looked { made, broken: Some((name, error)) });
            }
            Err(error) => return Err(error),
        };
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
        made.extend(found);
        match end {
            Walked::Halted(halt) if path.last() != Some(&name) => {
                return Ok(Looked { made, broken: Some((name, broken_off(name, &halt))) });
            }
            Walked::Halted(_) | Walked::ToTheEnd => {}
        }
        next = following;
    }
    Ok(Looked { made, broken: None })
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
