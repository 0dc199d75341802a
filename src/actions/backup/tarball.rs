//! A folder as a tar archive, and back.
//!
//! Regular files, folders and symbolic links; sockets, pipes and devices are left out and named. A file that
//! changes its size while it is read fails the archive: a torn copy is no backup.

use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tar::{Archive, Builder, EntryType, Header};

use crate::action::{FileFacts, FileKind, HostError, ReadFiles};
use crate::actions::archive::Bounded;

/// Writes the content of a folder, by name; gives the paths that were left out. Blocking.
pub(in crate::actions) fn write(files: &Arc<dyn ReadFiles>, root: &Path, out: impl Write) -> io::Result<Vec<PathBuf>> {
    let mut builder = Builder::new(out);
    let mut left_out = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in files.list(&root.join(&folder)).map_err(failed)? {
            let own = folder.join(&entry.name);
            let path = root.join(&own);
            match entry.facts.kind {
                FileKind::Directory => {
                    let mut header = header(&entry.facts, EntryType::Directory);
                    header.set_mtime(modified(&files.open(&path).map_err(failed)?)?);
                    builder.append_data(&mut header, &own, io::empty())?;
                    folders.push(own);
                }
                FileKind::File => file(files, (&path, &own), &mut builder)?,
                FileKind::Symlink => {
                    let target = files.read_link(&path).map_err(failed)?;
                    builder.append_link(&mut header(&entry.facts, EntryType::Symlink), &own, target)?;
                }
                FileKind::Other => left_out.push(own),
            }
        }
    }
    builder.into_inner()?.flush()?;
    Ok(left_out)
}

fn file<W: Write>(files: &Arc<dyn ReadFiles>, (path, own): (&Path, &Path), builder: &mut Builder<W>) -> io::Result<()> {
    let mut file = files.open(path).map_err(failed)?;
    let found = file.metadata()?;
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(found.mode() & 0o7777);
    header.set_uid(found.uid().into());
    header.set_gid(found.gid().into());
    header.set_size(found.len());
    header.set_mtime(modified(&file)?);
    let mut counted = (&mut file).take(found.len());
    builder.append_data(&mut header, own, &mut counted)?;
    if counted.limit() > 0 || file.metadata()?.len() != found.len() {
        let message = format!("`{}` changed its size while it was read", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(())
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

fn modified(file: &std::fs::File) -> io::Result<u64> {
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
    walk_with(from, |_| Ok(()))
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
    match count {
        0 => Err(io::Error::new(io::ErrorKind::InvalidData, "it is an archive without a single entry")),
        count => Ok(count),
    }
}

/// Extracts an archive into a folder that exists, never out of it; gives the number of its entries. Blocking.
pub(in crate::actions) fn extract(from: impl io::Read, into: &Path) -> io::Result<u64> {
    let (bounded, allowance) = Bounded::new(from);
    let mut archive = Archive::new(bounded);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(rustix::process::geteuid().is_root());
    let mut count = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        allowance.content();
        if !entry.unpack_in(into)? {
            let path = String::from_utf8_lossy(entry.path_bytes().as_ref()).into_owned();
            let message = format!("`{path}` leads out of the target folder");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        allowance.next(&mut entry)?;
        count += 1;
    }
    Ok(count)
}

/// The last part of a path as a name in a backup; `None` when it has none, or it is no text.
pub(in crate::actions) fn name(path: &Path) -> Option<&str> {
    let name = path.file_name()?;
    std::str::from_utf8(name.as_bytes()).ok()
}
