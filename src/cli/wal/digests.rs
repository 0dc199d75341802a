//! Reads every store's copy of every segment, for `wal verify --digests`.

use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use crate::catalog::recovery::Condition;
use crate::cli::recoverable::{ClusterView, LookError, Recoverable};
use crate::pgformat::SegmentName;
use crate::wal::outlook::SegmentCopy;

/// How many segments are read at once.
const WIDTH: usize = 4;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The bytes that were found right, of all copies.
    pub(super) bytes: u64,
    /// Copies that are wrong, though another store has the segment whole.
    pub(super) copies: Vec<BadCopy>,
}

/// A copy that is damaged or differs, of a segment that another store has whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct BadCopy {
    /// The store it lies in.
    pub(super) store: String,
    /// The segment.
    pub(super) segment: String,
    /// What is wrong with it.
    pub(super) why: String,
    /// A store that has it whole.
    pub(super) whole_in: String,
}

/// Reads them, and marks the segments that no store has whole.
///
/// # Errors
/// Fails when a store gives no answer.
pub(super) async fn read_all(found: &Recoverable, cluster: &mut ClusterView) -> Result<Reading, LookError> {
    let names: Vec<SegmentName> = cluster.archive.segments.keys().copied().collect();
    let seen = &*cluster;
    let reading = names.into_iter().map(|name| async move { Ok((name, found.copies(seen, name).await?)) });
    let read: Vec<Result<(SegmentName, Vec<SegmentCopy>), LookError>> =
        stream::iter(reading).buffered(WIDTH).collect().await;
    let mut all = Reading::default();
    for one in read {
        let (name, copies) = one?;
        let whole = copies.iter().find_map(|copy| Some((&copy.store, copy.read.as_ref().ok()?)));
        let Some((whole_in, content)) = whole else {
            let why = copies.iter().find_map(|copy| copy.read.as_ref().err());
            if let (Some(segment), Some(why)) = (cluster.archive.segments.get_mut(&name), why) {
                segment.condition = Condition::Damaged(why.clone());
            }
            continue;
        };
        for copy in &copies {
            let why = match &copy.read {
                Ok(other) if other == content => {
                    all.bytes += other.size_bytes;
                    continue;
                }
                Ok(_) => format!("its content is another than in store `{whole_in}`"),
                Err(why) => why.clone(),
            };
            let (store, segment) = (copy.store.clone(), name.to_string());
            all.copies.push(BadCopy { store, segment, why, whole_in: whole_in.clone() });
        }
    }
    Ok(all)
}
