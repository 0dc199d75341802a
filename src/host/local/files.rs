//! Files of the local machine.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chownat, mknodat, statvfs, utimensat,
};

use crate::action::{DirEntry, FileFacts, FileKind, Files, HostError, REPLACING, ReadFiles, Space};
use crate::base::{Timestamp, mounts};

/// The file system, with the rights of the engine.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalFiles;

/// Names what was tried on what.
fn at<T>(operation: &'static str, path: &Path, result: io::Result<T>) -> Result<T, HostError> {
    result.map_err(|source| HostError::File { operation, path: path.to_owned(), source })
}

const NOFOLLOW: i32 = OFlags::NOFOLLOW.bits().cast_signed();

fn facts_of(meta: &fs::Metadata) -> FileFacts {
    let kind = match meta.file_type() {
        kind if kind.is_symlink() => FileKind::Symlink,
        kind if kind.is_dir() => FileKind::Directory,
        kind if kind.is_file() => FileKind::File,
        _ => FileKind::Other,
    };
    FileFacts {
        kind,
        size_bytes: meta.len(),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        device: meta.dev(),
        inode: meta.ino(),
    }
}

impl ReadFiles for LocalFiles {
    fn facts(&self, path: &Path) -> Result<Option<FileFacts>, HostError> {
        match fs::symlink_metadata(path) {
            Ok(meta) => Ok(Some(facts_of(&meta))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => at("look at", path, Err(error)),
        }
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, HostError> {
        let mut bytes = Vec::new();
        let file = self.open(path)?;
        at("read", path, file.take(limit.saturating_add(1)).read_to_end(&mut bytes))?;
        if bytes.len() as u64 > limit {
            let source = io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {limit} bytes"));
            return at("read", path, Err(source));
        }
        Ok(bytes)
    }

    fn open(&self, path: &Path) -> Result<File, HostError> {
        at("open", path, File::open(path))
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, HostError> {
        let mut entries = Vec::new();
        for entry in at("list", path, fs::read_dir(path))? {
            let entry = at("list", path, entry)?;
            match entry.metadata() {
                Ok(meta) => entries.push(DirEntry { name: entry.file_name(), facts: facts_of(&meta) }),
                // Removed while it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return at("look at", &entry.path(), Err(error)),
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, HostError> {
        at("read the link", path, fs::read_link(path))
    }

    fn canonical(&self, path: &Path) -> Result<PathBuf, HostError> {
        let whole = at("resolve", path, std::path::absolute(path))?;
        let mut missing = Vec::new();
        let mut existing = whole.as_path();
        loop {
            match fs::canonicalize(existing) {
                Ok(found) => return at("resolve", path, join_missing(found, &missing)),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !is_link(existing) => {}
                Err(error) => return at("resolve", path, Err(error)),
            }
            let last = existing.components().next_back();
            missing.extend(last.map(|component| component.as_os_str().to_owned()));
            match existing.parent() {
                Some(parent) => existing = parent,
                None => return Ok(whole),
            }
        }
    }

    fn modified_at(&self, path: &Path) -> Result<Option<Timestamp>, HostError> {
        let modified = at("look at", path, fs::symlink_metadata(path).and_then(|meta| meta.modified()))?;
        Ok(Timestamp::try_from(modified).ok())
    }

    fn space(&self, path: &Path) -> Result<Space, HostError> {
        let mut nearest = at("resolve", path, std::path::absolute(path))?;
        loop {
            match statvfs(&nearest) {
                Ok(facts) => {
                    return Ok(Space {
                        free_bytes: facts.f_bavail.saturating_mul(facts.f_frsize),
                        total_bytes: facts.f_blocks.saturating_mul(facts.f_frsize),
                    });
                }
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) if nearest.pop() => {}
                Err(error) => return at("tell the space of", path, Err(error.into())),
            }
        }
    }
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink())
}

/// A `..` below something that does not exist has no meaning that could be relied on.
fn join_missing(mut found: PathBuf, missing: &[std::ffi::OsString]) -> io::Result<PathBuf> {
    for name in missing.iter().rev() {
        if Path::new(name).components().any(|part| part == Component::ParentDir) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it goes up from a folder that does not exist"));
        }
        found.push(name);
    }
    Ok(found)
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Files for LocalFiles {
    fn create_dir(&self, path: &Path, mode: u32) -> Result<(), HostError> {
        if let Some(parent) = path.parent() {
            at("create", parent, fs::create_dir_all(parent))?;
        }
        match DirBuilder::new().mode(mode).create(path) {
            // The process's mask may have taken bits away.
            Ok(()) => self.chmod(path, mode),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(error) => at("create", path, Err(error)),
        }
    }

    fn create(&self, path: &Path, mode: u32) -> Result<File, HostError> {
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        let file = at("create", path, file)?;
        at("set the mode of", path, file.set_permissions(fs::Permissions::from_mode(mode)))?;
        Ok(file)
    }

    fn make_pipe(&self, path: &Path) -> Result<(), HostError> {
        let made = mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
        at("make the pipe", path, made.map_err(io::Error::from))
    }

    fn append(&self, path: &Path) -> Result<File, HostError> {
        at("open", path, OpenOptions::new().append(true).custom_flags(NOFOLLOW).open(path))
    }

    fn update(&self, path: &Path) -> Result<File, HostError> {
        let opened = OpenOptions::new().read(true).write(true).custom_flags(NOFOLLOW).open(path);
        at("open for writing", path, opened)
    }

    fn replace(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), HostError> {
        replace(path, content, mode, |file| {
            // A server may be reading it: it is its owner's from the moment on that it is there.
            if let Ok(found) = fs::symlink_metadata(path) {
                let _ = std::os::unix::fs::fchown(file, Some(found.uid()), Some(found.gid()));
            }
            Ok(())
        })
    }

    fn replace_for(&self, path: &Path, content: &[u8], mode: u32, (uid, gid): (u32, u32)) -> Result<(), HostError> {
        replace(path, content, mode, |file| std::os::unix::fs::fchown(file, Some(uid), Some(gid)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), HostError> {
        at("rename", from, fs::rename(from, to))
    }

    fn symlink(&self, target: &Path, link: &Path) -> Result<(), HostError> {
        at("link", link, std::os::unix::fs::symlink(target, link))
    }

    fn hard_link(&self, file: &Path, name: &Path) -> Result<(), HostError> {
        at("link", name, fs::hard_link(file, name))
    }

    fn set_modified(&self, path: &Path, to: Timestamp) -> Result<(), HostError> {
        let time = Timespec { tv_sec: to.as_second(), tv_nsec: to.subsec_nanosecond().into() };
        let times = Timestamps { last_access: time, last_modification: time };
        let set = utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
        at("set the time of", path, set.map_err(Into::into))
    }

    fn remove_file(&self, path: &Path) -> Result<(), HostError> {
        at("remove", path, fs::remove_file(path))
    }

    fn remove_tree(&self, path: &Path) -> Result<(), HostError> {
        // Walks by descriptors and never through a link, the first one included; a mount it would walk through.
        at("remove", path, nothing_mounted(path).and_then(|()| fs::remove_dir_all(path)))
    }

    fn chmod(&self, path: &Path, mode: u32) -> Result<(), HostError> {
        // Opened without following, so that a link put in between cannot redirect the change.
        let opened = OpenOptions::new().read(true).custom_flags(NOFOLLOW).open(path);
        at("set the mode of", path, opened.and_then(|file| file.set_permissions(fs::Permissions::from_mode(mode))))
    }

    fn chown(&self, path: &Path, uid: u32, gid: u32) -> Result<(), HostError> {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let changed = chownat(CWD, path, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW);
        at("set the owner of", path, changed.map_err(Into::into))
    }

    fn sync(&self, path: &Path) -> Result<(), HostError> {
        at("sync", path, sync(path))
    }
}

/// Replaces a file's content by way of one beside it, which `owned` gives to whom it is for.
fn replace(path: &Path, content: &[u8], mode: u32, owned: impl Fn(&File) -> io::Result<()>) -> Result<(), HostError> {
    let dir = parent(path);
    let replaced = || -> io::Result<()> {
        let mut beside = tempfile::Builder::new().prefix(REPLACING).tempfile_in(dir)?;
        beside.write_all(content)?;
        beside.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        owned(beside.as_file())?;
        beside.as_file().sync_all()?;
        beside.persist(path).map_err(|error| error.error)?;
        sync(dir)
    };
    at("replace", path, replaced())
}

/// Refuses a folder below which something is mounted: its content is not the folder's own.
fn nothing_mounted(path: &Path) -> io::Result<()> {
    if is_link(path) {
        return Ok(());
    }
    // Where no mounts are listed, none can be told.
    let (Ok(list), Ok(folder)) = (fs::read(mounts::LIST), fs::canonicalize(path)) else { return Ok(()) };
    match mounts::below(&list, &folder) {
        Some(place) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("`{}` is mounted below it: unmount that first", place.display()),
        )),
        None => Ok(()),
    }
}

/// The files of this machine, for those who need no host around them.
#[must_use]
pub fn local_files() -> Arc<dyn Files> {
    Arc::new(LocalFiles)
}

#[cfg(test)]
mod tests;
