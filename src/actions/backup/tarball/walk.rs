//! The walk over a folder that is archived, and the second look at what changed under it.
//!
//! A folder is listed once, maybe hours after its neighbour: what somebody moves from the one into the other meanwhile was
//! there all the time, and in no listing. So folders that changed since are listed once more in the end.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tar::{Builder, EntryType};

use super::{failed, file, header, modified};
use crate::action::{DirEntry, FileKind, HostError, ReadFiles};
use crate::base::{Timestamp, clock};

/// How often it is looked again before the folder counts as one that nobody can archive.
const LOOKS: usize = 8;
/// How coarse the times of a file system may be: what changed that shortly before it was listed may have changed after it, too.
const COARSE: Duration = Duration::from_secs(2);

/// A folder on its way into an archive.
pub(super) struct Walk<'a, W: Write> {
    files: &'a Arc<dyn ReadFiles>,
    root: &'a Path,
    builder: Builder<W>,
    began_at: Timestamp,
    /// Folders that are not listed yet.
    folders: Vec<PathBuf>,
    /// Those that are, and when they were last changed before.
    listed: Vec<(PathBuf, Option<Timestamp>)>,
    /// Device and inode of what was listed: a name may change, and a folder may have millions.
    seen: BTreeSet<(u64, u64)>,
    left_out: Vec<PathBuf>,
}

impl<'a, W: Write> Walk<'a, W> {
    pub(super) fn new(files: &'a Arc<dyn ReadFiles>, root: &'a Path, builder: Builder<W>) -> Self {
        let (folders, began_at) = (vec![PathBuf::new()], clock::now());
        let (listed, seen, left_out) = (Vec::new(), BTreeSet::new(), Vec::new());
        Self { files, root, builder, began_at, folders, listed, seen, left_out }
    }

    /// Archives what is there, and what was moved to where it had been looked before.
    ///
    /// # Errors
    /// Fails when something cannot be read or changes while it is read, and when the moving has no end.
    pub(super) fn everything(&mut self) -> io::Result<()> {
        self.descend()?;
        for _ in 0..LOOKS {
            let mut moved = 0;
            for (folder, changed_at) in std::mem::take(&mut self.listed) {
                moved += self.again(folder, changed_at)?;
            }
            self.descend()?;
            if moved == 0 {
                return Ok(());
            }
        }
        let message =
            format!("`{}` changed while it was read: files are moved within it all the time", self.root.display());
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    }

    /// Ends the archive; gives the paths that were left out.
    ///
    /// # Errors
    /// Fails when the end cannot be written.
    pub(super) fn finish(self) -> io::Result<Vec<PathBuf>> {
        self.builder.into_inner()?.flush()?;
        Ok(self.left_out)
    }

    /// Archives all folders that are not listed yet, and those below them.
    fn descend(&mut self) -> io::Result<()> {
        while let Some(folder) = self.folders.pop() {
            let path = self.root.join(&folder);
            let changed_at = self.files.modified_at(&path).map_err(failed)?;
            for entry in self.files.list(&path).map_err(failed)? {
                self.seen.insert((entry.facts.device, entry.facts.inode));
                self.entry(folder.join(&entry.name), &entry)?;
            }
            self.listed.push((folder, changed_at));
        }
        Ok(())
    }

    /// Lists a folder once more, if it changed; archives what was there before the walk began and was in no listing. Tells
    /// how much that was.
    fn again(&mut self, folder: PathBuf, changed_at: Option<Timestamp>) -> io::Result<usize> {
        let path = self.root.join(&folder);
        let now = match self.files.modified_at(&path) {
            Ok(now) => now,
            // It was removed, or moved with all that is in the archive already.
            Err(error) if is_gone(&error) => return Ok(0),
            Err(error) => return Err(failed(error)),
        };
        let is_old = changed_at.is_some_and(|at| at < clock::before(self.began_at, COARSE));
        if is_old && now == changed_at {
            self.listed.push((folder, changed_at));
            return Ok(0);
        }
        let entries = match self.files.list(&path) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => return Ok(0),
            Err(error) => return Err(failed(error)),
        };
        let mut moved = 0;
        for entry in entries {
            if self.seen.insert((entry.facts.device, entry.facts.inode)) {
                let own = folder.join(&entry.name);
                let was_there = self.was_there(&own, &entry)?;
                // What was there may be in a new folder by now.
                if was_there || entry.facts.kind == FileKind::Directory {
                    self.entry(own, &entry)?;
                }
                moved += usize::from(was_there);
            }
        }
        self.listed.push((folder, now));
        Ok(moved)
    }

    /// Whether something is older than the walk: by when it was made, where the file system tells, else by when it was written.
    fn was_there(&self, own: &Path, entry: &DirEntry) -> io::Result<bool> {
        let path = self.root.join(own);
        let made_at = match entry.facts.kind {
            FileKind::File | FileKind::Directory => match self.files.open(&path).and_then(|file| born(&path, &file)) {
                Ok(made_at) => made_at,
                Err(error) if is_gone(&error) => return Ok(false),
                Err(error) => return Err(failed(error)),
            },
            FileKind::Symlink | FileKind::Other => None,
        };
        let made_at = match made_at {
            Some(made_at) => Some(made_at),
            None => match self.files.modified_at(&path) {
                Ok(written_at) => written_at,
                Err(error) if is_gone(&error) => return Ok(false),
                Err(error) => return Err(failed(error)),
            },
        };
        Ok(made_at.is_none_or(|at| at <= self.began_at))
    }

    fn entry(&mut self, own: PathBuf, entry: &DirEntry) -> io::Result<()> {
        let path = self.root.join(&own);
        match entry.facts.kind {
            FileKind::Directory => {
                let mut header = header(&entry.facts, EntryType::Directory);
                header.set_mtime(modified(&self.files.open(&path).map_err(failed)?)?);
                self.builder.append_data(&mut header, &own, io::empty())?;
                self.folders.push(own);
            }
            FileKind::File => file(self.files, (&path, &own), &mut self.builder)?,
            FileKind::Symlink => {
                let target = self.files.read_link(&path).map_err(failed)?;
                self.builder.append_link(&mut header(&entry.facts, EntryType::Symlink), &own, target)?;
            }
            FileKind::Other => self.left_out.push(own),
        }
        Ok(())
    }
}

/// When a file was made; `None` where the file system does not tell.
fn born(path: &Path, file: &std::fs::File) -> Result<Option<Timestamp>, HostError> {
    let look = |source| HostError::File { operation: "look at", path: path.to_owned(), source };
    Ok(file.metadata().map_err(look)?.created().ok().and_then(|at| Timestamp::try_from(at).ok()))
}

fn is_gone(error: &HostError) -> bool {
    matches!(error, HostError::File { source, .. } if source.kind() == io::ErrorKind::NotFound)
}
