//! Makes files of an archive's entries, in a fresh folder that nobody else knows.
//!
//! Nothing outside it can be written: absolute names, `..`, links that lead out, devices, and names below a link
//! are refused. The folder gets its name when everything is there and proven.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tar::{Archive, Entry, EntryType};
use xattr::FileExt as _;

use super::bound::Bounded;
use super::entry::{Facts, inside, leads_out};
use super::extract::{Links, Ownership};
use super::format::{Ending, Plain};
use super::index::IndexedFile;
use crate::action::{ActionError, FileKind, Files, HostError};
use crate::actions::store::body::file_failed;
use crate::base::digest::Hasher;

const CHUNK_BYTES: usize = 128 << 10;
const WORKING_MODE: u32 = 0o700;

/// What came out of an archive.
#[derive(Debug, Default)]
pub(super) struct Extracted {
    pub(super) files: Vec<IndexedFile>,
    pub(super) folders: u64,
    pub(super) links: u64,
    pub(super) content_bytes: u64,
    /// Attributes that were left out.
    pub(super) attributes_left: u64,
    pub(super) compression: &'static str,
}

/// Extracts into `root`, which exists and is empty.
pub(super) struct TreeReader {
    pub(super) files: Arc<dyn Files>,
    pub(super) root: PathBuf,
    pub(super) links: Links,
    pub(super) ownership: Ownership,
}

/// The tree while it grows.
#[derive(Default)]
struct Growing {
    out: Extracted,
    /// Folders that are known to be real ones.
    folders: BTreeSet<PathBuf>,
    /// What folders get at the end: before, their own modes and times would be in the way.
    later: Vec<(PathBuf, Facts)>,
}

impl TreeReader {
    /// Reads an archive to its end.
    pub(super) fn read(&self, from: impl Read) -> Result<Extracted, ActionError> {
        let plain = Plain::of(from).map_err(|error| damaged(&error))?;
        let mut growing = Growing::default();
        growing.out.compression = plain.name();
        let mut ending = Ending::new(plain);
        let (bounded, allowance) = Bounded::new(&mut ending);
        let mut archive = Archive::new(bounded);
        for entry in archive.entries().map_err(|error| damaged(&error))? {
            let mut entry = entry.map_err(|error| damaged(&error))?;
            allowance.content();
            self.entry(&mut entry, &mut growing)?;
            allowance.next(&mut entry).map_err(|error| damaged(&error))?;
        }
        ending.finish().map_err(|error| damaged(&error))?;
        for (path, facts) in growing.later.iter().rev() {
            let opened = self.files.open(path).map_err(file_failed)?;
            growing.out.attributes_left += self.finish(path, &opened, facts).map_err(|error| full(path, &error))?;
        }
        self.files.sync(&self.root).map_err(file_failed)?;
        Ok(growing.out)
    }

    fn entry(&self, entry: &mut Entry<'_, impl Read>, growing: &mut Growing) -> Result<(), ActionError> {
        let facts = Facts::of(entry)?;
        let name = inside(&facts.name).ok_or_else(|| facts.refused("leads out of the target folder"))?;
        let path = self.root.join(&name);
        match facts.kind {
            EntryType::Directory => {
                self.folder(&path, growing)?;
                if !name.as_os_str().is_empty() {
                    growing.later.push((path, facts));
                }
                growing.out.folders += 1;
                Ok(())
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.make_way(&path, growing)?;
                let indexed = self.file(&path, (entry, &facts), growing)?;
                growing.out.files.push(indexed);
                Ok(())
            }
            EntryType::Symlink => {
                self.make_way(&path, growing)?;
                self.symlink((&name, &path), &facts)?;
                growing.out.links += 1;
                Ok(())
            }
            EntryType::Link => {
                self.make_way(&path, growing)?;
                self.hard_link(&path, &facts, growing)?;
                growing.out.links += 1;
                Ok(())
            }
            EntryType::XGlobalHeader => Ok(()),
            EntryType::Char | EntryType::Block | EntryType::Fifo => Err(facts.refused("is a device or a pipe")),
            _ => Err(facts.refused("is of a kind that is not known")),
        }
    }

    /// Readies the place of a file: real folders above it, nothing in it. A later entry replaces an earlier one.
    fn make_way(&self, path: &Path, growing: &mut Growing) -> Result<(), ActionError> {
        self.folder(path.parent().unwrap_or(&self.root), growing)?;
        match self.files.facts(path).map_err(file_failed)?.map(|facts| facts.kind) {
            None => Ok(()),
            Some(FileKind::Directory) => {
                Err(ActionError::fatal(format!("the archive is refused: `{}` is a folder and a file", path.display())))
            }
            Some(FileKind::File | FileKind::Symlink | FileKind::Other) => {
                growing.out.files.retain(|file| self.root.join(&file.path) != path);
                self.files.remove_file(path).map_err(file_failed)
            }
        }
    }

    /// Makes a folder and those above it. A link in the place of one is refused: it is never followed.
    fn folder(&self, path: &Path, growing: &mut Growing) -> Result<(), ActionError> {
        if path == self.root || growing.folders.contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.folder(parent, growing)?;
        }
        match self.files.facts(path).map_err(file_failed)?.map(|facts| facts.kind) {
            Some(FileKind::Directory) => {}
            None => self.files.create_dir(path, WORKING_MODE).map_err(file_failed)?,
            Some(FileKind::File | FileKind::Symlink | FileKind::Other) => {
                let fact =
                    format!("the archive is refused: `{}` is no folder, but something lies below it", path.display());
                return Err(ActionError::fatal(fact));
            }
        }
        growing.folders.insert(path.to_owned());
        Ok(())
    }

    fn file(
        &self,
        path: &Path,
        (entry, facts): (&mut Entry<'_, impl Read>, &Facts),
        growing: &mut Growing,
    ) -> Result<IndexedFile, ActionError> {
        let mut file = self.files.create(path, 0o600).map_err(file_failed)?;
        let size_bytes = entry.size();
        let holes = facts.kind == EntryType::GNUSparse;
        let (mut hasher, mut buffer, mut count) = (Hasher::default(), vec![0; CHUNK_BYTES], 0_u64);
        loop {
            let read = entry.read(&mut buffer).map_err(|error| damaged(&error))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            write(&mut file, &buffer[..read], holes).map_err(|error| full(path, &error))?;
            count += read as u64;
        }
        if count != size_bytes {
            let fact = format!("the archive breaks off in `{}`: {count} of {size_bytes} bytes", path.display());
            return Err(ActionError::fatal(fact));
        }
        if holes {
            file.set_len(size_bytes).map_err(|error| full(path, &error))?;
        }
        growing.out.attributes_left += self.finish(path, &file, facts).map_err(|error| full(path, &error))?;
        file.sync_all().map_err(|error| full(path, &error))?;
        growing.out.content_bytes += size_bytes;
        let name = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned();
        Ok(IndexedFile { path: name, size_bytes, sha256: hasher.finish(), mode: format!("{:04o}", self.mode(facts)) })
    }

    fn symlink(&self, (name, path): (&Path, &Path), facts: &Facts) -> Result<(), ActionError> {
        let target = facts.target()?;
        if self.links == Links::Inside && leads_out(name, &target) {
            let why = format!("is a link that leads out of the target folder, to `{}`", target.display());
            let error = facts.refused(&why);
            return Err(error.help("say `links: any` to keep such links as they are; they are never followed"));
        }
        self.files.symlink(&target, path).map_err(file_failed)?;
        if self.ownership == Ownership::Keep {
            self.files.chown(path, facts.uid, facts.gid).map_err(file_failed)?;
        }
        self.files.set_modified(path, facts.modified_at).map_err(file_failed)
    }

    fn hard_link(&self, path: &Path, facts: &Facts, growing: &mut Growing) -> Result<(), ActionError> {
        use std::os::unix::ffi::OsStrExt as _;
        let target = facts.target()?;
        let first = inside(target.as_os_str().as_bytes()).map(|target| self.root.join(target));
        let first = first.ok_or_else(|| facts.refused("is a hard link that leads out of the target folder"))?;
        self.folder(first.parent().unwrap_or(&self.root), growing)?;
        match self.files.facts(&first).map_err(file_failed)?.map(|found| found.kind) {
            Some(FileKind::File) => {}
            Some(FileKind::Directory | FileKind::Symlink | FileKind::Other) | None => {
                return Err(facts.refused("is a hard link to what is no file of this archive"));
            }
        }
        self.files.hard_link(&first, path).map_err(file_failed)?;
        let relative = |path: &Path| path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned();
        let (first, new) = (relative(&first), relative(path));
        if let Some(known) = growing.out.files.iter().find(|file| file.path == first).cloned() {
            growing.out.files.push(IndexedFile { path: new, ..known });
        }
        Ok(())
    }

    /// Sets owner, mode, attributes and time, in this order: the first clears bits of the second. Gives how many
    /// attributes were left out.
    fn finish(&self, path: &Path, opened: &File, facts: &Facts) -> io::Result<u64> {
        if self.ownership == Ownership::Keep {
            std::os::unix::fs::fchown(opened, Some(facts.uid), Some(facts.gid))?;
        }
        // Linux asks for the right to write before it takes one of a user's: the mode may take that away, also from the owner.
        let (users, rest): (Vec<_>, Vec<_>) = facts.attributes.iter().partition(|(name, _)| name.starts_with("user."));
        self.attribute(path, opened, users)?;
        opened.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(self.mode(facts)))?;
        let left = self.attribute(path, opened, rest)?;
        opened.set_modified(facts.modified_at.into())?;
        Ok(left)
    }

    /// Sets attributes, and counts those that are left out.
    fn attribute(&self, path: &Path, opened: &File, all: Vec<&(String, Vec<u8>)>) -> io::Result<u64> {
        let mut left = 0;
        for (name, value) in all {
            // Capabilities and access lists are rights of the owner the archive knows, as the bits of the mode are.
            if self.ownership != Ownership::Keep && !name.starts_with("user.") {
                left += 1;
                continue;
            }
            match opened.set_xattr(name, value) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !name.starts_with("user.") => {
                    left += 1
                }
                Err(error) => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("attribute `{name}` of `{}`: {error}", path.display()),
                    ));
                }
            }
        }
        Ok(left)
    }

    /// Bits that lend the owner's rights mean nothing when the owner is another.
    fn mode(&self, facts: &Facts) -> u32 {
        match self.ownership {
            Ownership::Keep => facts.mode & 0o7777,
            Ownership::Auto | Ownership::Own => facts.mode & 0o1777,
        }
    }
}

/// Writes a chunk; in a file with holes zeros are left out.
fn write(file: &mut File, chunk: &[u8], holes: bool) -> io::Result<()> {
    if holes && chunk.iter().all(|byte| *byte == 0) {
        let ahead = i64::try_from(chunk.len()).map_err(io::Error::other)?;
        return file.seek(SeekFrom::Current(ahead)).map(drop);
    }
    file.write_all(chunk)
}

/// Says that an archive is not what it should be, or cannot be read.
pub(super) fn damaged(error: &io::Error) -> ActionError {
    let fact = format!("the archive cannot be read: {error}");
    ActionError::fatal(fact).help("nothing was put into place; use another copy of it")
}

fn full(path: &Path, error: &io::Error) -> ActionError {
    let cause = HostError::File {
        operation: "write",
        path: path.to_owned(),
        source: io::Error::new(error.kind(), error.to_string()),
    };
    ActionError::retryable(format!("cannot extract `{}`: {error}", path.display())).because(&cause)
}
