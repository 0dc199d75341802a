//! The WAL tail of the old data directory: what was flushed but never archived (facts 2.10.1).
//!
//! A segment counts only as far as it is proven: its header must name this cluster and this very
//! place, and its records must follow each other with right checksums. Where the proof ends, the
//! tail ends. Nothing here changes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::action::{FileKind, HostError, ReadFiles};
use crate::base::Timestamp;
use crate::catalog::recovery::Branch;
use crate::pgformat::{
    Lsn, SegmentHeader, SegmentName, SegmentScan, SegmentSize, SystemId, Timeline, TimelineHistory, WAL_PAGE_BYTES,
    WalFileName, WalWalker, Walked,
};

/// A file of the tail that is worth keeping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rescued {
    /// Its name in the archive.
    pub(crate) name: WalFileName,
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// The newest commit in it, by the primary's clock.
    pub(crate) newest_commit: Option<Timestamp>,
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
    /// The end of proven WAL on the newest timeline: everything up to here was flushed.
    pub(crate) end: Option<Lsn>,
    /// The newest commit in it, by the primary's clock.
    pub(crate) newest_commit: Option<Timestamp>,
    /// Where the last record of it begins: no server stops at a position behind that.
    pub(crate) last_record: Option<Lsn>,
    /// Segments that are there and prove nothing, with the reason.
    pub(crate) unproven: Vec<String>,
    /// Timelines whose history only the old server has.
    pub(crate) branches: BTreeMap<Timeline, Branch>,
}

impl Tail {
    /// The segments to push.
    pub(crate) fn segments(&self) -> impl Iterator<Item = SegmentName> {
        self.files.iter().filter_map(|file| match file.name {
            WalFileName::Segment(segment) => Some(segment),
            WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. } => None,
        })
    }

    /// Where one of its segments lies.
    pub(crate) fn path(&self, segment: SegmentName) -> Option<&Path> {
        let file = self.files.iter().find(|file| file.name == WalFileName::Segment(segment));
        file.map(|file| file.path.as_path())
    }

    /// Reads a history. One that makes no sense is found out when it is pushed.
    fn history(&mut self, files: &dyn ReadFiles, name: WalFileName, path: &Path) -> Result<(), HostError> {
        let text = files.read(path, HISTORY_LIMIT)?;
        if let WalFileName::History(timeline) = name
            && let Ok(history) = TimelineHistory::parse(timeline, &String::from_utf8_lossy(&text))
        {
            self.branches.insert(timeline, Branch { history, created_at: Timestamp::MAX });
        }
        Ok(())
    }

    /// The newest commit in those of them that lie on a path.
    pub(crate) fn newest_commit_on(&self, path: &[SegmentName]) -> Option<Timestamp> {
        let on_path = |file: &&Rescued| matches!(file.name, WalFileName::Segment(name) if path.contains(&name));
        self.files.iter().filter(on_path).filter_map(|file| file.newest_commit).max()
    }
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
                    let path = folder.join(&entry.name);
                    tail.history(files, name, &path)?;
                    tail.files.push(Rescued { name, path, newest_commit: None, oldest_commit: None });
                }
                _ => {}
            }
        }
        for segments in timelines.values() {
            self.timeline(files, folder, segments, &mut tail)?;
        }
        Ok(tail)
    }

    /// Walks the segments of one timeline from the first that the archive lacks.
    fn timeline(
        &self,
        files: &dyn ReadFiles,
        folder: &Path,
        segments: &BTreeMap<u64, SegmentName>,
        tail: &mut Tail,
    ) -> Result<(), HostError> {
        let mut walker: Option<WalWalker> = None;
        for segment in self.candidates(segments) {
            let path = folder.join(segment.to_string());
            let bytes = files.read(&path, self.size.bytes())?;
            if let Err(why) = self.belongs(segment, &bytes) {
                tail.unproven.push(format!("`{segment}`: {why}"));
                break;
            }
            let (mut newest, mut oldest, mut last) = (None, None, None);
            let mut see = |record: &crate::pgformat::WalRecord<'_>| {
                let at = record.committed_at();
                newest = newest.max(at);
                oldest = [oldest, at].into_iter().flatten().min();
                last = Some(record.lsn);
            };
            let walk = walker.get_or_insert_with(|| WalWalker::new(self.size));
            let before = walk.end();
            let walked = walk.segment(segment, &bytes, &mut see);
            let end = walk.end().filter(|end| *end > segment.start(self.size));
            if let Walked::Halted(halt) = &walked
                && (end.is_none() || end == before)
            {
                tail.unproven.push(format!("`{segment}`: {halt}"));
                break;
            }
            tail.end = tail.end.max(end);
            tail.newest_commit = tail.newest_commit.max(newest);
            tail.last_record = tail.last_record.max(last);
            let name = WalFileName::Segment(segment);
            if !self.archived.contains(&name) {
                tail.files.push(Rescued { name, path, newest_commit: newest, oldest_commit: oldest });
            }
            if matches!(walked, Walked::Halted(_)) {
                break;
            }
        }
        Ok(())
    }

    /// The newest segment that the archive has, for continuity, and everything from the first it lacks.
    fn candidates(&self, segments: &BTreeMap<u64, SegmentName>) -> Vec<SegmentName> {
        let lacking = |segment: &SegmentName| !self.archived.contains(&WalFileName::Segment(*segment));
        let first = segments.iter().find(|(_, segment)| lacking(segment)).map(|(number, _)| *number);
        let from = match first {
            Some(number) if number > 0 && segments.contains_key(&(number - 1)) => number - 1,
            Some(number) => number,
            None => segments.keys().next_back().copied().unwrap_or_default(),
        };
        let mut run = Vec::new();
        for (number, segment) in segments.range(from..) {
            if *number != from + run.len() as u64 {
                break;
            }
            run.push(*segment);
        }
        run
    }

    /// Looks at the newest segments only; reads little, also of a live server. Blocking.
    ///
    /// # Errors
    /// Fails when the folder or a file of it cannot be read.
    pub(crate) fn glance(&self, files: &dyn ReadFiles, folder: &Path) -> Result<Glance, HostError> {
        let mut segments: Vec<SegmentName> = Vec::new();
        for entry in files.list(folder)? {
            let Some(segment) = entry.name.to_str().and_then(|name| name.parse::<SegmentName>().ok()) else { continue };
            let path = folder.join(&entry.name);
            let mut page = Vec::new();
            let read = files.open(&path)?.take(WAL_PAGE_BYTES as u64).read_to_end(&mut page);
            read.map_err(|source| HostError::File { operation: "read", path, source })?;
            if SegmentHeader::parse(&page).is_ok_and(|header| {
                header.system_id == self.system_id && header.check(segment, entry.facts.size_bytes).is_ok()
            }) {
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
        Ok(Glance { newest_commit, unarchived })
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
