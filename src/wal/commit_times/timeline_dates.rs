//! What a decision about timelines needs to know of their times: when each was promoted, and what was committed on it last.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::WalError;
use super::{CommitTimes, Loaded};
use crate::action::StoreError;
use crate::base::{Timestamp, clock};
use crate::catalog::recovery::{Archive, LastCommit, Part, Path, Unread};
use crate::pgformat::{Commit, Landmark, Lsn, SegmentName, Timeline, WalRecord};

/// How many segments of a new timeline are read to find its promotion.
const PROMOTED_WITHIN: u64 = 2;
/// How many segments at the end of each timeline are read before it is asked whether going on is of any use.
const A_LITTLE: usize = 4;
/// A checkpoint is dated to the second, a little before the position where replay from it begins.
const CHECKPOINT_TOLERANCE: Duration = Duration::from_secs(60);

/// The end of a timeline, read back from there.
struct End {
    timeline: Timeline,
    /// What was not read yet, oldest first.
    left: Vec<SegmentName>,
    /// The checkpoints that were met.
    checkpoints: Vec<(Lsn, Timestamp)>,
}

impl End {
    /// Tells whether all that lies before a position is older than a commit of another timeline.
    fn is_older(&self, before: Lsn, than: Option<Timestamp>) -> bool {
        let is_past = |(redo, at): &(Lsn, Timestamp)| {
            before <= *redo && than.is_some_and(|than| clock::between(*at, than) > CHECKPOINT_TOLERANCE)
        };
        self.checkpoints.iter().any(is_past)
    }
}

/// What a segment by itself tells of times.
#[derive(Default)]
struct Dates {
    newest: Option<Commit>,
    /// Where replay from each checkpoint begins, and when it began.
    checkpoints: Vec<(Lsn, Timestamp)>,
}

impl Dates {
    fn see(&mut self, record: &WalRecord<'_>) {
        if let Some(commit) = Commit::of(record) {
            self.newest = self.newest.filter(|newest| newest.at > commit.at).or(Some(commit));
        } else if let Some(Landmark::Checkpoint { redo, at }) = Landmark::of(record) {
            self.checkpoints.push((redo, at));
        }
    }

    /// When the newest thing in it happened that has a time.
    fn last_sign(&self) -> Option<Timestamp> {
        let checkpoints = self.checkpoints.iter().map(|(_, at)| *at);
        checkpoints.chain(self.newest.map(|commit| commit.at)).max()
    }
}

impl CommitTimes<'_> {
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
    /// commit that each one itself wrote. A segment that is damaged, or was put away, tells nothing: it may be one that nobody
    /// wants, and what is on the way is judged as it is read. One that no key here opens is noted (`Archive::unread`).
    ///
    /// # Errors
    /// Fails when a segment cannot be read for another reason.
    pub async fn date(&self, archive: &mut Archive) -> Result<(), WalError> {
        let timelines: Vec<Timeline> = archive.branches.keys().copied().collect();
        for timeline in timelines {
            let promoted = self.promoted_at(archive, timeline).await;
            if let Some(at) = told(archive, timeline, promoted)?
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
            self.date_own(archive, timeline, own).await?;
        }
        let ends: Vec<Timeline> =
            archive.branches.keys().filter(|one| !archive.newest.contains_key(one)).copied().collect();
        for timeline in ends {
            self.date_last_sign(archive, timeline).await?;
        }
        Ok(())
    }

    /// Finds when a timeline was last written to: by the last commit or checkpoint in it, whichever lies nearest to its
    /// end. A segment that cannot be read tells nothing, and the one before it counts.
    async fn date_last_sign(&self, archive: &mut Archive, timeline: Timeline) -> Result<(), WalError> {
        for name in self.own(archive, timeline).into_iter().rev() {
            let walked = self.walk(&[name], Dates::default(), Dates::see).await.map(|(dates, _)| Some(dates));
            match walked {
                // What was put away that long ago is not what is recovered; nor is what lies before it.
                Err(WalError::Store(StoreError::Archived { .. })) => return Ok(()),
                // What lies before it is older than what it may hold.
                Err(error) if error.is_of_key() => {
                    archive.could_not_read((timeline, Part::End), self.locked(name, &error));
                    return Ok(());
                }
                walked => {
                    if let Some(at) = untold(walked)?.and_then(|dates| dates.last_sign()) {
                        archive.wrote(timeline, at);
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Finds whether somebody went on with a timeline that was given up: by the commits of the segment in which it was
    /// stopped. What cannot be read there tells nothing.
    ///
    /// # Errors
    /// Fails when a segment cannot be read for another reason than that it is damaged or put away.
    pub async fn date_given_up(&self, archive: &mut Archive) -> Result<(), WalError> {
        for (timeline, until) in archive.given_up.clone() {
            let last = SegmentName::new(timeline, self.size.number_of(until), self.size);
            if !archive.holds(last) {
                continue;
            }
            match self.newest_commit(&[last]).await {
                Ok(Some(newest)) => archive.saw(timeline, LastCommit { at: newest.at, lsn: newest.lsn }),
                Ok(None) | Err(WalError::Store(StoreError::Archived { .. })) => {}
                Err(error) if error.is_fault() || error.is_of_key() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Finds what a decision about the newest state needs to know where timelines have parted: the newest commit at the end
    /// of each, on the way there from `start` on, and when each was promoted. A segment that is damaged tells nothing, and the
    /// one before it counts. One that no key here opens is noted (`Archive::unread`).
    ///
    /// A server that is idle archives for days without a commit. So each timeline is read a little way back, and from there
    /// on only until its checkpoints tell that what lies before is older than what another one has: then nothing is told of
    /// it, and it leads at least to the end of the backup.
    ///
    /// # Errors
    /// Fails when a segment cannot be read for another reason.
    pub async fn date_ends(&self, archive: &mut Archive, start: Lsn) -> Result<(), WalError> {
        if archive.branches.is_empty() {
            return Ok(());
        }
        let mut timelines: BTreeSet<Timeline> = archive.branches.keys().copied().collect();
        timelines.extend(archive.segments.keys().map(|name| name.timeline()));
        for timeline in &timelines {
            let promoted = self.promoted_at(archive, *timeline).await;
            if let Some(at) = told(archive, *timeline, promoted)? {
                archive.promoted.insert(*timeline, at);
            }
        }
        let end = |timeline| End { timeline, left: self.end(archive, timeline, start), checkpoints: Vec::new() };
        let mut ends: Vec<End> = timelines.into_iter().map(end).collect();
        for at_most in [A_LITTLE, usize::MAX] {
            for end in &mut ends {
                self.date_end(archive, end, at_most).await?;
            }
        }
        Ok(())
    }

    /// Notes the newest commit at the end of a timeline; the one before what is damaged. What was put away that long ago is
    /// not what is recovered; nor is what lies before it. What lies before a segment that no key here opens is older than what
    /// that may hold, so it tells nothing either.
    async fn date_own(&self, archive: &mut Archive, timeline: Timeline, end: Vec<SegmentName>) -> Result<(), WalError> {
        let mut behind: Option<Loaded> = None;
        for name in end.into_iter().rev() {
            let bytes = match self.segment(name).await {
                Err(WalError::Store(StoreError::Archived { .. })) => return Ok(()),
                Err(error) if error.is_of_key() => {
                    archive.could_not_read((timeline, Part::End), self.locked(name, &error));
                    return Ok(());
                }
                Err(error) if error.is_fault() => {
                    behind = None;
                    continue;
                }
                bytes => bytes?,
            };
            let mut run = vec![(name, bytes)];
            run.extend(behind.take());
            let (run, commits) = self.commits(run).await?;
            if let Some(newest) = commits.into_iter().max_by_key(|commit| commit.at) {
                archive.saw(timeline, LastCommit { at: newest.at, lsn: newest.lsn });
                return Ok(());
            }
            behind = run.into_iter().next();
        }
        Ok(())
    }

    /// Reads back from the end of one timeline, so many segments, to a commit or to what is older than one of another.
    async fn date_end(&self, archive: &mut Archive, end: &mut End, at_most: usize) -> Result<(), WalError> {
        for _ in 0..at_most {
            let Some(name) = end.left.pop() else { return Ok(()) };
            // What a server wrote that was given up is no measure for the others: nobody follows it.
            let kept = archive.newest.iter().filter(|(one, _)| !archive.is_given_up(**one));
            let best = kept.map(|(_, newest)| newest.at).max();
            let is_given_up = archive.given_up.contains_key(&end.timeline);
            if !is_given_up && end.is_older(name.end(self.size), best) {
                end.left.clear();
                return Ok(());
            }
            let dates = match self.walk(&[name], Dates::default(), Dates::see).await {
                // What was put away that long ago is not what is recovered; nor is what lies before it.
                Err(WalError::Store(StoreError::Archived { .. })) => {
                    end.left.clear();
                    return Ok(());
                }
                Err(error) if error.is_of_key() => {
                    archive.could_not_read((end.timeline, Part::End), self.locked(name, &error));
                    end.left.clear();
                    return Ok(());
                }
                Err(error) if error.is_fault() => continue,
                walked => walked?.0,
            };
            if let Some(newest) = dates.newest {
                archive.saw(end.timeline, LastCommit { at: newest.at, lsn: newest.lsn });
                end.left.clear();
                return Ok(());
            }
            if let Some(at) = dates.last_sign() {
                archive.wrote(end.timeline, at);
            }
            end.checkpoints.extend(dates.checkpoints);
        }
        Ok(())
    }

    /// What is known of a segment that no key here opens.
    fn locked(&self, name: SegmentName, error: &WalError) -> Unread {
        Unread { until: name.end(self.size), why: error.to_string() }
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

/// What a segment that is damaged, or was put away, tells: nothing.
fn untold<T>(read: Result<Option<T>, WalError>) -> Result<Option<T>, WalError> {
    match read {
        Err(WalError::Store(StoreError::Archived { .. })) => Ok(None),
        Err(error) if error.is_fault() => Ok(None),
        read => read,
    }
}

/// The same of the promotion of a timeline, and notes where no key here opens it.
fn told(
    archive: &mut Archive,
    timeline: Timeline,
    read: Result<Option<Timestamp>, WalError>,
) -> Result<Option<Timestamp>, WalError> {
    match read {
        Err(error) if error.is_of_key() => {
            let fork = archive.branches.get(&timeline).and_then(|branch| branch.history.parent());
            let until = fork.map(|(_, fork)| fork).unwrap_or_default();
            archive.could_not_read((timeline, Part::Promotion), Unread { until, why: error.to_string() });
            Ok(None)
        }
        read => untold(read),
    }
}

fn see_promotion(told: &mut (Timeline, Option<Timestamp>), record: &WalRecord<'_>) {
    if let Some(Landmark::Promotion { timeline, at, .. }) = Landmark::of(record)
        && timeline == told.0
    {
        told.1.get_or_insert(at);
    }
}
