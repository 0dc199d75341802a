//! A file of the WAL on its way to its place: written beside it, proven, renamed.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::push::{verify, verify_segment};
use super::{Identity, WalError};
use crate::pgformat::{Halt, Lsn, SegmentWalk, WAL_PAGE_BYTES, WalFileName, WalWalker};

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
        options.write(true).create(true).truncate(true).mode(0o600);
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

    /// Gives the file its name.
    pub(super) fn settle(mut self, target: &Path) -> Result<(), WalError> {
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
        if !self.temporary.as_os_str().is_empty() {
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
