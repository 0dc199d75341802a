//! Pushes a segment together with those that wait behind it.
//!
//! The server asks for one segment after the other and waits for each. While it waits, the next ones are stored
//! beside it, each noted in the spool when it is safe; asked for later, they are a success at once. What the server
//! asked for is a success when *it* is safe, whatever becomes of its batch.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::WalError;
use super::acks::{Acks, Fingerprint, Freshness};
use super::backlog::waiting;
use super::missing_copies::MissingCopies;
use super::push::WalFile;
use super::spool::Spool;
use super::target_store::{Arrival, TargetStores};
use crate::base::clock::monotonic;
use crate::base::units::Span;
use crate::pgformat::{SegmentName, WalFileName};

/// Files under way at a time, as far as their bytes allow it.
const LANES: u64 = 4;
const LANES_BYTES: u64 = 64 << 20;
/// The server waits: nothing more is begun after this long.
const BEGIN_WITHIN: Duration = Duration::from_secs(4);
/// How long the batch may still take when the segment itself is safe.
const GRACE: Duration = Duration::from_secs(10);

/// What one push works with.
pub(super) struct PushBatch<'a> {
    pub(super) target_stores: &'a TargetStores,
    pub(super) spool: Option<&'a Spool>,
    pub(super) acks: Option<&'a Acks>,
    /// The most time it may take, its batch included.
    pub(super) within: Duration,
}

/// A file of the server's `pg_wal`.
#[derive(Debug, Clone)]
pub(super) struct BatchFile {
    pub(super) name: WalFileName,
    pub(super) path: PathBuf,
}

/// The segments that wait behind the one the server asked for and are not safe yet; tidies the notes. Without a spool
/// nothing could be remembered: then there are none.
pub(super) fn batch(acks: Option<&Acks>, own: &BatchFile, at_most: usize) -> Vec<BatchFile> {
    let (Some(acks), Some(pg_wal)) = (acks, own.path.parent()) else { return Vec::new() };
    let Ok(waiting) = waiting(pg_wal) else { return Vec::new() };
    let names: BTreeSet<String> = waiting.iter().map(ToString::to_string).collect();
    acks.keep(&names);
    let wanted = |segment: &SegmentName| {
        let (name, path) = (WalFileName::Segment(*segment), pg_wal.join(segment.to_string()));
        (name != own.name && !is_safe(acks, name, &path)).then_some(BatchFile { name, path })
    };
    waiting.iter().filter_map(wanted).take(at_most).collect()
}

/// How the note stands that this very file was stored in the batch of another; `None` where there is none.
pub(super) fn noted(acks: &Acks, name: WalFileName, path: &Path) -> Option<Freshness> {
    acks.freshness(name, &Fingerprint::of(path).ok()?)
}

/// Tells whether this very file was stored in the batch of another.
pub(super) fn is_safe(acks: &Acks, name: WalFileName, path: &Path) -> bool {
    Fingerprint::of(path).is_ok_and(|print| acks.holds(name, &print))
}

impl PushBatch<'_> {
    /// Pushes a file, and its batch beside it.
    ///
    /// # Errors
    /// Fails when the file itself is not safe in time; then its batch is given up too. What its batch takes is no
    /// reason to fail.
    pub(super) async fn push(&self, own: BatchFile, batch: Vec<BatchFile>) -> Result<Arrival, WalError> {
        let began = monotonic();
        let lanes = self.lanes();
        let mut rest = batch.into_iter();
        let mut others = FuturesUnordered::new();
        let name = own.name;
        let slow = |_| WalError::Slow { name, within: Span(self.within) };
        let own = async { tokio::time::timeout(self.within, self.bring(own)).await.map_err(slow)? };
        tokio::pin!(own);
        let arrival = loop {
            while others.len() + 1 < lanes && began.elapsed() < BEGIN_WITHIN {
                let Some(next) = rest.next() else { break };
                others.push(self.ahead(next));
            }
            tokio::select! {
                biased;
                arrival = &mut own => break arrival?,
                Some(()) = others.next(), if !others.is_empty() => {}
            }
        };
        let finish = async {
            loop {
                while others.len() < lanes && began.elapsed() < BEGIN_WITHIN {
                    let Some(next) = rest.next() else { break };
                    others.push(self.ahead(next));
                }
                if others.next().await.is_none() {
                    break;
                }
            }
        };
        // What is given up here is asked for later.
        let _ = tokio::time::timeout(GRACE.min(self.within.saturating_sub(began.elapsed())), finish).await;
        Ok(arrival)
    }

    fn lanes(&self) -> usize {
        let size = self.target_stores.identity.segment_size.map_or(LANES_BYTES, |size| size.bytes());
        usize::try_from((LANES_BYTES / size).clamp(1, LANES)).unwrap_or(1)
    }

    /// Stores a file that nobody asked for yet. Why it fails is told when the server asks.
    async fn ahead(&self, wanted: BatchFile) {
        let Some(acks) = self.acks else { return };
        let (name, path) = (wanted.name, wanted.path.clone());
        let Ok(before) = Fingerprint::of(&path) else { return };
        // The same before and after it was read: the server did not take the file for another segment meanwhile.
        if self.bring(wanted).await.is_ok() && Fingerprint::of(&path).is_ok_and(|after| after == before) {
            acks.add(name, &before);
        }
    }

    async fn bring(&self, wanted: BatchFile) -> Result<Arrival, WalError> {
        let BatchFile { name, path } = wanted;
        let identity = self.target_stores.identity;
        let looking = tokio::task::spawn_blocking(move || WalFile::look(&path, name, &identity));
        let file = looking.await.map_err(|error| WalError::Usage(format!("reading `{name}` broke off: {error}")))??;
        let arrival = self.target_stores.push(&file).await?;
        match self.spool {
            Some(spool) => MissingCopies::of(spool).note(self.target_stores, name, &arrival)?,
            None if arrival.lagging.is_empty() => {}
            None => return Err(self.target_stores.unnoted(name, &arrival, "no spool can be used")),
        }
        Ok(arrival)
    }
}
