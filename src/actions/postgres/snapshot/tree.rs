//! Copies a data directory out of a snapshot, without what a server makes anew at its start.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::path::Path;

use tokio_util::sync::CancellationToken;

use crate::action::{DirEntry, FileKind, Files, HostError, ReadFiles};
use crate::actions::postgres::cluster::owner::Owner;

/// Folders of the data directory whose content is of no use (manual, "Backing Up The Data Directory").
const EMPTIED: [&str; 8] =
    ["pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"];
/// Files that belong to the server that ran, or to another backup or recovery.
const LEFT: [&str; 7] = [
    "postmaster.pid",
    "postmaster.opts",
    "backup_label",
    "tablespace_map",
    "backup_manifest",
    "recovery.signal",
    "standby.signal",
];
/// What temporary files and folders begin with.
const TEMPORARY: &str = "pgsql_tmp";
/// Bytes that are copied before it is asked again whether anybody wants them: some tenths of a second on a slow disk.
const BLOCK_BYTES: u64 = 16 << 20;
/// A cache that the server writes anew.
const CACHE: &str = "pg_internal.init";

/// What is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tree {
    /// A data directory.
    Data,
    /// A tablespace.
    Tablespace,
}

/// How much was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Copied {
    /// Files.
    pub(super) files: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

impl Tree {
    /// Copies everything below `from` that counts into the folder `to`, which exists. Blocking; a cancel ends it within a
    /// block of a file.
    ///
    /// # Errors
    /// Fails when a file cannot be read or written, and when it is cancelled.
    pub(super) fn copy(
        self,
        (from, to): (&Path, &Path),
        owner: &Owner,
        (files, cancel): (&dyn Files, &CancellationToken),
    ) -> Result<Copied, HostError> {
        let mut copied = Copied::default();
        for entry in self.content(from, files)? {
            demand_wanted(cancel).map_err(|error| broken(from, error))?;
            let (source, target) = (from.join(&entry.name), to.join(&entry.name));
            match entry.facts.kind {
                FileKind::Directory => {
                    files.create_dir(&target, 0o700)?;
                    files.chown(&target, owner.uid, owner.gid)?;
                    if self.is_emptied(&entry.name) {
                        continue;
                    }
                    let below = Self::Tablespace.copy((&source, &target), owner, (files, cancel))?;
                    copied = Copied { files: copied.files + below.files, bytes: copied.bytes + below.bytes };
                }
                FileKind::File => {
                    let bytes = file((&source, &target), (files, cancel))?;
                    files.chown(&target, owner.uid, owner.gid)?;
                    copied = Copied { files: copied.files + 1, bytes: copied.bytes + bytes };
                }
                // A server needs the folder, wherever it lay. Where it lies outside here, too, the link is there already.
                FileKind::Symlink if self.is_emptied(&entry.name) => {
                    if files.facts(&target)?.is_none() {
                        files.create_dir(&target, 0o700)?;
                        files.chown(&target, owner.uid, owner.gid)?;
                    }
                }
                // Links lead to the live tablespaces; they are made anew to where their copies lie.
                FileKind::Symlink | FileKind::Other => {}
            }
        }
        Ok(copied)
    }

    /// The links beside its files that nothing is made of in a copy.
    ///
    /// # Errors
    /// Fails when it cannot be looked at.
    pub(super) fn left_links(self, from: &Path, files: &dyn ReadFiles) -> Result<Vec<String>, HostError> {
        let content = self.content(from, files)?.into_iter();
        let left = content.filter(|entry| entry.facts.kind == FileKind::Symlink && !self.is_emptied(&entry.name));
        Ok(left.map(|entry| entry.name.to_string_lossy().into_owned()).collect())
    }

    /// Whether a folder is made without its content.
    fn is_emptied(self, name: &OsStr) -> bool {
        self == Self::Data && EMPTIED.contains(&name.to_string_lossy().as_ref())
    }

    /// The bytes it has.
    ///
    /// # Errors
    /// Fails when it cannot be looked at.
    pub(super) fn size_bytes(self, from: &Path, files: &dyn ReadFiles) -> Result<u64, HostError> {
        let mut bytes = 0;
        for entry in self.content(from, files)? {
            match entry.facts.kind {
                FileKind::Directory if self.is_emptied(&entry.name) => {}
                FileKind::Directory => bytes += Self::Tablespace.size_bytes(&from.join(&entry.name), files)?,
                FileKind::File => bytes += entry.facts.size_bytes,
                FileKind::Symlink | FileKind::Other => {}
            }
        }
        Ok(bytes)
    }

    fn content(self, from: &Path, files: &dyn ReadFiles) -> Result<Vec<DirEntry>, HostError> {
        let left = |name: &OsStr| {
            let name = name.to_string_lossy();
            let is_left = self == Self::Data && (LEFT.contains(&name.as_ref()) || name == "lost+found");
            is_left || name.starts_with(TEMPORARY) || name.starts_with(CACHE)
        };
        Ok(files.list(from)?.into_iter().filter(|entry| !left(&entry.name)).collect())
    }
}

fn file((source, target): (&Path, &Path), (files, cancel): (&dyn Files, &CancellationToken)) -> Result<u64, HostError> {
    let mut reader = files.open(source)?;
    let mut writer = files.create(target, 0o600)?;
    let mut bytes = 0;
    loop {
        let block = io::copy(&mut (&mut reader).take(BLOCK_BYTES), &mut writer);
        let block = block.and_then(|count| demand_wanted(cancel).map(|()| count));
        match block.map_err(|error| broken(source, error))? {
            0 => return Ok(bytes),
            count => bytes += count,
        }
    }
}

/// Refuses to go on with what nobody waits for any more.
fn demand_wanted(cancel: &CancellationToken) -> io::Result<()> {
    if cancel.is_cancelled() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}

fn broken(path: &Path, source: io::Error) -> HostError {
    HostError::File { operation: "copy", path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::allow_attributes, reason = "tests")]
    use std::fs::{self, File};

    use super::{BLOCK_BYTES, CancellationToken, Copied, Tree, file};
    use crate::actions::postgres::cluster::owner::Owner;
    use crate::host::local_files;

    #[test]
    fn a_cancel_ends_a_copy_within_a_file() {
        let (home, files, cancel) = (tempfile::tempdir().unwrap(), local_files(), CancellationToken::new());
        let (from, to) = (home.path().join("from"), home.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        File::create(from.join("16384")).unwrap().set_len(3 * BLOCK_BYTES + 7).unwrap();
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let owner = Owner { become_user: None, uid, gid };
        let copied = Tree::Data.copy((&from, &to), &owner, (files.as_ref(), &cancel)).unwrap();
        assert_eq!(copied, Copied { files: 1, bytes: 3 * BLOCK_BYTES + 7 });
        assert_eq!(fs::metadata(to.join("16384")).unwrap().len(), copied.bytes);
        cancel.cancel();
        fs::remove_file(to.join("16384")).unwrap();
        file((&from.join("16384"), &to.join("16384")), (files.as_ref(), &cancel)).unwrap_err();
        assert_eq!(fs::metadata(to.join("16384")).unwrap().len(), BLOCK_BYTES, "it is over after a block");
    }
}
