//! Times of archived WAL: when what was committed, read from the segments themselves (ADR 10).
//!
//! Nothing is recorded when WAL is archived, so WAL that others archived is judged in the same way. Commit times are
//! the primary's clock, and a clock may step back: positions decide, times only lead to them.

use super::packed::{Source, read_file};
use super::{Identity, WalError};
use crate::base::Timestamp;
use crate::catalog::recovery::{Archive, Path};
use crate::pgformat::{
    Commit, Landmark, Lsn, SegmentName, SegmentScan, SegmentSize, Timeline, WalFileName, WalRecord, WalWalker,
};

/// How many segments of a new timeline are read to find its promotion.
const PROMOTED_WITHIN: u64 = 2;

/// Reads times out of the archive of one cluster.
#[derive(Clone, Copy)]
pub struct Almanac<'a> {
    source: Source<'a>,
    size: SegmentSize,
}

/// Where replay to a time stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The segment of the first commit behind the time.
    pub segment: SegmentName,
    /// The first commit behind the time: it is not replayed.
    pub next: Commit,
    /// The last commit that is replayed, when it is in the same segment or the one before.
    pub last: Option<Commit>,
}

/// A segment with its bytes.
type Loaded = (SegmentName, Vec<u8>);

impl<'a> Almanac<'a> {
    /// The almanac of an archive whose segments have this size.
    #[must_use]
    pub fn of(source: Source<'a>, size: SegmentSize) -> Self {
        let identity = Identity { segment_size: Some(size), ..source.identity };
        Self { source: Source { identity, ..source }, size }
    }

    /// Reads a segment whole, verified and unpacked.
    ///
    /// # Errors
    /// Fails when it is not there, is damaged or cannot be decrypted.
    pub async fn segment(&self, name: SegmentName) -> Result<Vec<u8>, WalError> {
        read_file(&self.source, WalFileName::Segment(name)).await
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
        let mut behind: Option<Loaded> = None;
        for name in path.iter().rev() {
            let mut run = vec![(*name, self.segment(*name).await?)];
            run.extend(behind.take());
            let (run, commits) = self.commits(run).await?;
            if let Some(newest) = commits.into_iter().max_by_key(|commit| commit.at) {
                return Ok(Some(newest));
            }
            behind = run.into_iter().next();
        }
        Ok(None)
    }

    /// Finds the first commit on a path behind a time, by halving; `None` when there is none.
    ///
    /// # Errors
    /// Fails when a segment cannot be read.
    pub async fn stop_for(&self, path: &[SegmentName], at: Timestamp) -> Result<Option<Stop>, WalError> {
        // Before `low` nothing is behind the time; from `high` on everything is, or nothing is known.
        let (mut low, mut high) = (0, path.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_scan_with_commits(&path[middle..high]).await? {
                None => high = middle,
                Some((offset, last)) if last.at <= at => low = middle + offset + 1,
                Some(_) => high = middle,
            }
        }
        // A record that begins in one segment and ends in the next counts for neither alone.
        let from = low.saturating_sub(1);
        let mut run = Vec::new();
        for name in path.get(from..path.len().min(low + 2)).unwrap_or_default() {
            run.push((*name, self.segment(*name).await?));
        }
        let (_, commits) = self.commits(run).await?;
        let Some(index) = commits.iter().position(|commit| commit.at > at) else { return Ok(None) };
        let next = commits[index];
        let segment = path.iter().find(|name| name.start(self.size) <= next.lsn && next.lsn < name.end(self.size));
        let last = index.checked_sub(1).map(|before| commits[before]);
        Ok(segment.map(|segment| Stop { segment: *segment, next, last }))
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

    /// Finds when a timeline was promoted; `None` when the segments that would tell are not there.
    ///
    /// # Errors
    /// Fails when a segment cannot be read.
    pub async fn promoted_at(&self, archive: &Archive, timeline: Timeline) -> Result<Option<Timestamp>, WalError> {
        let Some((_, fork)) = archive.branches.get(&timeline).and_then(|branch| branch.history.parent()) else {
            return Ok(None);
        };
        let first = self.size.number_of(fork);
        let own = |number| SegmentName::new(timeline, number, self.size);
        let path: Vec<SegmentName> =
            (first..first + PROMOTED_WITHIN).map(own).take_while(|name| archive.holds(*name)).collect();
        let (found, _) = self.walk(&path, (timeline, None), see_promotion).await?;
        Ok(found.1)
    }

    /// Finds what a decision about times needs to know of the timelines: when each was promoted, and the newest
    /// commit that each one itself wrote.
    ///
    /// # Errors
    /// Fails when a segment cannot be read.
    pub async fn date(&self, archive: &mut Archive) -> Result<(), WalError> {
        let timelines: Vec<Timeline> = archive.branches.keys().copied().collect();
        for timeline in timelines {
            if let Some(at) = self.promoted_at(archive, timeline).await?
                && let Some(branch) = archive.branches.get_mut(&timeline)
            {
                branch.created_at = at;
            }
        }
        for timeline in archive
            .branches
            .values()
            .filter_map(|branch| branch.history.parent())
            .map(|(one, _)| one)
            .collect::<Vec<_>>()
        {
            let own = self.own(archive, timeline);
            if let Some(newest) = self.newest_commit(&own).await? {
                archive.newest.insert(timeline, newest.at);
            }
        }
        Ok(())
    }

    /// The readable segments that a timeline wrote by itself, from the fork of its first child on: what lies before
    /// its children have as well.
    fn own(&self, archive: &Archive, timeline: Timeline) -> Vec<SegmentName> {
        let forks = archive.branches.values().filter_map(|branch| branch.history.switch_of(timeline));
        let first = forks.min().map_or(0, |fork| self.size.number_of(fork));
        let path: Path = archive.path(timeline);
        let own = |name: &&SegmentName| {
            name.timeline() == timeline
                && path.holds(**name)
                && name.number(self.size) >= first
                && archive.holds(**name)
        };
        archive.segments.keys().filter(own).copied().collect()
    }
}

fn see_promotion(told: &mut (Timeline, Option<Timestamp>), record: &WalRecord<'_>) {
    if let Some(Landmark::Promotion { timeline, at, .. }) = Landmark::of(record)
        && timeline == told.0
    {
        told.1.get_or_insert(at);
    }
}

/// Does work that keeps a processor busy without holding up what waits for the network.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, WalError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| WalError::Usage(format!("reading WAL panicked: {error}")))
}
