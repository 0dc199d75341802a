//! The folder outside the data directory that push and fetch keep between two calls.
//!
//! ```text
//! SPOOL/SYSTEM_ID/pushed-ARCHIVE/SEGMENT.FINGERPRINT   empty: stored, though the server has not asked yet
//! SPOOL/SYSTEM_ID/owed-STORE/SEGMENT                   empty: this store lacks it, others have it
//! SPOOL/SYSTEM_ID/ahead-RESTORE-ARCHIVE/SEGMENT.BOOT   fetched and verified before the server asked
//! SPOOL/SYSTEM_ID/failed                               what the last push said that failed, until one succeeds
//! ```
//!
//! Of what was done ahead nothing depends on it: whatever is missing or wrong is done again. What a store lacks is known
//! here alone: such a note is durable before its push is a success, and without a spool there is none. What is never kept
//! is an absence.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW};

use super::Config;
use crate::base::Digest;
use crate::pgformat::{SystemId, WalFileName};

/// Who may read and write a spool: whoever writes there could say "stored".
const MODE: u32 = 0o700;
const OTHERS_MAY_WRITE: u32 = 0o022;

/// The spool of one cluster.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    folder: PathBuf,
    archive: String,
}

impl Spool {
    /// Opens the spool of a cluster, made if need be; `None` when the configuration names none.
    ///
    /// # Errors
    /// Fails when the folder cannot be made, others may write to it, or it lies in the data directory.
    pub(super) fn open(config: &Config, pgdata: &Path, system_id: SystemId) -> io::Result<Option<Self>> {
        let Some((root, spool)) = Self::of(config, system_id) else { return Ok(None) };
        lies_outside(root, pgdata)?;
        for folder in [root, &spool.folder] {
            own(folder)?;
        }
        Ok(Some(spool))
    }

    /// The spool of a cluster by its names, and its root. Touches nothing.
    pub(super) fn of(config: &Config, system_id: SystemId) -> Option<(&Path, Self)> {
        let root = config.spool.as_deref().filter(|_| config.ahead() > 0 || config.at_least.is_some())?;
        Some((root, Self { folder: root.join(system_id.to_string()), archive: config.archive().short() }))
    }

    /// The folder in which what was pushed ahead is noted.
    pub(super) fn pushed(&self) -> io::Result<PathBuf> {
        self.below(format!("pushed-{}", self.archive))
    }

    /// The folder in which it is noted what the store at `url` lacks.
    pub(super) fn owed(&self, url: &str) -> io::Result<PathBuf> {
        self.below(owed_folder(url))
    }

    /// The folder of what was fetched ahead for one restore.
    pub(super) fn ahead(&self, restore: &str) -> io::Result<PathBuf> {
        own(&self.ahead_of(restore))?;
        Ok(self.ahead_of(restore))
    }

    /// The same by its name.
    pub(super) fn ahead_of(&self, restore: &str) -> PathBuf {
        self.folder.join(format!("ahead-{restore}-{}", self.archive))
    }

    /// Whether it is noted that the store at `url` lacks a file.
    pub(super) fn owes(&self, url: &str, name: WalFileName) -> bool {
        self.folder.join(owed_folder(url)).join(name.to_string()).is_file()
    }

    fn below(&self, name: String) -> io::Result<PathBuf> {
        let folder = self.folder.join(name);
        own(&folder)?;
        Ok(folder)
    }

    /// The folder of the cluster.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The name of the folder in which it is noted what the store at `url` lacks.
pub(super) fn owed_folder(url: &str) -> String {
    format!("owed-{}", Digest::of(url.as_bytes()).short())
}

/// Refuses a spool inside the data directory: base backups and `pg_rewind` would copy it, and a restored server would take
/// its old notes for its own (manual, "File System Level Backup").
///
/// # Errors
/// Fails when it lies there.
pub(super) fn lies_outside(root: &Path, pgdata: &Path) -> io::Result<()> {
    // It may still have to be made.
    let parent = || Some(root.parent()?.canonicalize().ok()?.join(root.file_name()?));
    let root = root.canonicalize().ok().or_else(parent);
    match (root, pgdata.canonicalize()) {
        (Some(root), Ok(pgdata)) if root.starts_with(&pgdata) => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it lies inside the data directory"))
        }
        (_, _) => Ok(()),
    }
}

/// Makes a folder, or sees that an existing one is ours alone.
fn own(folder: &Path) -> io::Result<()> {
    let made = std::fs::DirBuilder::new().mode(MODE).create(folder);
    if let Err(error) = made
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    let facts = std::fs::symlink_metadata(folder)?;
    let is_ours = facts.is_dir() && facts.uid() == rustix::process::geteuid().as_raw();
    if is_ours && facts.mode() & OTHERS_MAY_WRITE == 0 {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is no folder of this user alone"))
}

/// Reads the names in a folder of the spool.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(folder)?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    names.collect()
}

/// Makes an empty file; one that is there is as good.
pub(super) fn note(path: &Path) -> io::Result<()> {
    std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(path).map(drop)
}

/// Writes a small file, which is not synced.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::File::create(path)?.write_all(bytes)
}

/// Makes an empty file that is there after a crash as well, down from the root of the spool.
pub(super) fn note_durably(path: &Path) -> io::Result<()> {
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?.sync_all()?;
    // The folder of the store, that of the cluster, and the root.
    path.ancestors().skip(1).take(3).try_for_each(sync)
}

fn sync(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// Puts a note behind the others.
pub(super) fn put_back(path: &Path) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    Ok(rustix::fs::futimens(&file, &Timestamps { last_access: now, last_modification: now })?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::language::inventory::StoreEntry;

    #[test]
    fn a_folder_that_others_may_write_to_is_no_spool() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("spool");
        let config = Config { spool: Some(root.clone()), ..Config::new(StoreEntry::default(), "app") };
        let data = dir.path().join("data");
        let spool = Spool::open(&config, &data, SystemId(7)).unwrap().unwrap();
        assert!(spool.pushed().unwrap().starts_with(root.join("7")));
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Spool::open(&config, &data, SystemId(7)).is_err());
        let without = Config { spool: None, ..config };
        assert!(Spool::open(&without, &data, SystemId(7)).unwrap().is_none());
    }

    #[test]
    fn a_folder_in_the_data_directory_is_no_spool_by_whatever_path() {
        let dir = tempfile::tempdir().unwrap();
        let (data, link) = (dir.path().join("data"), dir.path().join("link"));
        std::fs::DirBuilder::new().create(&data).unwrap();
        std::os::unix::fs::symlink(&data, &link).unwrap();
        let lies = |root: &Path| lies_outside(root, &data).is_err();
        assert!(lies(&data) && lies(&data.join("spool")) && lies(&link.join("spool")), "made or not");
        assert!(!lies(&dir.path().join("data.spool")) && !lies(&dir.path().join("data/../spool")));
    }
}
