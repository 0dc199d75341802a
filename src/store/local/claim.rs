//! The lock of one key, which is also the file its next content is written to.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::folder::{FILE_MODE, inherit_owner};
use super::known::{CLAIM, hidden};

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
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(FILE_MODE);
        let Some(claim) = Self::hold(path, options)? else { return Ok(None) };
        claim.file.set_len(0)?;
        inherit_owner(&claim.temporary, claim.temporary.parent().unwrap_or(Path::new("/")))?;
        Ok(Some(claim))
    }

    /// Takes the key of a writer that is gone and left its half-written content, which goes when this is dropped. `None`
    /// where one is at work, or nothing is left.
    pub(super) fn of_dead(path: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.write(true);
        match Self::hold(path, options) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            held => held,
        }
    }

    fn hold(path: &Path, mut options: OpenOptions) -> io::Result<Option<Self>> {
        let temporary = hidden(path, CLAIM);
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
        Ok(Some(Self { temporary, file, kept: false }))
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
