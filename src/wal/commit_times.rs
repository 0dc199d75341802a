//! Times of archived WAL: when what was committed, read from the segments themselves (ADR 10).
//!
//! Nothing is recorded when WAL is archived, so WAL that others archived is judged in the same way. Commit times are
//! the primary's clock, and a clock may step back: positions decide, times only lead to them.

mod first_lost;
mod timeline_dates;

use super::packed::Source;
use super::preference::read_first;
use super::{Identity, WalError};
use crate::base::Timestamp;
use crate::catalog::recovery::Edge;
use crate::pgformat::{
    Commit, Halt, Lsn, SegmentName, SegmentScan, SegmentSize, WalFileName, WalRecord, WalWalker, Walked,
};

pub use first_lost::{LossBegin, LostBeside};

/// WAL that replay will find although the archive does not have it.
pub trait UnarchivedSegments: Sync {
    /// Whether a segment is there, and not in the archive.
    fn has(&self, name: SegmentName) -> bool;

    /// Reads a segment of it; `None` for one that is not there any more: by now the archive may have it.
    fn read(&self, name: SegmentName) -> Option<Vec<u8>>;
}

/// Reads times out of the archive of one cluster.
#[derive(Clone)]
pub struct CommitTimes<'a> {
    sources: Vec<Source<'a>>,
    size: SegmentSize,
    unarchived: Option<&'a dyn UnarchivedSegments>,
}

/// Where replay to a time stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The segment of the first commit behind the time.
    pub segment: SegmentName,
    /// The first commit behind the time: it is not replayed.
    pub next: Commit,
    /// The last commit that is replayed, when it is in the same segment or one shortly before.
    pub last: Option<Commit>,
}

/// A segment with its bytes.
type Loaded = (SegmentName, Vec<u8>);

impl<'a> CommitTimes<'a> {
    /// The commit times of an archive whose segments have this size. Of several stores the first that has a segment whole counts.
    #[must_use]
    pub fn of(mut sources: Vec<Source<'a>>, size: SegmentSize) -> Self {
        for source in &mut sources {
            source.identity = Identity { segment_size: Some(size), ..source.identity };
        }
        Self { sources, size, unarchived: None }
    }

    /// Reads what the archive does not have as well.
    #[must_use]
    pub fn with(self, unarchived: &'a dyn UnarchivedSegments) -> Self {
        Self { unarchived: Some(unarchived), ..self }
    }

    /// The size of a segment.
    pub(super) fn size(&self) -> SegmentSize {
        self.size
    }

    /// Whether a segment lies elsewhere than in the archive, and can be read there.
    pub(super) fn lies_beside(&self, name: SegmentName) -> bool {
        self.unarchived.is_some_and(|unarchived| unarchived.has(name))
    }

    /// Reads a segment whole, verified and unpacked.
    ///
    /// # Errors
    /// Fails when it is not there, is damaged or cannot be decrypted.
    pub async fn segment(&self, name: SegmentName) -> Result<Vec<u8>, WalError> {
        let unarchived = self.unarchived.filter(|unarchived| unarchived.has(name));
        if let Some(bytes) = unarchived.and_then(|unarchived| unarchived.read(name)) {
            return Ok(bytes);
        }
        self.archived(name).await
    }

    /// The same of what the archive has.
    async fn archived(&self, name: SegmentName) -> Result<Vec<u8>, WalError> {
        read_first(&self.sources, WalFileName::Segment(name)).await
    }

    /// Walks one segment by itself.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub async fn scan(&self, name: SegmentName) -> Result<SegmentScan, WalError> {
        let (bytes, size) = (self.segment(name).await?, self.size);
        aside(move || SegmentScan::of(name, size, &bytes)).await
    }

    /// Walks segments that follow each other, one in memory at a time, and gives each record to `see`.
    /// Returns the position behind the last valid record; a record that breaks off ends the walk.
    ///
    /// # Errors
    /// Fails when a segment cannot be read.
    pub async fn walk<T: Send + 'static>(
        &self,
        path: &[SegmentName],
        mut told: T,
        see: fn(&mut T, &WalRecord<'_>),
    ) -> Result<(T, Option<Lsn>), WalError> {
        let mut walker = WalWalker::new(self.size);
        for name in path {
            let (bytes, name) = (self.segment(*name).await?, *name);
            (walker, told) = aside(move || {
                walker.segment(name, &bytes, &mut |record| see(&mut told, record));
                (walker, told)
            })
            .await?;
        }
        Ok((told, walker.end()))
    }

    /// Finds the newest commit on a path, looking back from its end until there is one; `None` when it holds none.
    ///
    /// # Errors
    /// Fails when a segment cannot be read.
    pub async fn newest_commit(&self, path: &[SegmentName]) -> Result<Option<Commit>, WalError> {
        self.newest_commit_before(path, Lsn(u64::MAX)).await
    }

    /// The same among the commits that begin before a position.
    ///
    /// # Errors
    /// Fails when a segment cannot be read.
    pub async fn newest_commit_before(&self, path: &[SegmentName], end: Lsn) -> Result<Option<Commit>, WalError> {
        let mut behind: Option<Loaded> = None;
        for name in path.iter().rev() {
            let mut run = vec![(*name, self.segment(*name).await?)];
            run.extend(behind.take());
            let (run, mut commits) = self.commits(run).await?;
            commits.retain(|commit| commit.lsn < end);
            if let Some(newest) = commits.into_iter().max_by_key(|commit| commit.at) {
                return Ok(Some(newest));
            }
            behind = run.into_iter().next();
        }
        Ok(None)
    }

    /// Finds the first commit on a path that replay to a time leaves out, by halving; `None` when there is none.
    ///
    /// # Errors
    /// Fails when a segment cannot be read.
    pub async fn stop_for(
        &self,
        path: &[SegmentName],
        (at, edge): (Timestamp, Edge),
    ) -> Result<Option<Stop>, WalError> {
        // Before `low` no segment by itself holds a commit behind the time, and from `high` to before `hit` none any commit.
        let (mut low, mut high, mut hit) = (0, path.len(), path.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_scan_with_commits(&path[middle..high]).await? {
                None => high = middle,
                Some((offset, last)) if edge.takes(last.at, at) => low = middle + offset + 1,
                Some((offset, _)) => (high, hit) = (middle, middle + offset),
            }
        }
        // A record that begins in one segment and ends in a later one counts for none of them alone.
        let from = low.saturating_sub(1);
        self.first_behind(&path[from..path.len().min(hit + 1)], (at, edge)).await
    }

    /// The first commit behind a time, one segment after the other.
    async fn first_behind(
        &self,
        path: &[SegmentName],
        (at, edge): (Timestamp, Edge),
    ) -> Result<Option<Stop>, WalError> {
        let (mut walker, mut last) = (WalWalker::new(self.size), None);
        for name in path {
            let (bytes, name, size) = (self.segment(*name).await?, *name, self.size);
            let (walked, commits) = aside(move || {
                let mut commits = Vec::new();
                let mut see = |record: &WalRecord<'_>| commits.extend(Commit::of(record));
                if let Walked::Halted(Halt::NotNext(_)) = walker.segment(name, &bytes, &mut see) {
                    // What lies between is not there: the walk begins anew.
                    walker = WalWalker::new(size);
                    walker.segment(name, &bytes, &mut see);
                }
                (walker, commits)
            })
            .await?;
            walker = walked;
            for next in commits {
                if !edge.takes(next.at, at) {
                    let begins = |name: &&SegmentName| name.start(size) <= next.lsn && next.lsn < name.end(size);
                    return Ok(path.iter().find(begins).map(|segment| Stop { segment: *segment, next, last }));
                }
                last = Some(next);
            }
        }
        Ok(None)
    }

    /// The first segment that has commits, and its last one.
    async fn first_scan_with_commits(&self, path: &[SegmentName]) -> Result<Option<(usize, Commit)>, WalError> {
        for (offset, name) in path.iter().enumerate() {
            if let Some(last) = self.scan(*name).await?.last_commit {
                return Ok(Some((offset, last)));
            }
        }
        Ok(None)
    }

    /// Lists the commits of a run of segments in the order of their positions.
    async fn commits(&self, run: Vec<Loaded>) -> Result<(Vec<Loaded>, Vec<Commit>), WalError> {
        let size = self.size;
        aside(move || {
            let (mut walker, mut commits) = (WalWalker::new(size), Vec::new());
            for (name, bytes) in &run {
                walker.segment(*name, bytes, &mut |record| commits.extend(Commit::of(record)));
            }
            (run, commits)
        })
        .await
    }
}

/// Does work that keeps a processor busy without holding up what waits for the network.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, WalError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| WalError::Usage(format!("reading WAL panicked: {error}")))
}
