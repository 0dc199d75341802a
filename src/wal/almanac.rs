//! Times of archived WAL: when what was committed, read from the segments themselves (ADR 10).
//!
//! Nothing is recorded when WAL is archived, so WAL that others archived is judged in the same way. Commit times are
//! the primary's clock, and a clock may step back: positions decide, times only lead to them.

use std::collections::BTreeSet;

use super::packed::Source;
use super::preference::read_first;
use super::{Identity, WalError};
use crate::action::StoreError;
use crate::base::Timestamp;
use crate::catalog::recovery::{Archive, Edge, LastCommit, Path};
use crate::pgformat::{
    Commit, Halt, Landmark, Lsn, SegmentName, SegmentScan, SegmentSize, Timeline, WalFileName, WalRecord, WalWalker,
    Walked,
};

/// How many segments of a new timeline are read to find its promotion.
const PROMOTED_WITHIN: u64 = 2;

/// Reads times out of the archive of one cluster.
#[derive(Clone)]
pub struct Almanac<'a> {
    sources: Vec<Source<'a>>,
    size: SegmentSize,
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

impl<'a> Almanac<'a> {
    /// The almanac of an archive whose segments have this size. Of several stores the first that has a segment whole counts.
    #[must_use]
    pub fn of(mut sources: Vec<Source<'a>>, size: SegmentSize) -> Self {
        for source in &mut sources {
            source.identity = Identity { segment_size: Some(size), ..source.identity };
        }
        Self { sources, size }
    }

    /// Reads a segment whole, verified and unpacked.
    ///
    /// # Errors
    /// Fails when it is not there, is damaged or cannot be decrypted.
    pub async fn segment(&self, name: SegmentName) -> Result<Vec<u8>, WalError> {
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
    /// commit that each one itself wrote. Of one that none went on from, a segment that is damaged tells nothing.
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
                archive.promoted.insert(timeline, at);
            }
        }
        for timeline in archive
            .branches
            .values()
            .filter_map(|branch| branch.history.parent())
            .map(|(one, _)| one)
            .chain(archive.given_up.keys().copied())
            .collect::<Vec<_>>()
        {
            let own = self.own(archive, timeline);
            if let Some(newest) = self.newest_commit(&own).await? {
                archive.saw(timeline, LastCommit { at: newest.at, lsn: newest.lsn });
            }
        }
        let ends: Vec<Timeline> =
            archive.branches.keys().filter(|one| !archive.newest.contains_key(one)).copied().collect();
        for timeline in ends {
            let newest = match self.newest_commit(&self.own(archive, timeline)).await {
                Err(WalError::Store(StoreError::Archived { .. })) => None,
                Err(error) if error.is_fault() => None,
                newest => newest?,
            };
            if let Some(newest) = newest {
                archive.wrote(timeline, newest.at);
            }
        }
        Ok(())
    }

    /// Finds what a decision about the newest state needs to know where timelines have parted: the newest commit at the end
    /// of each, on the way there from `start` on, and when each was promoted. A segment that is damaged tells nothing, and the one before it counts.
    ///
    /// # Errors
    /// Fails when a segment cannot be read for another reason.
    pub async fn date_ends(&self, archive: &mut Archive, start: Lsn) -> Result<(), WalError> {
        if archive.branches.is_empty() {
            return Ok(());
        }
        let mut timelines: BTreeSet<Timeline> = archive.branches.keys().copied().collect();
        timelines.extend(archive.segments.keys().map(|name| name.timeline()));
        for timeline in timelines {
            let promoted = match self.promoted_at(archive, timeline).await {
                Err(WalError::Store(StoreError::Archived { .. })) => None,
                Err(error) if error.is_fault() => None,
                promoted => promoted?,
            };
            if let Some(at) = promoted {
                archive.promoted.insert(timeline, at);
            }
            for name in self.end(archive, timeline, start).into_iter().rev() {
                let newest = match self.newest_commit(&[name]).await {
                    // What was put away that long ago is not what is recovered; nor is what lies before it.
                    Err(WalError::Store(StoreError::Archived { .. })) => break,
                    Err(error) if error.is_fault() => None,
                    newest => newest?,
                };
                if let Some(newest) = newest {
                    archive.saw(timeline, LastCommit { at: newest.at, lsn: newest.lsn });
                    break;
                }
            }
        }
        Ok(())
    }

    /// The readable segments at the end of a timeline: of one that others left, what is not theirs as well; of any other
    /// one, the way there.
    fn end(&self, archive: &Archive, timeline: Timeline, start: Lsn) -> Vec<SegmentName> {
        if archive.branches.values().any(|branch| branch.history.switch_of(timeline).is_some()) {
            return self.own(archive, timeline);
        }
        let (path, first) = (archive.path(timeline), self.size.number_of(start));
        let last =
            archive.segments.keys().filter(|name| name.timeline() == timeline).map(|name| name.number(self.size));
        let begin = archive.branches.get(&timeline).and_then(|branch| branch.history.parent()).map(|(_, fork)| fork);
        let Some(last) = last.max().or(begin.map(|fork| self.size.number_of(fork))) else { return Vec::new() };
        (first..=last).map(|number| path.name(number)).filter(|name| archive.holds(*name)).collect()
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
