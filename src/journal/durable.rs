//! Files and folders that are there after a power cut.
//!
//! Modes are set explicitly, so that a loose or tight umask changes nothing: the group's share is inherited
//! from the state root, others never get any.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

const GROUP_AND_SETGID: u32 = 0o2070;

/// Makes the entries of a folder durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Creates a folder that must not exist, with the group's share of its parent.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    let group = parent_mode(path)? & GROUP_AND_SETGID;
    DirBuilder::new().mode(0o700).create(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700 | group))
}

/// Creates a folder of a mode unless it exists; the process's mask counts.
pub(crate) fn ensure_dir_as(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Creates a folder unless it exists.
pub(crate) fn ensure_dir(path: &Path) -> io::Result<()> {
    match create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Opens a file that must not exist, for appending, with the group's share of its folder.
pub(crate) fn create_file(path: &Path) -> io::Result<File> {
    let mode = file_mode(path)?;
    let file = OpenOptions::new().read(true).append(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

/// Opens a file for appending and creates it when it is missing.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    match create_file(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            OpenOptions::new().read(true).append(true).open(path)
        }
        other => other,
    }
}

/// Puts a whole file in place by one rename: readers see all of it or nothing. What a writer that died left half
/// written is replaced; two writers at once are the caller's to exclude.
pub(crate) fn put_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let staged = path.with_extension("part");
    match std::fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = create_file(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&staged, path)?;
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}

fn parent_mode(path: &Path) -> io::Result<u32> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    Ok(std::fs::metadata(parent)?.permissions().mode())
}

fn file_mode(path: &Path) -> io::Result<u32> {
    Ok(0o600 | (parent_mode(path)? & 0o060))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::{create_dir, create_file, ensure_dir, put_file};

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("exists").permissions().mode() & 0o7777
    }

    #[test]
    fn only_the_group_of_the_parent_shares() {
        let root = tempfile::tempdir().expect("a folder");
        for (parent, dir, file) in [(0o700, 0o700, 0o600), (0o750, 0o750, 0o640), (0o2777, 0o2770, 0o660)] {
            let base = root.path().join(format!("{parent:o}"));
            create_dir(&base).expect("creates");
            std::fs::set_permissions(&base, std::fs::Permissions::from_mode(parent)).expect("sets");
            create_dir(&base.join("d")).expect("creates");
            create_file(&base.join("f")).expect("creates");
            assert_eq!((mode(&base.join("d")), mode(&base.join("f"))), (dir, file), "{parent:o}");
        }
    }

    #[test]
    fn a_file_is_put_whole_and_a_folder_may_exist() {
        let root = tempfile::tempdir().expect("a folder");
        ensure_dir(&root.path().join("d")).expect("creates");
        ensure_dir(&root.path().join("d")).expect("exists");
        put_file(&root.path().join("d/plan.json"), b"{}").expect("writes");
        assert_eq!(std::fs::read(root.path().join("d/plan.json")).expect("reads"), b"{}");
        assert_eq!(std::fs::read_dir(root.path().join("d")).expect("lists").count(), 1, "nothing staged is left");
    }

    #[test]
    fn what_a_writer_that_died_left_half_written_stands_in_nobodys_way() {
        let root = tempfile::tempdir().expect("a folder");
        drop(create_file(&root.path().join("head.part")).expect("creates"));
        put_file(&root.path().join("head.json"), b"{}").expect("writes");
        assert_eq!(std::fs::read(root.path().join("head.json")).expect("reads"), b"{}");
        assert_eq!(std::fs::read_dir(root.path()).expect("lists").count(), 1);
    }
}
