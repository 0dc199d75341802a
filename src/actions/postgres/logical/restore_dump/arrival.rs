//! Brings the objects of a dump into the scratch folder, verified, and tells what they are by their content.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::action::{ActionError, FileKind, Files, HostError, ReadFiles, RunContext};
use crate::actions::backup::pipe::{Read, read};
use crate::actions::backup::tarball;
use crate::actions::postgres::stores::archive;
use crate::actions::postgres::stores::readable::{Reading, unread};
use crate::catalog::{DumpFormat, ManifestObject, ObjectRole};
use crate::pgformat::custom_dump_dbname;

/// A dump in the scratch folder. Removed when it is dropped.
pub(super) struct Arrival {
    folder: PathBuf,
    files: Arc<dyn Files>,
    /// The dump: a file, or a folder of the format `directory`.
    pub(super) dump: PathBuf,
    /// What it is.
    pub(super) format: DumpFormat,
    /// Roles and tablespaces of its server, where they were saved.
    pub(super) globals: Option<String>,
}

impl Arrival {
    /// Downloads and verifies everything.
    ///
    /// # Errors
    /// Fails when an object is damaged or cannot be decrypted, when there is no dump, and when it is none by its content.
    pub(super) async fn of(reading: Reading<'_>, cx: &RunContext) -> Result<Self, ActionError> {
        let files = cx.host.files();
        let folder = cx.about.scratch.join(format!("restore-{}", cx.step));
        let mut arrival = Self { dump: folder.join("dump"), folder, files, format: DumpFormat::Custom, globals: None };
        arrival
            .clear()
            .and_then(|()| arrival.files.create_dir(&arrival.folder, 0o700))
            .map_err(|error| unmade(&error))?;
        let objects = &reading.backup.manifest.objects;
        let dump = dump_of(objects).ok_or_else(|| ActionError::fatal("the backup holds no dump"))?;
        arrival.bring(reading, dump, arrival.dump.clone()).await?;
        arrival.format = format(arrival.files.as_ref(), &arrival.dump)?;
        if let Some(globals) = objects.iter().find(|object| object.role == ObjectRole::Globals) {
            let path = arrival.folder.join("globals.sql");
            arrival.bring(reading, globals, path.clone()).await?;
            let text = arrival.files.read(&path, 1 << 30).map_err(|error| unmade(&error))?;
            arrival.globals = Some(String::from_utf8_lossy(&text).into_owned());
        }
        Ok(arrival)
    }

    /// Statements that make the roles that SQL text gives something to.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub(super) fn roles(&self) -> Result<String, ActionError> {
        let unread = |error: &(dyn std::error::Error + 'static)| {
            ActionError::retryable("the dump cannot be read").because(error)
        };
        let file = self.files.open(&self.dump).map_err(|error| unread(&error))?;
        super::roles::of_text(io::BufReader::with_capacity(1 << 18, file)).map_err(|error| unread(&error))
    }

    /// The database that a dump says it is of; only the custom format does.
    pub(super) fn dumped_dbname(&self) -> Option<String> {
        let mut file = self.files.open(&self.dump).ok().filter(|_| self.format == DumpFormat::Custom)?;
        custom_dump_dbname(&mut file).ok().flatten()
    }

    async fn bring(&self, reading: Reading<'_>, object: &ManifestObject, into: PathBuf) -> Result<(), ActionError> {
        let key = reading.backup.manifest.key_of(&reading.backup.prefix, object);
        let key = key.map_err(|error| archive::broken(&error))?;
        let unpacking = reading.unpacking(object).map_err(|error| unread(&error))?;
        let files = Arc::clone(&self.files);
        let archived = object.archive_of.is_some();
        let brought = read((reading.store, &key), &unpacking, object, move |from| {
            if archived {
                files.create_dir(&into, 0o700).map_err(of_disk)?;
                return tarball::extract(from, &into);
            }
            let mut file = files.create(&into, 0o600).map_err(of_disk)?;
            io::copy(from, &mut file)
        });
        match brought.await? {
            Read::Whole(_) => Ok(()),
            Read::Damaged(what) => {
                let help = "nothing was changed; use another copy of it, or another backup";
                Err(ActionError::fatal(what).help(help).of_damage())
            }
        }
    }

    fn clear(&self) -> Result<(), HostError> {
        match self.files.facts(&self.folder)? {
            Some(_) => self.files.remove_tree(&self.folder),
            None => Ok(()),
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        // The run's scratch folder goes at the end in any case.
        let _ = self.clear();
    }
}

/// The dump among the objects of a backup. One that another program made may be there as a file, and is alone then.
fn dump_of(objects: &[ManifestObject]) -> Option<&ManifestObject> {
    let alone = match objects {
        [one] if one.role == ObjectRole::File => Some(one),
        _ => None,
    };
    objects.iter().find(|object| object.role == ObjectRole::Dump).or(alone)
}

/// Tells the format by the content: names lie.
fn format(files: &dyn ReadFiles, dump: &Path) -> Result<DumpFormat, ActionError> {
    let found = files.facts(dump).map_err(|error| unmade(&error))?;
    if found.is_some_and(|facts| facts.kind == FileKind::Directory) {
        return Ok(DumpFormat::Directory);
    }
    let mut begin = Vec::new();
    let file = files.open(dump).map_err(|error| unmade(&error))?;
    let read = file.take(512).read_to_end(&mut begin);
    read.map_err(|error| ActionError::retryable("the dump cannot be read").because(&error))?;
    of_begin(&begin).map_err(|what| {
        let help = "it must be what `pg_dump` wrote, custom, directory, tar or SQL; unpack it, and import it again";
        ActionError::fatal(format!("the object is no dump but {what}")).help(help)
    })
}

/// Judges the first bytes.
fn of_begin(begin: &[u8]) -> Result<DumpFormat, &'static str> {
    match begin {
        [] => Err("empty"),
        [b'P', b'G', b'D', b'M', b'P', ..] => Ok(DumpFormat::Custom),
        [0x1f, 0x8b, ..] => Err("something compressed with gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Err("something compressed with zstd"),
        _ if begin.get(257..262) == Some(b"ustar") || begin.starts_with(b"toc.dat\0") => Ok(DumpFormat::Tar),
        _ if begin.contains(&0) => Err("something binary"),
        _ => Ok(DumpFormat::Plain),
    }
}

/// Keeps what the system said: a full disk is no damage of what is written to it.
fn of_disk(error: HostError) -> io::Error {
    let kind = match &error {
        HostError::File { source, .. } => source.kind(),
        HostError::Spawn { .. } | HostError::Timeout { .. } | HostError::Cancelled { .. } | HostError::Lost { .. } => {
            io::ErrorKind::Other
        }
    };
    io::Error::new(kind, error)
}

fn unmade(error: &HostError) -> ActionError {
    ActionError::retryable("the scratch folder of the restore cannot be used").because(error)
}

#[cfg(test)]
mod tests {
    use super::of_begin;
    use crate::catalog::DumpFormat;

    #[test]
    fn a_dump_is_known_by_its_content() {
        assert_eq!(of_begin(b"PGDMP\x01\x0e"), Ok(DumpFormat::Custom));
        assert_eq!(of_begin(b"--\n-- PostgreSQL database dump\n--\n"), Ok(DumpFormat::Plain));
        assert_eq!(of_begin(b"toc.dat\0\0\0"), Ok(DumpFormat::Tar));
        assert!(of_begin(b"").is_err() && of_begin(b"\x1f\x8b\x08").is_err() && of_begin(b"\x7fELF\0").is_err());
    }
}
