//! The WAL tail of the old data directory: what was flushed but never archived (facts 2.10.1).
//!
//! A segment counts only as far as it is proven: its header must name this cluster and this very
//! place, and its records must follow each other with right checksums. Where the proof ends, the
//! tail ends. Nothing here changes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::action::{ActionError, FileKind, HostError, ReadFiles};
use crate::actions::postgres::restore::flushed::Flushed;
use crate::actions::postgres::stores::target::Goal;
use crate::base::Timestamp;
use crate::catalog::GivenUp;
use crate::catalog::recovery::{Archive, Branch, LastCommit};
use crate::pgformat::{
    ArchiverNotes, Lsn, SegmentHeader, SegmentName, SegmentScan, SegmentSize, SystemId, Timeline, TimelineHistory,
    WAL_PAGE_BYTES, WalFileName, WalWalker, Walked, is_number_taken,
};

/// A file of the tail that is worth keeping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rescued {
    /// Its name in the archive.
    pub(crate) name: WalFileName,
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// The newest commit in it, by the primary's clock.
    pub(crate) newest_commit: Option<LastCommit>,
    /// The oldest one.
    pub(crate) oldest_commit: Option<Timestamp>,
}

/// What an old data directory tells at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glance {
    /// The newest commit found in its newest WAL, by the primary's clock.
    pub(crate) newest_commit: Option<Timestamp>,
    /// How many of its segments the archive lacks, empty ones for later use not counted.
    pub(crate) unarchived: usize,
    /// Its newest segment, and where it lies.
    pub(crate) newest: Option<(SegmentName, PathBuf)>,
}

/// The largest history file that is read.
const HISTORY_LIMIT: u64 = 4 << 20;

/// How many segments a glance reads at most.
const GLANCE: usize = 8;

/// What an old `pg_wal` holds beyond the archive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tail {
    /// The files to push, in order.
    pub(crate) files: Vec<Rescued>,
    /// Segments that the archive has, though the old server was never told so.
    pub(crate) untold: Vec<(SegmentName, PathBuf)>,
    /// The end of proven WAL on the newest timeline: everything up to here was flushed.
    pub(crate) end: Option<Flushed>,
    /// The newest commit in it, by the primary's clock.
    pub(crate) newest_commit: Option<Timestamp>,
    /// Segments that are there and prove nothing, with the reason.
    pub(crate) unproven: Vec<String>,
    /// Timelines whose history only the old server has.
    pub(crate) branches: BTreeMap<Timeline, Branch>,
    /// Where WAL that was flushed cannot be read, on the newest timeline.
    pub(crate) torn: Option<Torn>,
    /// The timeline that an unfinished recovery opened too early, whose data directory this is.
    pub(crate) given_up: Option<GivenUp>,
}

/// WAL that the old server had flushed and that proves nothing any more. A segment is synced before the next one is
/// begun (`XLogWrite` in `xlog.c`), so one that belongs there proves that all before it were whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Torn {
    /// The first segment that is not whole.
    pub(crate) segment: SegmentName,
    /// Why it is not.
    pub(crate) why: String,
    /// Up to where WAL is proven before it.
    pub(crate) proven: Lsn,
    /// The last segment that was begun.
    pub(crate) latest: SegmentName,
}

impl Torn {
    /// What is lost, in words.
    pub(crate) fn words(&self) -> String {
        let Self { segment, why, proven, latest } = self;
        format!(
            "the old server's `{segment}` proves nothing behind {proven} ({why}), though its WAL went on to `{latest}`"
        )
    }
}

impl Tail {
    /// The segments to push.
    pub(crate) fn segments(&self) -> impl Iterator<Item = SegmentName> {
        self.files.iter().filter_map(|file| match file.name {
            WalFileName::Segment(segment) => Some(segment),
            WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. } => None,
        })
    }

    /// Adds the newest commits of it to what is known of each timeline's end.
    pub(crate) fn seen_by(&self, archive: &mut Archive) {
        for file in &self.files {
            if let (WalFileName::Segment(name), Some(commit)) = (file.name, file.newest_commit) {
                archive.saw(name.timeline(), commit);
            }
        }
    }

    /// Adds when its timelines were last written to.
    pub(crate) fn lives_in(&self, archive: &mut Archive) {
        for file in &self.files {
            if let (WalFileName::Segment(name), Some(commit)) = (file.name, file.newest_commit) {
                archive.wrote(name.timeline(), commit.at);
            }
        }
    }

    /// Takes a history. One that makes no sense is found out when it is pushed; what only keeps the number of a lost one is none.
    fn history(&mut self, files: &dyn ReadFiles, name: WalFileName, path: PathBuf) -> Result<(), HostError> {
        let text = files.read(&path, HISTORY_LIMIT)?;
        if is_number_taken(&text) {
            return Ok(());
        }
        if let WalFileName::History(timeline) = name
            && let Ok(history) = TimelineHistory::parse(timeline, &String::from_utf8_lossy(&text))
        {
            self.branches.insert(timeline, Branch { history, created_at: Timestamp::MAX });
        }
        self.files.push(Rescued { name, path, newest_commit: None, oldest_commit: None });
        Ok(())
    }

    /// Where a segment of it lies.
    pub(crate) fn path_of(&self, segment: SegmentName) -> Option<PathBuf> {
        let name = WalFileName::Segment(segment);
        self.files.iter().find(|file| file.name == name).map(|file| file.path.clone())
    }

    /// Refuses to take the end of what is proven for the end of the WAL, unless that very position is asked for.
    ///
    /// # Errors
    /// Fails when a server that is told `told` for `asked` would open without what is known to be lost.
    pub(crate) fn leads_to(&self, asked: &Goal, told: &Goal) -> Result<(), ActionError> {
        let Some(torn) = self.torn.as_ref().filter(|_| *told == Goal::Newest) else { return Ok(()) };
        if matches!(asked, Goal::Lsn(lsn) if *lsn <= torn.proven) {
            return Ok(());
        }
        Err(ActionError::fatal(torn.words()).help(format!(
            "bring back a whole copy of that segment, or go without what lies behind it: recover to `target_lsn: {proven}` \
             (`runbook run pitr … -p recover_to_lsn={proven}`)",
            proven = torn.proven
        )))
    }
}

/// How far a timeline was walked.
struct Walk {
    /// The number of the segment that follows.
    next: u64,
    walker: WalWalker,
    /// The end of proven WAL.
    end: Option<Lsn>,
    broken: Option<Broken>,
}

/// Where a walk ended.
struct Broken {
    segment: SegmentName,
    why: String,
    /// The last segment behind it that was begun.
    latest: Option<SegmentName>,
}

/// What a tail is judged by.
pub(crate) struct Judge<'a> {
    /// The cluster.
    pub(crate) system_id: SystemId,
    /// Its segment size.
    pub(crate) size: SegmentSize,
    /// What the archive holds already.
    pub(crate) archived: &'a BTreeSet<WalFileName>,
}

/// What a server was told of its segments.
fn notes(files: &dyn ReadFiles, folder: &Path) -> Result<ArchiverNotes, HostError> {
    let (folder, mut notes) = (folder.join(ArchiverNotes::FOLDER), ArchiverNotes::default());
    if files.facts(&folder)?.is_some() {
        files.list(&folder)?.iter().for_each(|entry| notes.take(&entry.name));
    }
    Ok(notes)
}

/// Judges the `pg_wal` folder of a cluster as [`Judge::tail`] does, without holding up what waits for the network.
///
/// # Errors
/// The inner one is that of [`Judge::tail`].
pub(crate) async fn tail_of(
    (system_id, size): (SystemId, SegmentSize),
    archived: BTreeSet<WalFileName>,
    (files, folder): (Arc<dyn ReadFiles>, PathBuf),
) -> Result<Result<Tail, HostError>, ActionError> {
    let judging = tokio::task::spawn_blocking(move || {
        Judge { system_id, size, archived: &archived }.tail(files.as_ref(), &folder)
    });
    judging.await.map_err(|error| ActionError::fatal("looking at the server's own WAL panicked").because(&error))
}

impl Judge<'_> {
    /// Judges a `pg_wal` folder. Blocking.
    ///
    /// # Errors
    /// Fails when the folder or a file of it cannot be read.
    pub(crate) fn tail(&self, files: &dyn ReadFiles, folder: &Path) -> Result<Tail, HostError> {
        let mut tail = Tail::default();
        let mut timelines: BTreeMap<Timeline, BTreeMap<u64, SegmentName>> = BTreeMap::new();
        for entry in files.list(folder)? {
            let name = entry.name.to_str().and_then(|name| name.parse::<WalFileName>().ok());
            match name {
                Some(WalFileName::Segment(segment)) if entry.facts.kind == FileKind::File => {
                    timelines.entry(segment.timeline()).or_default().insert(segment.number(self.size), segment);
                }
                Some(name @ WalFileName::History(_)) if !self.archived.contains(&name) => {
                    tail.history(files, name, folder.join(&entry.name))?;
                }
                _ => {}
            }
        }
        let told = notes(files, folder)?;
        for segments in timelines.values() {
            self.timeline((files, folder), segments, &told, &mut tail)?;
        }
        Ok(tail)
    }

    /// Walks the segments of one timeline from the first that the archive lacks.
    fn timeline(
        &self,
        (files, folder): (&dyn ReadFiles, &Path),
        segments: &BTreeMap<u64, SegmentName>,
        told: &ArchiverNotes,
        tail: &mut Tail,
    ) -> Result<(), HostError> {
        let first = self.first(segments, told);
        let mut walk = Walk { next: first, walker: WalWalker::new(self.size), end: None, broken: None };
        for (number, segment) in segments.range(first..) {
            let path = folder.join(segment.to_string());
            if *number != walk.next && walk.broken.is_none() {
                self.skip(*number, segment.timeline(), &mut walk);
            }
            walk.next = number + 1;
            match &mut walk.broken {
                None => self.segment((files, told), (*segment, path), &mut walk, tail)?,
                Some(broken) if self.begins(files, *segment, &path)? => broken.latest = Some(*segment),
                Some(_) => {}
            }
        }
        let torn = walk.broken.and_then(|broken| self.torn(broken, walk.end));
        if walk.end.is_some() || torn.is_some() {
            let begun = torn.as_ref().map(|torn| torn.latest.start(self.size));
            let timeline = segments.values().next().map(|segment| segment.timeline());
            let end = timeline.zip(walk.end.max(begun)).map(|(timeline, lsn)| Flushed { timeline, lsn });
            tail.end = tail.end.max(end);
            tail.torn = torn;
        }
        Ok(())
    }

    /// Goes on behind a gap that the archive fills; any other one breaks the walk.
    fn skip(&self, number: u64, timeline: Timeline, walk: &mut Walk) {
        let mut gap = (walk.next..number).map(|number| SegmentName::new(timeline, number, self.size));
        match gap.find(|segment| !self.archived.contains(&WalFileName::Segment(*segment))) {
            None => walk.walker = WalWalker::new(self.size),
            Some(segment) => walk.broken = Some(Broken { segment, why: "it is not there".to_owned(), latest: None }),
        }
    }

    /// Walks one segment. One that the archive has anyway breaks nothing.
    fn segment(
        &self,
        (files, told): (&dyn ReadFiles, &ArchiverNotes),
        (segment, path): (SegmentName, PathBuf),
        walk: &mut Walk,
        tail: &mut Tail,
    ) -> Result<(), HostError> {
        let bytes = files.read(&path, self.size.bytes())?;
        let name = WalFileName::Segment(segment);
        let is_archived = self.archived.contains(&name);
        let (mut newest, mut oldest) = (None, None);
        let mut see = |record: &crate::pgformat::WalRecord<'_>| {
            let at = record.committed_at();
            newest = newest.max(at.map(|at| LastCommit { at, lsn: record.lsn }));
            oldest = [oldest, at].into_iter().flatten().min();
        };
        let before = walk.walker.end();
        let why = match self.belongs(segment, &bytes) {
            Err(why) => Some(why),
            Ok(()) => match walk.walker.segment(segment, &bytes, &mut see) {
                Walked::ToTheEnd => None,
                Walked::Halted(halt) => Some(halt.to_string()),
            },
        };
        let end = walk.walker.end().filter(|end| *end > segment.start(self.size) && Some(*end) != before);
        if why.is_none() || end.is_some() {
            walk.end = walk.end.max(walk.walker.end().filter(|end| *end > segment.start(self.size)));
            tail.newest_commit = tail.newest_commit.max(newest.map(|commit| commit.at));
            if !is_archived {
                tail.files.push(Rescued { name, path, newest_commit: newest, oldest_commit: oldest });
            } else if told.waiting.contains(&segment) || (why.is_some() && !told.safe.contains(&segment)) {
                // It waits, or is still being written: the archive may have less of it.
                tail.untold.push((segment, path));
            }
        } else if let Some(why) = why.as_ref().filter(|_| !is_archived) {
            tail.unproven.push(format!("`{segment}`: {why}"));
        }
        match why {
            Some(_) if is_archived => walk.walker = WalWalker::new(self.size),
            Some(why) => walk.broken = Some(Broken { segment, why, latest: None }),
            None => {}
        }
        Ok(())
    }

    /// What was flushed behind the place at which a walk ended; `None` when nothing was.
    fn torn(&self, broken: Broken, end: Option<Lsn>) -> Option<Torn> {
        let Broken { segment, why, latest } = broken;
        let archived = self.archived.iter().rev().find_map(|name| match name {
            WalFileName::Segment(name) => (name.timeline() == segment.timeline() && *name > segment).then_some(*name),
            WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. } => None,
        });
        let latest = latest.max(archived)?;
        let start = segment.start(self.size);
        Some(Torn { segment, why, proven: end.map_or(start, |end| end.max(start)), latest })
    }

    /// The number to begin with: the newest segment that the archive has, for continuity, before the first it lacks.
    fn first(&self, segments: &BTreeMap<u64, SegmentName>, told: &ArchiverNotes) -> u64 {
        let lacking = |segment: &SegmentName| {
            told.waiting.contains(segment) || !self.archived.contains(&WalFileName::Segment(*segment))
        };
        match segments.iter().find(|(_, segment)| lacking(segment)).map(|(number, _)| *number) {
            Some(number) if number > 0 && segments.contains_key(&(number - 1)) => number - 1,
            Some(number) => number,
            None => segments.keys().next_back().copied().unwrap_or_default(),
        }
    }

    /// Tells whether a segment was begun at its place, by its first page. One that is kept for later use was not.
    fn begins(&self, files: &dyn ReadFiles, segment: SegmentName, path: &Path) -> Result<bool, HostError> {
        let size_bytes = files.facts(path)?.map_or(0, |facts| facts.size_bytes);
        let mut page = Vec::new();
        let read = files.open(path)?.take(WAL_PAGE_BYTES as u64).read_to_end(&mut page);
        read.map_err(|source| HostError::File { operation: "read", path: path.to_owned(), source })?;
        Ok(SegmentHeader::parse(&page)
            .is_ok_and(|header| header.system_id == self.system_id && header.check(segment, size_bytes).is_ok()))
    }

    /// Looks at the newest segments only; reads little, also of a live server. Blocking.
    ///
    /// # Errors
    /// Fails when the folder or a file of it cannot be read.
    pub(crate) fn glance(&self, files: &dyn ReadFiles, folder: &Path) -> Result<Glance, HostError> {
        let mut segments: Vec<SegmentName> = Vec::new();
        for entry in files.list(folder)? {
            let Some(segment) = entry.name.to_str().and_then(|name| name.parse::<SegmentName>().ok()) else { continue };
            if self.begins(files, segment, &folder.join(&entry.name))? {
                segments.push(segment);
            }
        }
        segments.sort_unstable();
        let lacks = |segment: &&SegmentName| !self.archived.contains(&WalFileName::Segment(**segment));
        let unarchived = segments.iter().filter(lacks).count();
        let mut newest_commit = None;
        for segment in segments.iter().rev().take(GLANCE) {
            let bytes = files.read(&folder.join(segment.to_string()), self.size.bytes())?;
            newest_commit = newest_commit.max(SegmentScan::of(*segment, self.size, &bytes).newest_commit);
            if newest_commit.is_some() {
                break;
            }
        }
        let newest = segments.last().map(|segment| (*segment, folder.join(segment.to_string())));
        Ok(Glance { newest_commit, unarchived, newest })
    }

    fn belongs(&self, segment: SegmentName, bytes: &[u8]) -> Result<(), String> {
        let header = SegmentHeader::parse(bytes).map_err(|error| error.to_string())?;
        header.check(segment, bytes.len() as u64).map_err(|error| error.to_string())?;
        if header.system_id != self.system_id {
            return Err(format!("it is of cluster {}, not {}", header.system_id, self.system_id));
        }
        Ok(())
    }
}
