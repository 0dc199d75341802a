//! The WAL that makes a base backup consistent, walked record by record with one segment in memory at a time: a long
//! backup of a busy server has more of it than any machine has memory.

use std::collections::{BTreeSet, VecDeque};
use std::io::Read;
use std::sync::Arc;

use tar::{Archive, EntryType};

use super::tar_verifier::{Findings, TarVerifier};
use super::tar_walk::WAL_FOLDER;
use crate::actions::postgres::stores::readable::Judged;
use crate::pgformat::{Lsn, SegmentHeader, SegmentName, SegmentSize, SystemId, WalWalker, Walked};

/// The walk as far as it has come. Segments are walked in their order; one that comes before its turn is remembered by
/// name, and is to be brought again.
pub(crate) struct WalProof {
    system_id: SystemId,
    size: SegmentSize,
    stop: Lsn,
    walker: WalWalker,
    left: VecDeque<SegmentName>,
    walked: Vec<SegmentName>,
    early: BTreeSet<SegmentName>,
    beside: TarVerifier,
    found: Findings,
}

impl WalProof {
    /// Begins with the first segment that a backup needs. What lies beside the segments, `beside` judges.
    pub(crate) fn new(beside: TarVerifier) -> Self {
        let facts = Arc::clone(&beside.facts);
        let beside = TarVerifier { prefix: WAL_FOLDER.to_vec(), ..beside };
        Self {
            beside,
            found: Findings::default(),
            system_id: facts.system_id,
            size: facts.segment_size,
            stop: facts.stop_lsn,
            walker: WalWalker::new(facts.segment_size),
            left: facts.segments().into(),
            walked: Vec::new(),
            early: BTreeSet::new(),
        }
    }

    /// The segment whose turn it is; `None` when the backup is consistent.
    pub(crate) fn due(&self) -> Option<SegmentName> {
        self.left.front().copied()
    }

    /// Whether a segment came before its turn.
    pub(crate) fn came_early(&self, name: SegmentName) -> bool {
        self.early.contains(&name)
    }

    /// Takes what was found of the files that lie beside the segments and are in the server's manifest.
    pub(crate) fn beside(&mut self) -> Findings {
        std::mem::take(&mut self.found)
    }

    /// The segments that were walked.
    pub(crate) fn walked(self) -> Vec<SegmentName> {
        self.walked
    }

    /// Reads an archive of WAL, or of a data directory that holds it, to its end. Blocking.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn read(mut self, key: &str, from: &mut dyn Read) -> Judged<Self> {
        let torn = |error: std::io::Error| format!("`{key}` is damaged: it cannot be unpacked: {error}");
        let most = self.size.bytes() + 1;
        for entry in Archive::new(from).entries().map_err(torn)? {
            let mut entry = entry.map_err(torn)?;
            let path = entry.path().map_err(torn)?.into_owned();
            let own = path.strip_prefix("./").unwrap_or(&path);
            let own = own.strip_prefix("pg_wal").unwrap_or(own);
            let name = own.to_str().and_then(|name| name.parse().ok());
            if entry.header().entry_type() != EntryType::Regular {
                continue;
            }
            let Some(name) = name else {
                self.beside.listed(&mut entry, &mut self.found).map_err(torn)?;
                continue;
            };
            let mut bytes = Vec::new();
            entry.by_ref().take(most).read_to_end(&mut bytes).map_err(torn)?;
            self.take(name, &bytes)?;
        }
        Ok(self)
    }

    /// Walks a segment when it is its turn.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn take(&mut self, name: SegmentName, bytes: &[u8]) -> Judged<()> {
        self.sound(name, bytes).map_err(|why| format!("the WAL segment `{name}` is damaged: {why}"))?;
        if self.due() != Some(name) {
            if self.left.contains(&name) {
                self.early.insert(name);
            }
            return Ok(());
        }
        let walked = self.walker.segment(name, bytes, &mut |_| {});
        let reached = self.walker.end().is_some_and(|end| end >= self.stop);
        if let Walked::Halted(halt) = walked
            && !reached
        {
            let end = self.walker.end().map_or_else(|| "its beginning".to_owned(), |end| end.to_string());
            return Err(format!("the WAL breaks off in `{name}` after {end}, before {}: {halt}", self.stop));
        }
        self.left.pop_front();
        self.early.remove(&name);
        self.walked.push(name);
        Ok(())
    }

    /// Whether a segment is whole and of this cluster.
    fn sound(&self, name: SegmentName, bytes: &[u8]) -> Judged<()> {
        let header = SegmentHeader::parse(bytes).map_err(|error| error.to_string())?;
        header.check(name, bytes.len() as u64).map_err(|error| error.to_string())?;
        match header.system_id == self.system_id {
            true => Ok(()),
            false => Err(format!("it is of cluster {}", header.system_id)),
        }
    }
}
