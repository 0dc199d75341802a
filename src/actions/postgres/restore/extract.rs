//! Extracts a tar object of a base backup while its bytes arrive, and verifies all of it on the way.
//!
//! Two proofs at once: the stream ends well only when the whole object is what our own manifest says (see
//! [`crate::transfer::Unpacking`]), and each file has the size and the checksum that the server's `backup_manifest`
//! gives. Nothing outside the target folder can be
//! written: absolute paths, `..`, links and devices are refused, since a base backup has none.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tar::{Archive, Entry, EntryType};
use tokio_util::sync::CancellationToken;

use crate::action::{ActionError, FileKind, Files, HostError};
use crate::actions::archive::Bounded;
use crate::actions::postgres::cluster::flusher::Flusher;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::patch::Patch;
use crate::actions::postgres::stores::inflow::{Inflow, broken};
use crate::pgformat::{BackupManifest, FileVerifier, fetched_segment};

const ANOTHER_BACKUP: &str = "use another backup (`full-db-loss` takes `-p backup=ID`); nothing live was touched";

/// Where and how one tar object is extracted.
#[derive(Clone)]
pub(crate) struct Extraction {
    /// The machine's files.
    pub(crate) files: Arc<dyn Files>,
    /// Who owns what is made.
    pub(crate) owner: Owner,
    /// The folder to fill; exists.
    pub(crate) root: PathBuf,
    /// What the manifest's paths have in front of the archive's: empty, or `pg_tblspc/16385/`.
    pub(crate) prefix: Vec<u8>,
    /// The server's manifest; `None` for the embedded WAL, which it does not list.
    pub(crate) manifest: Option<Arc<BackupManifest>>,
    /// Whether WAL lies among the data, which the server's manifest does not list.
    pub(crate) holds_wal: bool,
    /// What may be there.
    pub(crate) onto: Onto,
    /// Bytes that were there already, over all objects.
    pub(crate) same: Arc<AtomicU64>,
}

/// What an extraction finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Onto {
    /// Empty folders; a file that is there is an error.
    Nothing,
    /// Files of any content: what is the same stays as it is, the rest is written over.
    What,
}

impl Extraction {
    /// Reads an object to its end and gives the manifest paths of the files it held.
    ///
    /// # Errors
    /// Fails when anything differs from what is expected; what was written then is worthless.
    pub(crate) async fn run(
        self,
        inflow: Inflow,
        key: &str,
        cancel: &CancellationToken,
    ) -> Result<BTreeSet<Vec<u8>>, ActionError> {
        let own = key.to_owned();
        let unpacked = inflow.read(cancel, move |reader| self.unpack(&own, reader)).await;
        if cancel.is_cancelled() {
            return Err(ActionError::cancelled("the restore was cancelled; only the staged folder was written"));
        }
        unpacked.map_err(|error| broken(key, &error).help(ANOTHER_BACKUP))?
    }

    fn unpack(&self, key: &str, reader: &mut dyn Read) -> Result<BTreeSet<Vec<u8>>, ActionError> {
        let (bounded, allowance) = Bounded::new(reader);
        let mut archive = Archive::new(bounded);
        let (mut seen, mut flusher) = (BTreeSet::new(), Flusher::start().map_err(|error| undurable(&error))?);
        let damaged = |error: &std::io::Error| {
            let fact = format!("`{key}` is damaged: it cannot be unpacked");
            ActionError::fatal(fact).because(error).help(ANOTHER_BACKUP).of_damage()
        };
        for entry in archive.entries().map_err(|error| damaged(&error))? {
            let mut entry = entry.map_err(|error| damaged(&error))?;
            allowance.content();
            seen.extend(self.entry((key, &mut flusher), &mut entry)?);
            allowance.next(&mut entry).map_err(|error| damaged(&error))?;
        }
        flusher.finish().map_err(|error| undurable(&error))?;
        Ok(seen)
    }

    /// Makes one entry; gives its manifest path when it is a file.
    fn entry(
        &self,
        (key, flusher): (&str, &mut Flusher),
        entry: &mut Entry<'_, impl Read>,
    ) -> Result<Option<Vec<u8>>, ActionError> {
        let bytes = entry.path_bytes().into_owned();
        let path = inside(&bytes).ok_or_else(|| refused(key, &bytes, "leads out of the target folder"))?;
        match entry.header().entry_type() {
            EntryType::Directory => {
                if !path.as_os_str().is_empty() {
                    self.folder(&self.root.join(&path)).map_err(|error| cannot(&error))?;
                }
                Ok(None)
            }
            EntryType::Regular => self.file((key, flusher), &path, entry).map(Some),
            _ => Err(refused(key, &bytes, "is neither a file nor a folder")),
        }
    }

    fn file(
        &self,
        (key, flusher): (&str, &mut Flusher),
        path: &Path,
        entry: &mut Entry<'_, impl Read>,
    ) -> Result<Vec<u8>, ActionError> {
        let mut listed = self.prefix.clone();
        listed.extend_from_slice(path.as_os_str().as_bytes());
        let mut verifier = match &self.manifest {
            Some(manifest) => match manifest.file(&listed) {
                Some(known) => Some(FileVerifier::new(known)),
                None if self.holds_wal && fetched_segment(&listed).is_some() => None,
                None => return Err(refused(key, &listed, "is not in backup_manifest")),
            },
            None => None,
        };
        let place = self.root.join(path);
        if let Some(parent) = place.parent() {
            self.folder(parent).map_err(|error| cannot(&error))?;
        }
        let mut file = self.file_at(&place)?;
        std::os::unix::fs::fchown(file.file(), Some(self.owner.uid), Some(self.owner.gid))
            .map_err(|error| full(&place, &error))?;
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let count = entry.read(&mut buffer).map_err(|error| {
                ActionError::retryable(format!("`{key}` breaks off in `{}`", path.display())).because(&error)
            })?;
            if count == 0 {
                break;
            }
            file.put(&buffer[..count]).map_err(|error| full(&place, &error))?;
            flusher.wrote(file.file(), count).map_err(|error| full(&place, &error))?;
            if let Some(verifier) = &mut verifier {
                verifier.update(&buffer[..count]);
            }
        }
        let same = file.finish().map_err(|error| full(&place, &error))?;
        self.same.fetch_add(same, Ordering::Relaxed);
        verifier.map_or(Ok(()), FileVerifier::finish).map_err(|fault| {
            ActionError::fatal(format!("`{}` in `{key}` is damaged", path.display()))
                .because(&fault)
                .help(ANOTHER_BACKUP)
                .of_damage()
        })?;
        Ok(listed)
    }

    /// The file to write: a new one, or the one that is there, unless that is no plain file of its own.
    fn file_at(&self, place: &Path) -> Result<Patch, ActionError> {
        let fresh = || self.files.create(place, 0o600).map(Patch::new).map_err(|error| cannot(&error));
        let there = self.files.facts(place).map_err(|error| cannot(&error))?;
        match (self.onto, there.map(|facts| facts.kind)) {
            (Onto::Nothing, Some(_) | None) | (Onto::What, None) => return fresh(),
            (Onto::What, Some(FileKind::File)) => {
                let opened = self.files.update(place).map_err(|error| cannot(&error))?;
                if let Some(patch) = Patch::over(opened).map_err(|error| full(place, &error))? {
                    return Ok(patch);
                }
                self.files.remove_file(place).map_err(|error| cannot(&error))?;
            }
            (Onto::What, Some(FileKind::Directory)) => {
                self.files.remove_tree(place).map_err(|error| cannot(&error))?;
            }
            (Onto::What, Some(FileKind::Symlink | FileKind::Other)) => {
                self.files.remove_file(place).map_err(|error| cannot(&error))?;
            }
        }
        fresh()
    }

    fn folder(&self, path: &Path) -> Result<(), HostError> {
        if self.files.facts(path)?.is_some() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.folder(parent)?;
        }
        self.files.create_dir(path, 0o700)?;
        self.files.chown(path, self.owner.uid, self.owner.gid)
    }
}

/// Gives a path that stays inside; `None` for one that does not.
fn inside(bytes: &[u8]) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(bytes)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

fn refused(key: &str, path: &[u8], why: &str) -> ActionError {
    let path = String::from_utf8_lossy(path);
    ActionError::fatal(format!("`{key}` is refused: `{path}` {why}")).help(ANOTHER_BACKUP)
}

fn cannot(error: &HostError) -> ActionError {
    ActionError::retryable("the backup cannot be written beside the data").because(error)
}

fn undurable(error: &std::io::Error) -> ActionError {
    ActionError::retryable("the staged files cannot be made durable").because(error)
}

fn full(path: &Path, error: &std::io::Error) -> ActionError {
    ActionError::retryable(format!("cannot write `{}`", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_the_target() {
        assert_eq!(inside(b"base/1/1259"), Some(PathBuf::from("base/1/1259")));
        assert_eq!(inside(b"./PG_VERSION"), Some(PathBuf::from("PG_VERSION")));
    }

    #[test]
    fn absolute_paths_and_parents_are_refused() {
        assert_eq!(inside(b"/etc/passwd"), None);
        assert_eq!(inside(b"base/../../etc/passwd"), None);
    }
}
