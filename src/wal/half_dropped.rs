//! Finds a database that a recovery to a moment inside its drop would leave behind without its files.

use super::catalog_rows::CatalogRows;
use super::database_drop::{DatabaseDrop, DatabaseDrops};
use super::{CommitTimes, WalError};
use crate::catalog::recovery::Edge;
use crate::pgformat::{Lsn, SegmentName, WalRecord, WalWalker, Walked};

/// How many segments are looked through at first; twice as many each time that a transaction began before them.
const FIRST: usize = 4;
/// No more than this many: a drop is in no transaction block, and ends soon, while a prepared transaction may stay for weeks.
const MOST: usize = 256;

/// Where replay ends: the record at a position, or the first behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Halt {
    /// The position.
    pub(super) at: Lsn,
    /// Whether that record itself is replayed.
    pub(super) edge: Edge,
}

/// What is seen up to a halt.
struct Watched {
    halt: Halt,
    is_over: bool,
    database_drops: DatabaseDrops,
    catalog_rows: CatalogRows,
}

impl Watched {
    fn see(&mut self, record: &WalRecord<'_>) {
        let reached = record.lsn >= self.halt.at;
        if !self.is_over && (!reached || self.halt.edge == Edge::Included) {
            self.database_drops.see(record);
            self.catalog_rows.see(record);
        }
        self.is_over |= reached;
    }
}

/// Finds the first drop that has begun and not ended where replay of a path halts, with the name of the database, where the WAL that
/// was read for that tells it. No more is read than back to where
/// the oldest transaction began that runs there, and than [`MOST`] segments or so. The walk begins anew where a path
/// leaves segments out.
///
/// # Errors
/// Fails when a segment cannot be read.
pub(super) async fn half_dropped(
    commit_times: &CommitTimes<'_>,
    path: &[SegmentName],
    halt: Halt,
) -> Result<Option<(DatabaseDrop, Option<String>)>, WalError> {
    let last = path.partition_point(|name| name.start(commit_times.size()) <= halt.at);
    // The record at the position may end in the next segment.
    let end = path.len().min(last + usize::from(halt.edge == Edge::Included));
    let mut width = FIRST;
    loop {
        let begin = end.saturating_sub(width);
        let seen = watched(commit_times, (&path[begin..end], last - begin.min(last)), halt).await?;
        if begin == 0 || width >= MOST || !seen.database_drops.is_unsettled() {
            let name = |one: DatabaseDrop| seen.catalog_rows.database_name(one.database?);
            return Ok(seen.database_drops.first().map(|one| (one, name(one))));
        }
        width *= 2;
    }
}

/// Walks segments; of those behind the first `needed` ones none has to be there.
async fn watched(
    commit_times: &CommitTimes<'_>,
    (path, needed): (&[SegmentName], usize),
    halt: Halt,
) -> Result<Watched, WalError> {
    let size = commit_times.size();
    let (database_drops, catalog_rows) = (DatabaseDrops::default(), CatalogRows::default());
    let mut seen = Watched { halt, is_over: false, database_drops, catalog_rows };
    let mut walker = WalWalker::new(size);
    let mut next: Option<u64> = None;
    for (index, name) in path.iter().copied().enumerate() {
        let bytes = match commit_times.segment(name).await {
            Ok(bytes) => bytes,
            Err(_) if index >= needed => continue,
            Err(error) => return Err(error),
        };
        if next.is_some_and(|next| next != name.number(size)) {
            walker = WalWalker::new(size);
        }
        next = Some(name.number(size) + 1);
        let walking = tokio::task::spawn_blocking(move || {
            let walked = walker.segment(name, &bytes, &mut |record| seen.see(record));
            (if walked == Walked::ToTheEnd { walker } else { WalWalker::new(size) }, seen)
        });
        let broke = |error| WalError::Usage(format!("walking a segment broke off: {error}"));
        (walker, seen) = walking.await.map_err(broke)?;
    }
    Ok(seen)
}
