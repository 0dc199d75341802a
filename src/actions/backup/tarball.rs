//! A folder as a tar archive, and back.
//!
//! Regular files, folders and symbolic links; sockets, pipes and devices are left out and named. A file that
//! is written to while it is read fails the archive: a torn copy is no backup. What is moved within the folder while it is
//! read comes along, under its old name or its new one.

use std::fs::{File, Metadata, Permissions};
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tar::{Archive, Builder, EntryType, Header};

use crate::action::{FileFacts, HostError, ReadFiles};
use crate::actions::archive::{Bounded, Ending};

mod walk;

use walk::Walk;

/// Writes the content of a folder, by name; gives the paths that were left out. Blocking.
pub(in crate::actions) fn write(files: &Arc<dyn ReadFiles>, root: &Path, out: impl Write) -> io::Result<Vec<PathBuf>> {
    let mut walk = Walk::new(files, root, Builder::new(out));
    walk.everything()?;
    walk.finish()
}

fn file<W: Write>(files: &Arc<dyn ReadFiles>, (path, own): (&Path, &Path), builder: &mut Builder<W>) -> io::Result<()> {
    let mut file = files.open(path).map_err(failed)?;
    let found = file.metadata()?;
    let written = Written::of(&found);
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(found.mode() & 0o7777);
    header.set_uid(found.uid().into());
    header.set_gid(found.gid().into());
    header.set_size(found.len());
    header.set_mtime(modified(&file)?);
    let mut counted = (&mut file).take(found.len());
    builder.append_data(&mut header, own, &mut counted)?;
    let is_torn = counted.limit() > 0;
    written.still(&file, path).and_then(|()| if is_torn { Err(torn(path)) } else { Ok(()) })
}

fn header(facts: &FileFacts, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(facts.mode & 0o7777);
    header.set_uid(facts.uid.into());
    header.set_gid(facts.gid.into());
    header.set_size(0);
    header
}

fn modified(file: &File) -> io::Result<u64> {
    Ok(u64::try_from(file.metadata()?.mtime()).unwrap_or_default())
}

fn failed(error: HostError) -> io::Error {
    io::Error::other(format!(
        "{error}: {}",
        std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
    ))
}

/// Reads an archive to its end; gives the number of its entries. Blocking.
pub(in crate::actions) fn walk(from: impl io::Read) -> io::Result<u64> {
    match walk_with(from, |_| Ok(()))? {
        0 => Err(io::Error::new(io::ErrorKind::InvalidData, "it is an archive without a single entry")),
        count => Ok(count),
    }
}

/// Reads the archive of a folder to its end; gives the number of its entries. The folder may have been empty: then the
/// mark of the end is all there is, and must be there. Blocking.
pub(in crate::actions) fn walk_folder(from: impl io::Read) -> io::Result<u64> {
    let mut ending = Ending::new(from);
    let count = walk_with(&mut ending, |_| Ok(()))?;
    ending.finish().map(|_| count)
}

/// Reads an archive to its end, and keeps the entry of one name in a new file. Blocking.
pub(in crate::actions) fn keep(from: impl io::Read, name: &str, into: &Path) -> io::Result<u64> {
    use std::os::unix::fs::OpenOptionsExt as _;
    walk_with(from, |entry| {
        if &*entry.path_bytes() != name.as_bytes() {
            return Ok(());
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(into)?;
        io::copy(entry, &mut file).map(drop)
    })
}

fn walk_with<R: io::Read>(
    from: R,
    look: impl FnMut(&mut tar::Entry<'_, Bounded<R>>) -> io::Result<()>,
) -> io::Result<u64> {
    each_entry(from, look).map_err(of_archive)
}

/// The reader of archives gives no kind to what is wrong with one; what the system says to a write has its own.
fn of_archive(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::Other => io::Error::new(io::ErrorKind::InvalidData, error),
        _ => error,
    }
}

fn each_entry<R: io::Read>(
    from: R,
    mut look: impl FnMut(&mut tar::Entry<'_, Bounded<R>>) -> io::Result<()>,
) -> io::Result<u64> {
    let (bounded, allowance) = Bounded::new(from);
    let mut archive = Archive::new(bounded);
    let mut count = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        allowance.content();
        look(&mut entry)?;
        allowance.next(&mut entry)?;
        count += 1;
    }
    Ok(count)
}

/// Extracts an archive into a folder that exists, never out of it; gives the number of its entries. Folders get their mode
/// and their time when everything is in them. Blocking.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] or [`io::ErrorKind::UnexpectedEof`] where the archive is damaged, else what the system says.
pub(in crate::actions) fn extract(from: impl io::Read, into: &Path) -> io::Result<u64> {
    extract_entries(from, into).map_err(of_archive)
}

fn extract_entries(from: impl io::Read, into: &Path) -> io::Result<u64> {
    let (bounded, allowance) = Bounded::new(from);
    let mut archive = Archive::new(bounded);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(rustix::process::geteuid().is_root());
    let (mut count, mut folders) = (0, Vec::new());
    for entry in archive.entries()? {
        let mut entry = entry?;
        allowance.content();
        let folder = Folder::of(&entry, into)?;
        if !entry.unpack_in(into)? {
            let path = String::from_utf8_lossy(entry.path_bytes().as_ref()).into_owned();
            let message = format!("`{path}` leads out of the target folder");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        if let Some(folder) = folder {
            folder.open()?;
            folders.push(folder);
        }
        allowance.next(&mut entry)?;
        count += 1;
    }
    folders.iter().rev().try_for_each(Folder::finish)?;
    Ok(count)
}

/// A folder of an archive, as it is to be in the end.
struct Folder {
    path: PathBuf,
    mode: u32,
    modified_at: SystemTime,
}

impl Folder {
    /// The folder that an entry makes; none for what is no folder, and for the root, which is made by whoever extracts.
    fn of(entry: &tar::Entry<'_, impl io::Read>, into: &Path) -> io::Result<Option<Self>> {
        let header = entry.header();
        let own = entry.path()?;
        let names = own.components().filter(|part| matches!(part, Component::Normal(_)));
        let path = names.fold(into.to_owned(), |path, part| path.join(part));
        if header.entry_type() != EntryType::Directory || path == into {
            return Ok(None);
        }
        let modified_at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(header.mtime()?));
        let modified_at = modified_at.unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Some(Self { path, mode: header.mode()? & 0o7777, modified_at }))
    }

    /// Lets its owner put something into it: nobody but root could, into one that may not be written.
    fn open(&self) -> io::Result<()> {
        self.set_mode(self.mode | 0o700)
    }

    fn finish(&self) -> io::Result<()> {
        self.open()?;
        File::open(&self.path)?.set_modified(self.modified_at)?;
        self.set_mode(self.mode)
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        // A later entry may have put a link there: what it leads to is none of ours.
        match std::fs::symlink_metadata(&self.path)?.is_dir() {
            true => std::fs::set_permissions(&self.path, Permissions::from_mode(mode)),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, format!("`{}` is no folder", self.path.display()))),
        }
    }
}

/// What tells that a file was written to. Its inode's own time is not asked: that changes as well when a program puts
/// another file in its place, which leaves the bytes of this one as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    size_bytes: u64,
    modified_at: (i64, i64),
}

impl Written {
    /// What a file says before it is read.
    pub(super) fn of(found: &Metadata) -> Self {
        Self { size_bytes: found.len(), modified_at: (found.mtime(), found.mtime_nsec()) }
    }

    /// Refuses a file that was written to since.
    ///
    /// # Errors
    /// Fails when it was, and when it cannot be asked.
    pub(super) fn still(self, file: &File, path: &Path) -> io::Result<()> {
        if Self::of(&file.metadata()?) == self { Ok(()) } else { Err(torn(path)) }
    }
}

fn torn(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("`{}` changed while it was read", path.display()))
}

/// The last part of a path as a name in a backup; `None` when it has none, or it is no text.
pub(in crate::actions) fn name(path: &Path) -> Option<&str> {
    let name = path.file_name()?;
    std::str::from_utf8(name.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::allow_attributes, reason = "tests")]
    use std::fs;
    use std::io::{self, Write};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::{extract, walk, walk_folder, write};
    use crate::action::ReadFiles;
    use crate::host::local_files;

    fn files() -> Arc<dyn ReadFiles> {
        local_files()
    }

    /// Somebody who writes to a file while the archive of its folder is made.
    struct Meddler {
        path: PathBuf,
        bytes: usize,
        meddle: fn(&Path),
    }

    impl Write for Meddler {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let before = self.bytes;
            self.bytes += bytes.len();
            if before < 100_000 && self.bytes >= 100_000 {
                (self.meddle)(&self.path);
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn meddled(meddle: fn(&Path)) -> io::Result<Vec<PathBuf>> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state.db");
        fs::write(&path, vec![1; 1 << 20]).unwrap();
        // Its time is an old one: the clock of a file system goes in steps.
        fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        write(&files(), home.path(), Meddler { path, bytes: 0, meddle })
    }

    #[test]
    fn a_file_that_is_written_to_while_it_is_read_fails_the_archive_and_one_that_is_replaced_does_not() {
        let told = |meddle| meddled(meddle).map_err(|error| error.to_string());
        let rewrite = |path: &Path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            std::os::unix::fs::FileExt::write_at(&file, b"new", 0).unwrap();
        };
        assert!(told(rewrite).unwrap_err().contains("changed while it was read"));
        let truncate = |path: &Path| fs::File::options().write(true).open(path).unwrap().set_len(200_000).unwrap();
        assert!(told(truncate).unwrap_err().contains("changed while it was read"));
        let replace = |path: &Path| {
            fs::write(path.with_extension("new"), "new").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        };
        assert!(told(replace).is_ok(), "what was read is whole");
    }

    #[test]
    fn what_is_moved_within_the_folder_while_it_is_read_is_in_the_archive() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("spool");
        for folder in ["cur", "new", "old/deep"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in ["new/mail", "new/other", "old/deep/letter"] {
            fs::write(root.join(file), file).unwrap();
        }
        fs::write(root.join("state.db"), vec![1; 1 << 20]).unwrap();
        // While the large file is read, a mail that was not listed yet goes to where it has been looked already ...
        let meddle = |path: &Path| {
            let root = path.parent().unwrap();
            let first = root.join("zzz");
            fs::rename(root.join("new/mail"), first.join("mail")).unwrap();
            fs::rename(root.join("old/deep"), first.join("deep")).unwrap();
        };
        // ... which is the folder that comes first of all: the last one by name, which holds the large file.
        fs::create_dir(root.join("zzz")).unwrap();
        fs::rename(root.join("state.db"), root.join("zzz/state.db")).unwrap();
        let path = root.join("zzz");
        let mut archive = Vec::new();
        let mut out = Tapped { into: &mut archive, meddler: Meddler { path, bytes: 0, meddle } };
        write(&files(), &root, &mut out).unwrap();
        let into = tempfile::tempdir().unwrap();
        extract(archive.as_slice(), into.path()).unwrap();
        let read = |name: &str| fs::read_to_string(into.path().join(name)).unwrap();
        assert_eq!((read("zzz/mail"), read("new/other")), ("new/mail".to_owned(), "new/other".to_owned()));
        assert_eq!(read("zzz/deep/letter"), "old/deep/letter", "a folder comes with what is in it");
    }

    /// An archive that is kept, and told to a meddler.
    struct Tapped<'a> {
        into: &'a mut Vec<u8>,
        meddler: Meddler,
    }

    impl Write for Tapped<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.meddler.write(bytes)?;
            self.into.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_empty_folder_is_an_archive_of_its_end_mark_and_half_of_one_is_none() {
        let home = tempfile::tempdir().unwrap();
        let mut archive = Vec::new();
        write(&files(), home.path(), &mut archive).unwrap();
        assert_eq!((walk_folder(archive.as_slice()).unwrap(), archive.len()), (0, 1024));
        assert!(walk(archive.as_slice()).is_err(), "an archive of a server's data has entries");
        for cut in [&archive[..512], &[][..]] {
            assert!(walk_folder(cut).is_err());
        }
        assert_eq!(extract(archive.as_slice(), home.path()).unwrap(), 0);
    }

    #[test]
    fn what_is_wrong_with_an_archive_has_another_kind_than_what_the_disk_says() {
        let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(from.path().join("file"), "content").unwrap();
        let mut archive = Vec::new();
        write(&files(), from.path(), &mut archive).unwrap();
        let gone = extract(archive.as_slice(), &into.path().join("gone")).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound, "{gone}");
        // Its name, which the sum of the header covers.
        archive[0] ^= 1;
        for error in [walk(archive.as_slice()), extract(archive.as_slice(), into.path())].map(Result::unwrap_err) {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
        let cut = extract(&archive[..300], into.path()).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::InvalidData, "{cut}");
    }

    #[test]
    fn folders_get_their_modes_and_times_when_everything_is_in_them() {
        let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let deep = from.path().join("closed/deep");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "content").unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for folder in [&deep, &from.path().join("closed")] {
            fs::File::open(folder).unwrap().set_modified(long_ago).unwrap();
            fs::set_permissions(folder, fs::Permissions::from_mode(0o555)).unwrap();
        }
        let mut archive = Vec::new();
        write(&files(), from.path(), &mut archive).unwrap();
        let extracted = extract(archive.as_slice(), into.path());
        for home in [&from, &into] {
            for folder in ["closed", "closed/deep"] {
                let path = home.path().join(folder);
                let found = fs::metadata(&path).unwrap();
                assert_eq!((found.mode() & 0o7777, found.mtime()), (0o555, 1_000_000_000), "{}", path.display());
            }
        }
        assert_eq!(extracted.unwrap(), 3);
        assert_eq!(fs::read_to_string(into.path().join("closed/deep/file")).unwrap(), "content");
        // Only root may remove what is closed.
        for folder in ["closed", "closed/deep"] {
            for home in [&from, &into] {
                fs::set_permissions(home.path().join(folder), fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    }
}
