//! A file of the WAL on its way to its place: written beside it, proven, renamed.
//!
//! Who gave up waiting for one leaves a thread behind that still writes it, and the next one is begun under the same name:
//! each has a file of its own there, and touches no other.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::push::{verify, verify_segment};
use super::{Identity, WalError};
use crate::pgformat::{Halt, Lsn, SegmentWalk, WAL_PAGE_BYTES, WalFileName, WalWalker};

/// Held while it is looked whose file has a name, and the name is given away or taken.
static NAMES: Mutex<()> = Mutex::new(());

fn names() -> MutexGuard<'static, ()> {
    // It guards no data.
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that nobody sees under its name before it is whole and proven. Dropped before, it is gone.
#[derive(Debug)]
pub(super) struct StagedFile {
    file: File,
    temporary: PathBuf,
    first_page: Vec<u8>,
    size_bytes: u64,
    /// The records of a segment, walked as they are written: then they are in the caches of the core.
    walk: Option<Box<SegmentWalk>>,
}

impl StagedFile {
    /// Begins a file that is written at `temporary`, on the disk of its place.
    pub(super) fn at(temporary: PathBuf) -> Result<Self, WalError> {
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600);
        let _names = names();
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("create", &temporary)(error)),
            Ok(()) | Err(_) => {}
        }
        let file = options.open(&temporary).map_err(failed("create", &temporary))?;
        Ok(Self { file, temporary, first_page: Vec::new(), size_bytes: 0, walk: None })
    }

    /// Begins a file for a server that waits for it at `target`.
    pub(super) fn beside(target: &Path) -> Result<Self, WalError> {
        let mut temporary = target.as_os_str().to_owned();
        temporary.push(".rb-tmp");
        Self::at(PathBuf::from(temporary))
    }

    /// Checks that what was written is the file `name` of the cluster.
    pub(super) fn verify(&self, name: WalFileName, identity: &Identity) -> Result<(), WalError> {
        match name {
            WalFileName::Segment(segment) | WalFileName::PartialSegment(segment) => {
                verify_segment((name, segment), (&self.first_page, self.size_bytes), identity)
            }
            WalFileName::History(_) | WalFileName::BackupHistory { .. } => {
                let bytes = std::fs::read(&self.temporary).map_err(failed("read", &self.temporary))?;
                verify(name, &bytes, identity)
            }
        }
    }

    /// Has the records walked of what will be written, for a segment of a known size.
    pub(super) fn walked(mut self, name: WalFileName, identity: &Identity) -> Self {
        if let (WalFileName::Segment(segment), Some(size)) = (name, identity.segment_size) {
            self.walk = Some(Box::new(SegmentWalk::new(WalWalker::new(size), segment)));
        }
        self
    }

    /// Says where the records of what was written end before the segment does; `None` for one whose records lead to its end,
    /// and for what nobody was to walk: any other file.
    pub(super) fn breaks_off(&self) -> Option<Break> {
        let (end, halt) = self.walk.as_ref()?.halt()?;
        Some(Break { end, halt })
    }

    /// Has the disk take what was written.
    pub(super) fn sync(&self) -> Result<(), WalError> {
        self.file.sync_data().map_err(failed("write", &self.temporary))
    }

    /// Whether the file under the name is still this one.
    fn has_its_name(&self) -> bool {
        let own = |facts: std::fs::Metadata| (facts.dev(), facts.ino());
        let named = std::fs::symlink_metadata(&self.temporary).map(own);
        self.file.metadata().map(own).is_ok_and(|own| named.is_ok_and(|named| named == own))
    }

    /// Gives the file its name.
    pub(super) fn settle(mut self, target: &Path) -> Result<(), WalError> {
        let _names = names();
        if !self.has_its_name() {
            return Err(failed("rename", &self.temporary)(io::ErrorKind::NotFound.into()));
        }
        std::fs::rename(&self.temporary, target).map_err(failed("rename", &self.temporary))?;
        // There is nothing left to remove.
        self.temporary.clear();
        Ok(())
    }
}

/// Where the records of a segment end before the segment does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Break {
    /// The end of the last whole one; `None` when there is none.
    pub(super) end: Option<Lsn>,
    halt: Halt,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            Some(end) => write!(f, "its records end at {end}: {}", self.halt),
            None => write!(f, "none of its records is whole: {}", self.halt),
        }
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot write `{}`: {error}", self.temporary.display()))
        };
        let count = self.file.write(bytes).map_err(named)?;
        let missing = WAL_PAGE_BYTES.saturating_sub(self.first_page.len()).min(count);
        self.first_page.extend_from_slice(&bytes[..missing]);
        self.size_bytes += count as u64;
        if let Some(walk) = &mut self.walk {
            walk.take(&bytes[..count], &mut |_| {});
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if self.temporary.as_os_str().is_empty() {
            return;
        }
        let _names = names();
        if self.has_its_name() {
            // What cannot be removed is written over by the next fetch.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Writes a file whole.
pub(super) fn deliver(bytes: &[u8], target: &Path) -> Result<(), WalError> {
    let mut staged_file = StagedFile::beside(target)?;
    staged_file.write_all(bytes).map_err(failed("write", target))?;
    staged_file.settle(target)
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WalError + use<> {
    let path = path.to_owned();
    move |source| WalError::File { operation, path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

    use super::*;

    #[test]
    fn what_was_given_up_touches_nothing_of_the_next_one_under_the_same_name() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("RECOVERYXLOG");
        let mut given_up = StagedFile::beside(&target).unwrap();
        given_up.write_all(b"of the first store").unwrap();
        let mut next = StagedFile::beside(&target).unwrap();
        next.write_all(b"of the next one").unwrap();
        given_up.write_all(b", which goes on").unwrap();
        assert!(matches!(given_up.settle(&target), Err(WalError::File { .. })), "its name is another's by now");
        next.settle(&target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"of the next one");
        // What a killed process left is no hindrance, and what is dropped is gone.
        std::fs::write(dir.path().join("RECOVERYXLOG.rb-tmp"), "old").unwrap();
        drop(StagedFile::beside(&target).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
