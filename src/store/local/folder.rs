//! Folders and files of a store: who owns them, and when their names are durable.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::store::sidecar::RESERVED_PREFIX;

const FOLDER_MODE: u32 = 0o750;
pub(super) const FILE_MODE: u32 = 0o640;

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Gives what root created to the owner of its folder, so that the server's user can go on writing there.
pub(super) fn inherit_owner(path: &Path, folder: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = std::fs::metadata(folder)?;
    std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()))
}

/// Creates `folder` and its missing parents below `root`, each durably.
pub(super) fn create_below(root: &Path, folder: &Path) -> io::Result<()> {
    if folder == root || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(root);
    create_below(root, parent)?;
    create_one(folder, parent)
}

/// Creates one folder durably; one that is there already is fine. It gets its name when it has its owner: whoever
/// sees it meanwhile makes more below it, which inherits the owner that it finds.
pub(super) fn create_one(folder: &Path, parent: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return sync_folder(parent);
    }
    let temporary = parent.join(format!("{RESERVED_PREFIX}folder-{}", uuid::Uuid::now_v7().simple()));
    DirBuilder::new().mode(FOLDER_MODE).create(&temporary)?;
    let made = inherit_owner(&temporary, parent).and_then(|()| name_folder(&temporary, folder));
    if made.is_err() || temporary.exists() {
        // Empty and hidden: left behind, it is in nobody's way.
        let _ = std::fs::remove_dir(&temporary);
    }
    made?;
    sync_folder(parent)
}

/// Gives a new folder its name, unless somebody else was faster.
fn name_folder(temporary: &Path, folder: &Path) -> io::Result<()> {
    match renameat_with(CWD, temporary, CWD, folder, RenameFlags::NOREPLACE) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        // Not every file system knows the flag; a rename never replaces a folder that holds something.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => match std::fs::rename(temporary, folder) {
            Err(_) if folder.is_dir() => Ok(()),
            other => other,
        },
        Err(error) => Err(error.into()),
    }
}

/// Writes a small file whole or not at all: beside it, synced, renamed. The folder is synced too.
pub(super) fn write_whole(path: &Path, temporary: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(temporary)?;
    let written = inherit_owner(temporary, folder)
        .and_then(|()| io::Write::write_all(&mut file, content))
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(temporary, path));
    if written.is_err() {
        // A full disk is not made fuller.
        let _ = std::fs::remove_file(temporary);
    }
    written?;
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;

    #[test]
    fn many_who_make_the_same_folders_at_once_all_find_them_with_the_owner_of_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        std::fs::create_dir(&root).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&root, Some(12345), Some(12345)).unwrap();
        }
        let wanted = std::fs::metadata(&root).unwrap().uid();
        for round in 0..50 {
            let deep = root.join(format!("{round}/b/c/d"));
            let make = || {
                create_below(&root, &deep).unwrap();
                deep.ancestors().take(4).map(|path| std::fs::metadata(path).unwrap().uid()).collect::<Vec<_>>()
            };
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..6).map(|_| scope.spawn(make)).collect();
                for thread in threads {
                    assert_eq!(thread.join().unwrap(), [wanted; 4], "round {round}");
                }
            });
        }
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 50);
    }
}
