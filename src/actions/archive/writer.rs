//! Writes a tar archive of a folder: everything as it is, in the order of the names.
//!
//! GNU headers with long names in GNU's own way, and PAX records for what those cannot say: times finer than a
//! second, extended attributes. GNU tar, bsdtar and busybox read it (GNU tar manual, "Tar Internals").

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use schemars::JsonSchema;
use serde::Deserialize;
use tar::{Builder, EntryType, Header};
use xattr::FileExt as _;

use super::index::IndexedFile;
use super::pipe::PipeWriter;
use crate::action::{ActionError, DirEntry, FileFacts, FileKind, ReadFiles};
use crate::actions::store::Glob;
use crate::actions::store::body::file_failed;
use crate::base::Digest;
use crate::base::digest::Hasher;

/// An extended attribute, its value as it is.
pub(super) const ATTRIBUTE: &str = "SCHILY.xattr.";
/// An extended attribute, its value in base64.
pub(super) const ENCODED_ATTRIBUTE: &str = "LIBARCHIVE.xattr.";
const MAX_DEPTH: usize = 256;

/// What is done about sockets, pipes and devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Special {
    /// One is an error.
    #[default]
    Refuse,
    /// They are left out and counted.
    Skip,
}

/// What went into an archive.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) files: Vec<IndexedFile>,
    pub(super) folders: u64,
    pub(super) links: u64,
    pub(super) skipped: u64,
    pub(super) content_bytes: u64,
}

/// Writes one folder.
pub(super) struct TreeWriter {
    pub(super) files: Arc<dyn ReadFiles>,
    pub(super) root: PathBuf,
    pub(super) exclude: Vec<Glob>,
    pub(super) special: Special,
}

/// The archive while it is written.
struct Progressing {
    builder: Builder<PipeWriter>,
    written: Written,
    /// The first name of each file that has several, with what its index says.
    linked: BTreeMap<(u64, u64), (PathBuf, IndexedFile)>,
}

impl TreeWriter {
    /// Writes all of it and the end mark.
    pub(super) fn write(&self, into: PipeWriter) -> Result<Written, ActionError> {
        let mut archive =
            Progressing { builder: Builder::new(into), written: Written::default(), linked: BTreeMap::new() };
        self.folder(Path::new(""), 0, &mut archive)?;
        let finished = archive.builder.into_inner().and_then(PipeWriter::finish);
        finished.map_err(|error| broken(&self.root, &error))?;
        Ok(archive.written)
    }

    fn folder(&self, folder: &Path, depth: usize, archive: &mut Progressing) -> Result<(), ActionError> {
        if depth > MAX_DEPTH {
            return Err(ActionError::fatal(format!("`{}` lies too deep", folder.display())));
        }
        for entry in self.files.list(&self.root.join(folder)).map_err(file_failed)? {
            let name = folder.join(&entry.name);
            if self.exclude.iter().any(|glob| glob.fits(&name.to_string_lossy())) {
                continue;
            }
            self.entry(&name, &entry, archive)?;
            if entry.facts.kind == FileKind::Directory {
                self.folder(&name, depth + 1, archive)?;
            }
        }
        Ok(())
    }

    fn entry(&self, name: &Path, entry: &DirEntry, archive: &mut Progressing) -> Result<(), ActionError> {
        let path = self.root.join(name);
        match entry.facts.kind {
            FileKind::Directory => {
                let opened = self.files.open(&path).map_err(file_failed)?;
                archive.directory(name, &opened).map_err(|error| broken(&path, &error))
            }
            FileKind::File => {
                let opened = self.files.open(&path).map_err(file_failed)?;
                archive.file(name, opened).map_err(|error| broken(&path, &error))
            }
            FileKind::Symlink => {
                let target = self.files.read_link(&path).map_err(file_failed)?;
                let modified_at = self.files.modified_at(&path).map_err(file_failed)?;
                let seconds = modified_at.map_or(0, |at| at.as_second());
                archive.symlink((name, &target), &entry.facts, seconds).map_err(|error| broken(&path, &error))
            }
            FileKind::Other if self.special == Special::Skip => {
                archive.written.skipped += 1;
                Ok(())
            }
            FileKind::Other => Err(ActionError::fatal(format!("`{}` is a socket, a pipe or a device", path.display()))
                .help("exclude it, or say `special: skip`")),
        }
    }
}

impl Progressing {
    fn directory(&mut self, name: &Path, opened: &File) -> io::Result<()> {
        let meta = opened.metadata()?;
        let mut slashed = name.as_os_str().to_owned();
        slashed.push("/");
        self.records(attributes(opened)?, &meta)?;
        self.written.folders += 1;
        let mut header = header(&meta, EntryType::Directory);
        self.builder.append_data(&mut header, Path::new(&slashed), io::empty())
    }

    fn symlink(&mut self, (name, target): (&Path, &Path), facts: &FileFacts, seconds: i64) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        header.set_uid(facts.uid.into());
        header.set_gid(facts.gid.into());
        header.set_mtime(u64::try_from(seconds).unwrap_or_default());
        header.set_size(0);
        self.written.links += 1;
        // As it stands: `a//b/` stays `a//b/`.
        if header.set_link_name_literal(target.as_os_str().as_bytes()).is_err() {
            return self.builder.append_link(&mut header, name, target);
        }
        self.builder.append_data(&mut header, name, io::empty())
    }

    fn file(&mut self, name: &Path, mut opened: File) -> io::Result<()> {
        let meta = opened.metadata()?;
        if let Some((first, indexed)) = self.linked.get(&(meta.dev(), meta.ino())).cloned() {
            self.written.links += 1;
            self.written.files.push(IndexedFile { path: text(name), ..indexed });
            let mut header = header(&meta, EntryType::Link);
            return self.builder.append_link(&mut header, name, first);
        }
        let attributes = attributes(&opened)?;
        let sha256 = match meta.blocks() * 512 < meta.len() {
            true => self.sparse(name, (&mut opened, &meta), attributes)?,
            false => self.dense(name, (&opened, &meta), attributes)?,
        };
        let now = opened.metadata()?;
        if (now.len(), now.mtime(), now.mtime_nsec()) != (meta.len(), meta.mtime(), meta.mtime_nsec()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it changed while it was read"));
        }
        let mode = format!("{:04o}", meta.mode() & 0o7777);
        let indexed = IndexedFile { path: text(name), size_bytes: meta.len(), sha256, mode };
        if meta.nlink() > 1 {
            self.linked.insert((meta.dev(), meta.ino()), (name.to_owned(), indexed.clone()));
        }
        self.written.content_bytes += meta.len();
        self.written.files.push(indexed);
        Ok(())
    }

    fn dense(
        &mut self,
        name: &Path,
        (opened, meta): (&File, &Metadata),
        attributes: Vec<Record>,
    ) -> io::Result<Digest> {
        self.records(attributes, meta)?;
        let mut header = header(meta, EntryType::Regular);
        header.set_size(meta.len());
        let mut content = Digested { inner: opened.take(meta.len()), hasher: Hasher::default(), count: 0 };
        self.builder.append_data(&mut header, name, &mut content)?;
        if content.count != meta.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it became shorter while it was read"));
        }
        Ok(content.hasher.finish())
    }

    /// A file with holes: only its data is stored, in the old GNU form that every tar reads.
    fn sparse(
        &mut self,
        name: &Path,
        (opened, meta): (&mut File, &Metadata),
        attributes: Vec<Record>,
    ) -> io::Result<Digest> {
        self.records(attributes, meta)?;
        self.builder.append_file(name, opened)?;
        io::Seek::rewind(opened)?;
        let mut hasher = Hasher::default();
        io::copy(&mut opened.take(meta.len()), &mut hasher)?;
        Ok(hasher.finish())
    }

    /// Writes what the next header cannot say.
    fn records(&mut self, attributes: Vec<Record>, meta: &Metadata) -> io::Result<()> {
        let records: Vec<Record> = attributes.into_iter().chain(fine_time(meta)).collect();
        self.builder.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice())))
    }
}

/// One PAX record.
type Record = (String, Vec<u8>);

fn header(meta: &Metadata, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(meta.mode() & 0o7777);
    header.set_uid(meta.uid().into());
    header.set_gid(meta.gid().into());
    header.set_mtime(u64::try_from(meta.mtime()).unwrap_or_default());
    header.set_size(0);
    header
}

/// A time that a header cannot say: finer than a second, or before 1970.
fn fine_time(meta: &Metadata) -> Option<Record> {
    let (seconds, nanos) = (meta.mtime(), meta.mtime_nsec());
    if seconds < 0 {
        return Some(("mtime".to_owned(), seconds.to_string().into_bytes()));
    }
    (nanos != 0).then(|| ("mtime".to_owned(), format!("{seconds}.{nanos:09}").into_bytes()))
}

fn attributes(opened: &File) -> io::Result<Vec<Record>> {
    let names = match opened.list_xattr() {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for name in names {
        // The label of the machine's own policy: it means nothing elsewhere.
        let Some(text) = name.to_str().filter(|text| *text != "security.selinux") else { continue };
        let Some(value) = opened.get_xattr(&name)? else { continue };
        found.push(match value.contains(&b'\n') {
            false => (format!("{ATTRIBUTE}{text}"), value),
            // Some readers take a line break for the end of a record: bsdtar's own form has none.
            true => (format!("{ENCODED_ATTRIBUTE}{text}"), BASE64.encode(value).into_bytes()),
        });
    }
    found.sort();
    Ok(found)
}

fn text(name: &Path) -> String {
    OsStr::to_string_lossy(name.as_os_str()).into_owned()
}

fn broken(path: &Path, error: &io::Error) -> ActionError {
    let fact = format!("cannot archive `{}`: {error}", path.display());
    match error.kind() {
        io::ErrorKind::InvalidData => ActionError::retryable(fact).help("stop what writes to it, or take a snapshot"),
        _ => ActionError::fatal(fact),
    }
}

/// Digests what is read.
struct Digested<R> {
    inner: R,
    hasher: Hasher,
    count: u64,
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.write_all(&buffer[..count])?;
        self.count += count as u64;
        Ok(count)
    }
}
