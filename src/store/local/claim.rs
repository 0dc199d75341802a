//! The lock of one key, which is also the file its next content is written to.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::folder::{FILE_MODE, inherit_owner};
use super::known::hidden;

const POLL: Duration = Duration::from_millis(20);

/// A key held by this process. Dropped, the half-written content is gone and the key is free.
pub(super) struct Claim {
    temporary: PathBuf,
    file: File,
    kept: bool,
}

impl Claim {
    /// Waits for the key of the object at `path` and takes it. The folder must exist.
    pub(super) async fn take(path: &Path) -> io::Result<Self> {
        loop {
            match Self::attempt(path)? {
                Some(claim) => return Ok(claim),
                None => tokio::time::sleep(POLL).await,
            }
        }
    }

    fn attempt(path: &Path) -> io::Result<Option<Self>> {
        let temporary = hidden(path, "tmp");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(&temporary)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let ours = file.metadata()?;
        match std::fs::symlink_metadata(&temporary) {
            Ok(there) if there.ino() == ours.ino() && there.dev() == ours.dev() => {}
            // The holder before us published it or threw it away: this is no longer the key's file.
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let claim = Self { temporary, file, kept: false };
        claim.file.set_len(0)?;
        inherit_owner(&claim.temporary, claim.temporary.parent().unwrap_or(Path::new("/")))?;
        Ok(Some(claim))
    }

    /// The file to write.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Its name.
    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Says that the file now has the object's name and must not be removed.
    pub(super) fn published(&mut self) {
        self.kept = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.kept {
            // A file that cannot be removed stays hidden and is taken over by the next put.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}
