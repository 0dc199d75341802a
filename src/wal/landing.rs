//! A file of the WAL on its way to its place: written beside it, proven, renamed.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::push::{verify, verify_segment};
use super::{Identity, WalError};
use crate::pgformat::{WAL_PAGE_BYTES, WalFileName, WalWalker, Walked};

/// What is read at a time of a file that was just written.
const READ_BYTES: usize = 256 << 10;

/// A file that nobody sees under its name before it is whole and proven. Dropped before, it is gone.
#[derive(Debug)]
pub(super) struct Landing {
    file: File,
    temporary: PathBuf,
    first_page: Vec<u8>,
    size_bytes: u64,
}

impl Landing {
    /// Begins a file that is written at `temporary`, on the disk of its place.
    pub(super) fn at(temporary: PathBuf) -> Result<Self, WalError> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&temporary).map_err(failed("create", &temporary))?;
        Ok(Self { file, temporary, first_page: Vec::new(), size_bytes: 0 })
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

    /// Walks the records of what was written. Says where they end before a segment does; `None` for one that leads to its
    /// end, and for any other file.
    pub(super) fn breaks_off(&self, name: WalFileName, identity: &Identity) -> Result<Option<String>, WalError> {
        let (WalFileName::Segment(segment), Some(size)) = (name, identity.segment_size) else { return Ok(None) };
        let at = || failed("read", &self.temporary);
        let mut file = BufReader::with_capacity(READ_BYTES, File::open(&self.temporary).map_err(at())?);
        let mut walker = WalWalker::new(size);
        let walked = walker.read(segment, &mut file, &mut |_| {}).map_err(at())?;
        let end = walker.end().unwrap_or(segment.start(size));
        Ok(match walked {
            Walked::ToTheEnd => None,
            Walked::Halted(halt) => Some(format!("its records end at {end}: {halt}")),
        })
    }

    /// Gives the file its name.
    pub(super) fn settle(mut self, target: &Path) -> Result<(), WalError> {
        std::fs::rename(&self.temporary, target).map_err(failed("rename", &self.temporary))?;
        // There is nothing left to remove.
        self.temporary.clear();
        Ok(())
    }
}

impl Write for Landing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot write `{}`: {error}", self.temporary.display()))
        };
        let count = self.file.write(bytes).map_err(named)?;
        let missing = WAL_PAGE_BYTES.saturating_sub(self.first_page.len()).min(count);
        self.first_page.extend_from_slice(&bytes[..missing]);
        self.size_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.temporary.as_os_str().is_empty() {
            // What cannot be removed is written over by the next fetch.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Writes a file whole.
pub(super) fn deliver(bytes: &[u8], target: &Path) -> Result<(), WalError> {
    let mut landing = Landing::beside(target)?;
    landing.write_all(bytes).map_err(failed("write", target))?;
    landing.settle(target)
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WalError + use<> {
    let path = path.to_owned();
    move |source| WalError::File { operation, path, source }
}
