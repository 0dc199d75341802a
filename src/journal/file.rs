//! The journal as a file: one write and one `fdatasync` per round.
//!
//! What it is resilient against: the engine's death at any instruction, a power cut, a full or failing disk
//! (the run stops, nothing is pretended), the file's removal or another writer (noticed at the next round). What
//! it is not resilient against: a disk that acknowledges what it does not keep.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::chain::Chain;
use super::durable;
use crate::base::{Digest, RunId, Timestamp};
use crate::event::{Event, EventKind};
use crate::port::{Journal, JournalError};

/// The file's name inside a run's folder.
pub const JOURNAL_FILE: &str = "journal.jsonl";

/// An append-only journal file of one run.
#[derive(Debug)]
pub struct FileJournal {
    file: File,
    chain: Chain,
    buffer: Vec<u8>,
    health: Health,
    syncs: u64,
    /// The file's length when this process began.
    begun_at: u64,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Sound,
    /// A write or sync failed: what reached the disk is not known, so nothing more is promised.
    Poisoned,
}

impl FileJournal {
    /// Creates the journal of a new run in its folder, durably. It must not exist.
    ///
    /// # Errors
    /// Fails when the file exists or cannot be made durable.
    pub fn create(dir: &Path, run: RunId, plan: Digest) -> Result<Self, JournalError> {
        let create = || {
            let file = durable::create_file(&dir.join(JOURNAL_FILE))?;
            file.sync_all()?;
            durable::sync_dir(dir)?;
            Self::over(file, Chain::start(run.clone(), plan))
        };
        create().map_err(|source| JournalError::Write { run: run.clone(), source })
    }

    /// Continues a chain in a file that is opened for appending and ends where the chain does.
    ///
    /// # Errors
    /// Fails when the file's length cannot be told.
    pub fn over(file: File, chain: Chain) -> io::Result<Self> {
        let begun_at = file.metadata()?.len();
        Ok(Self { file, chain, buffer: Vec::new(), health: Health::Sound, syncs: 0, begun_at, bytes: 0 })
    }

    /// Number of syncs made by this process.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Number of bytes written by this process.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The end of the chain, events not yet synced included.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Looks whether the file is still where and as long as this process left it.
    fn look(&self) -> io::Result<()> {
        let facts = self.file.metadata()?;
        let expected = self.begun_at + self.bytes;
        if facts.nlink() == 0 {
            return Err(io::Error::other("the file was removed while the run was live"));
        }
        if facts.len() != expected {
            let found = facts.len();
            return Err(io::Error::other(format!(
                "somebody else changed the file: {found} bytes, expected {expected}"
            )));
        }
        Ok(())
    }

    fn poison(&mut self, source: io::Error) -> JournalError {
        self.health = Health::Poisoned;
        JournalError::Write { run: self.chain.run().clone(), source }
    }

    fn sound(&self) -> Result<(), JournalError> {
        match self.health {
            Health::Sound => Ok(()),
            Health::Poisoned => {
                let source = io::Error::other("an earlier write or sync failed; nothing more can be promised");
                Err(JournalError::Write { run: self.chain.run().clone(), source })
            }
        }
    }
}

impl Journal for FileJournal {
    fn append(&mut self, at: Timestamp, kinds: Vec<EventKind>) -> Result<Vec<Event>, JournalError> {
        self.sound()?;
        let mut events = Vec::with_capacity(kinds.len());
        for kind in kinds {
            let linked = self.chain.link(at, kind).map_err(|error| self.poison(error.into()))?;
            self.buffer.extend_from_slice(&linked.line);
            events.push(linked.event);
        }
        Ok(events)
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        self.sound()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.look().and_then(|()| self.file.write_all(&self.buffer));
        let written = written.and_then(|()| self.file.sync_data());
        written.map_err(|error| self.poison(error))?;
        self.syncs += 1;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::{FileJournal, JOURNAL_FILE};
    use crate::base::Timestamp;
    use crate::event::EventKind;
    use crate::journal::chain::Chain;
    use crate::journal::sample;
    use crate::port::{Journal, JournalError};

    #[test]
    fn nothing_is_written_before_the_sync_and_a_round_costs_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut journal = FileJournal::create(dir.path(), sample::run(), sample::plan_digest()).expect("creates");
        let kinds = vec![sample::started(), EventKind::TailCut { bytes: 1 }];
        journal.append(Timestamp::UNIX_EPOCH, kinds).expect("appends");
        let len = || std::fs::metadata(dir.path().join(JOURNAL_FILE)).expect("exists").len();
        assert_eq!(len(), 0);
        journal.sync().expect("syncs");
        journal.sync().expect("nothing to do");
        assert_eq!((journal.syncs(), journal.bytes()), (1, len()));
    }

    #[test]
    fn a_journal_is_never_created_over_another() {
        let dir = tempfile::tempdir().expect("a folder");
        FileJournal::create(dir.path(), sample::run(), sample::plan_digest()).expect("creates");
        let second = FileJournal::create(dir.path(), sample::run(), sample::plan_digest());
        assert!(matches!(second, Err(JournalError::Write { .. })), "{second:?}");
    }

    #[test]
    fn a_full_disk_stops_the_journal_for_good() {
        let full = OpenOptions::new().append(true).open("/dev/full").expect("the device exists");
        let mut journal = FileJournal::over(full, Chain::start(sample::run(), sample::plan_digest())).expect("opens");
        journal.append(Timestamp::UNIX_EPOCH, vec![sample::started()]).expect("only buffers");
        let error = journal.sync().expect_err("no space");
        let JournalError::Write { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        assert!(journal.sync().is_err(), "never pretends afterwards");
        assert!(journal.append(Timestamp::UNIX_EPOCH, vec![sample::started()]).is_err());
        assert_eq!(journal.syncs(), 0);
    }

    #[test]
    fn a_journal_that_was_removed_or_written_by_somebody_else_stops() {
        type Meddling = fn(&std::path::Path);
        let removed: Meddling = |path| std::fs::remove_file(path).expect("removes");
        let emptied: Meddling = |path| drop(std::fs::File::create(path).expect("empties"));
        let appended: Meddling = |path| {
            let mut file = OpenOptions::new().append(true).open(path).expect("opens");
            std::io::Write::write_all(&mut file, b"x").expect("writes");
        };
        for meddle in [removed, emptied, appended] {
            let dir = tempfile::tempdir().expect("a folder");
            let mut journal = FileJournal::create(dir.path(), sample::run(), sample::plan_digest()).expect("creates");
            journal.append(Timestamp::UNIX_EPOCH, vec![sample::started()]).expect("appends");
            journal.sync().expect("syncs");
            meddle(&dir.path().join(JOURNAL_FILE));
            journal.append(Timestamp::UNIX_EPOCH, vec![EventKind::TailCut { bytes: 1 }]).expect("only buffers");
            assert!(journal.sync().is_err());
            assert!(journal.sync().is_err(), "for good");
        }
    }

    #[test]
    fn the_journal_in_memory_makes_the_very_same_chain() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut file = FileJournal::create(dir.path(), sample::run(), sample::plan_digest()).expect("creates");
        let mut memory = crate::journal::MemoryJournal::new(sample::run(), sample::plan_digest());
        for at in [5, 3, 9] {
            let at = Timestamp::from_second(at).expect("in range");
            let kinds = vec![sample::started(), EventKind::TailCut { bytes: 1 }];
            assert_eq!(file.append(at, kinds.clone()).expect("appends"), memory.append(at, kinds).expect("appends"));
        }
    }
}
