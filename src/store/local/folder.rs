//! Folders and files of a store: who owns them, and when their names are durable.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

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

/// Creates one folder durably; one that is there already is fine.
pub(super) fn create_one(folder: &Path, parent: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Ok(()) => inherit_owner(folder, parent)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    sync_folder(parent)
}

/// Writes a small file whole or not at all: beside it, synced, renamed. The folder is synced too.
pub(super) fn write_whole(path: &Path, temporary: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(temporary)?;
    inherit_owner(temporary, folder)?;
    io::Write::write_all(&mut file, content)?;
    file.sync_all()?;
    std::fs::rename(temporary, path)?;
    sync_folder(folder)
}
