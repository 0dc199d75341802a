//! The WAL tail of the old data directory: what was flushed but never archived (facts 2.10.1).
//!
//! A segment counts only as far as it is proven: its header must name this cluster and this very
//! place, and its records must follow each other with right checksums. Where the proof ends, the
//! tail ends. Nothing here changes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::action::{FileKind, HostError, ReadFiles};
use crate::base::Timestamp;
use crate::pgformat::{
    Lsn, SegmentHeader, SegmentName, SegmentSize, SystemId, Timeline, WalFileName, WalWalker, Walked,
};

/// A file of the tail that is worth keeping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rescued {
    /// Its name in the archive.
    pub(crate) name: WalFileName,
    /// Where it lies.
    pub(crate) path: PathBuf,
}

/// What an old `pg_wal` holds beyond the archive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tail {
    /// The files to push, in order.
    pub(crate) files: Vec<Rescued>,
    /// The end of proven WAL on the newest timeline: everything up to here was flushed.
    pub(crate) end: Option<Lsn>,
    /// The newest commit in it, by the primary's clock.
    pub(crate) newest_commit: Option<Timestamp>,
    /// Segments that are there and prove nothing, with the reason.
    pub(crate) unproven: Vec<String>,
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
                    tail.files.push(Rescued { name, path: folder.join(&entry.name) });
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
            let mut newest = None;
            let mut see = |record: &crate::pgformat::WalRecord<'_>| newest = newest.max(record.committed_at());
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
            let name = WalFileName::Segment(segment);
            if !self.archived.contains(&name) {
                tail.files.push(Rescued { name, path });
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

    fn belongs(&self, segment: SegmentName, bytes: &[u8]) -> Result<(), String> {
        let header = SegmentHeader::parse(bytes).map_err(|error| error.to_string())?;
        header.check(segment, bytes.len() as u64).map_err(|error| error.to_string())?;
        if header.system_id != self.system_id {
            return Err(format!("it is of cluster {}, not {}", header.system_id, self.system_id));
        }
        Ok(())
    }
}
