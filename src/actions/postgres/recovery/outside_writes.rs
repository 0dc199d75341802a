//! What replay would do outside the data directory of a side instance.
//!
//! Replaying `CREATE TABLESPACE` removes the cluster's folder at the *original* location and makes it
//! anew. On the host of the production server that would destroy production's data, so a side
//! instance never replays WAL that holds such a record, nor WAL that nobody looked through.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;

use super::replay_plan::ReplayPlan;
use super::wal_source::WalSource;
use crate::action::ActionError;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::restore::segment_cache::{CacheEntry, SegmentCache};
use crate::actions::postgres::stores::target::Goal;
use crate::event::ErrorClass;
use crate::pgformat::{Halt, SegmentName, SegmentWalk, WalRecord, WalWalker, Walked};

const RM_TABLESPACE: u8 = 5;
const CREATE: u8 = 0x00;
const OPERATION: u8 = 0xF0;

/// The WAL of a way, to be looked through.
#[derive(Clone, Copy)]
pub(crate) struct Passage<'a> {
    /// The WAL.
    pub(crate) wal_source: WalSource<'a>,
    /// The way.
    pub(crate) plan: &'a ReplayPlan,
    /// Where the server is to find what was proven; `None` where it has no such place.
    pub(crate) segment_cache: Option<&'a SegmentCache<'a>>,
}

/// Tablespaces that WAL creates, each with its link in the data directory and its location, in order.
pub(crate) type Made = Vec<(PathBuf, PathBuf)>;

/// The tablespaces that WAL creates, as far as it could be looked through.
pub(crate) struct Looked {
    made: Made,
    /// The segment behind which nothing was seen, and why.
    broken: Option<(SegmentName, ActionError)>,
}

impl Looked {
    /// Takes them where all of the WAL must have been seen.
    ///
    /// # Errors
    /// Fails when it was not.
    pub(crate) fn whole(self) -> Result<Made, ActionError> {
        self.broken.map_or(Ok(self.made), |(_, error)| Err(error))
    }

    /// Takes them where a server that stops at a target cannot replay what lies behind a break either; gives the break as
    /// well. A second copy of that segment, which came with the backup, could lead it on.
    ///
    /// # Errors
    /// Fails when there is such a copy, and when the break lies before the target for certain.
    pub(crate) fn up_to_a_break(
        self,
        wal_source: WalSource<'_>,
        goal: &Goal,
    ) -> Result<(Made, Option<ActionError>), ActionError> {
        let is_before_the_target = |name: SegmentName| match goal {
            Goal::Newest | Goal::Immediate => true,
            Goal::Lsn(target) => name.end(wal_source.wal_archive.size) <= *target,
            Goal::Time(_) | Goal::Name(_) | Goal::Xid(_) => false,
        };
        match self.broken {
            Some((name, error)) if wal_source.aside.embedded.contains(&name) || is_before_the_target(name) => {
                Err(error)
            }
            broken => Ok((self.made, broken.map(|(_, error)| error))),
        }
    }
}

/// Refuses WAL that creates a tablespace. Gives the last segment that may be fetched, on the timeline that is followed:
/// what is archived later was not looked through.
///
/// # Errors
/// Fails when there is such a record, and when a segment cannot be read or breaks off before the last one.
pub(crate) async fn refuse(passage: Passage<'_>, marker: &Marker) -> Result<Option<SegmentName>, ActionError> {
    if let Some((_, location)) = tablespaces(passage).await?.whole()?.first() {
        let fact =
            format!("the WAL creates a tablespace at `{}`: replay would empty that very folder", location.display());
        return Err(ActionError::fatal(fact).help("take a new base backup, which holds the tablespace, and drill that"));
    }
    let Passage { wal_source, plan, .. } = passage;
    // A copy that came with the backup may be cut short where the archive's own, once it is there, goes on.
    let last = plan.path.iter().rev().find(|name| wal_source.archived.contains(name));
    let size = wal_source.wal_archive.size;
    let last = last.copied().or_else(|| SegmentName::holding(marker.timeline, marker.start, size).prev(size));
    // Just after a promotion the archive has the history of the new timeline and no segment of it yet.
    Ok(last.map(|name| name.on(plan.course.timeline)))
}

/// Looks for the tablespaces that WAL creates, up to the first segment that is damaged or breaks off before the last. What the
/// archive has of it is kept where the server will ask for it.
///
/// # Errors
/// Fails when nothing can be told of a segment: a store gives no answer.
pub(crate) async fn tablespaces(passage: Passage<'_>) -> Result<Looked, ActionError> {
    let Passage { wal_source, plan, segment_cache } = passage;
    let (mut walker, mut made) = (WalWalker::new(wal_source.wal_archive.size), Vec::new());
    let near = |name: &SegmentName| {
        let (name, wal_source) = (*name, &wal_source);
        async move { (name, wal_source.near(name).await) }
    };
    let mut segments = std::pin::pin!(futures_util::stream::iter(plan.path.iter().map(near)).buffered(1));
    let mut next = segments.next().await;
    while let Some((name, near)) = next {
        let segment_cache = segment_cache.filter(|_| wal_source.archived.contains(&name));
        let make =
            || Sieve::new(walker.clone(), name, segment_cache.and_then(|segment_cache| segment_cache.begin(name)));
        let sifting = async {
            match near {
                Ok(near) => wal_source.pour((name, near), &make).await,
                Err(error) => Err(error),
            }
        };
        // The next one is brought near meanwhile.
        let (sifted, following) = tokio::join!(sifting, segments.next());
        let Sieve { walk, found, cache_entry } = match sifted {
            Ok(sieve) => sieve,
            Err(error) if error.info().class == ErrorClass::Fatal => {
                segment_cache.into_iter().for_each(|segment_cache| segment_cache.settle(name, None));
                return Ok(Looked { made, broken: Some((name, error)) });
            }
            Err(error) => return Err(error),
        };
        let walked;
        (walker, walked) = walk.finish();
        if let Some(segment_cache) = segment_cache {
            segment_cache.settle(name, cache_entry.filter(|_| walked == Walked::ToTheEnd));
        }
        made.extend(found);
        match walked {
            Walked::Halted(halt) if plan.path.last() != Some(&name) => {
                return Ok(Looked { made, broken: Some((name, broken_off(name, &halt))) });
            }
            Walked::Halted(_) | Walked::ToTheEnd => {}
        }
        next = following;
    }
    Ok(Looked { made, broken: None })
}

/// A segment that flows by: its records are looked at and its bytes kept, as long as they are in the caches of the core.
struct Sieve {
    walk: SegmentWalk,
    found: Vec<(PathBuf, PathBuf)>,
    cache_entry: Option<CacheEntry>,
}

impl Sieve {
    fn new(walker: WalWalker, name: SegmentName, cache_entry: Option<CacheEntry>) -> Self {
        Self { walk: SegmentWalk::new(walker, name), found: Vec::new(), cache_entry }
    }
}

impl Write for Sieve {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What cannot be kept the server fetches itself.
        if self.cache_entry.as_mut().is_some_and(|cache_entry| cache_entry.write_all(bytes).is_err()) {
            self.cache_entry = None;
        }
        let found = &mut self.found;
        self.walk.take(bytes, &mut |record| found.extend(created(record)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
