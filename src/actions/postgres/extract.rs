//! Extracts a tar object of a base backup while its bytes arrive, and verifies all of it on the way.
//!
//! Two proofs at once: the SHA-256 of the whole object from our own manifest, and size and checksum
//! of each file from the server's `backup_manifest`. Nothing outside the target folder can be
//! written: absolute paths, `..`, links and devices are refused, since a base backup has none.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tar::{Archive, Entry, EntryType};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::owner::Owner;
use crate::action::{ActionError, ByteStream, Files, HostError};
use crate::actions::archive::Bounded;
use crate::base::Digest;
use crate::base::digest::Hasher;
use crate::pgformat::{BackupManifest, FileVerifier};

const CHUNK_BYTES: usize = 256 * 1024;
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
    /// Bytes read so far, over all objects.
    pub(crate) done: Arc<AtomicU64>,
}

/// What one object must be.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// Its key, for messages.
    pub(crate) key: String,
    /// Its size.
    pub(crate) size_bytes: u64,
    /// SHA-256 of its bytes.
    pub(crate) sha256: Digest,
}

impl Extraction {
    /// Reads an object to its end and gives the manifest paths of the files it held.
    ///
    /// # Errors
    /// Fails when anything differs from what is expected; what was written then is worthless.
    pub(crate) async fn run(
        self,
        body: ByteStream,
        expected: &Expected,
        cancel: &CancellationToken,
    ) -> Result<BTreeSet<Vec<u8>>, ActionError> {
        let (send, receive) = mpsc::channel(8);
        let done = Arc::clone(&self.done);
        let key = expected.key.clone();
        let blocking = tokio::task::spawn_blocking(move || self.unpack(&key, receive));
        let (pumped, unpacked) = tokio::join!(pump(body, send, done, cancel), blocking);
        if cancel.is_cancelled() {
            return Err(ActionError::cancelled("the restore was cancelled; only the staged folder was written"));
        }
        let broken = |error: &io::Error| match error.kind() {
            // What the stream found out at its end, or the first byte that cannot be decrypted.
            io::ErrorKind::InvalidData => {
                ActionError::fatal(format!("`{}` is damaged: {error}", expected.key)).help(ANOTHER_BACKUP)
            }
            _ => ActionError::retryable(format!("reading `{}` from the store broke off", expected.key)).because(error),
        };
        pumped.map_err(|error| broken(&error))?;
        let unpacked = unpacked.map_err(|error| ActionError::fatal("the extraction panicked").because(&error))?;
        let (seen, size_bytes, sha256) = unpacked?;
        if size_bytes != expected.size_bytes || sha256 != expected.sha256 {
            let fact = format!(
                "`{}` is damaged: {size_bytes} bytes with SHA-256 {sha256} instead of {} with {}",
                expected.key, expected.size_bytes, expected.sha256
            );
            return Err(ActionError::fatal(fact).help(ANOTHER_BACKUP));
        }
        Ok(seen)
    }

    fn unpack(
        &self,
        key: &str,
        receive: mpsc::Receiver<Vec<u8>>,
    ) -> Result<(BTreeSet<Vec<u8>>, u64, Digest), ActionError> {
        let mut reader = Incoming { receive, chunk: Vec::new(), at: 0, hasher: Hasher::default(), size_bytes: 0 };
        let (bounded, allowance) = Bounded::new(&mut reader);
        let mut archive = Archive::new(bounded);
        let mut seen = BTreeSet::new();
        let damaged = |error: &io::Error| {
            let fact = format!("`{key}` is damaged: it cannot be unpacked");
            ActionError::fatal(fact).because(error).help(ANOTHER_BACKUP)
        };
        for entry in archive.entries().map_err(|error| damaged(&error))? {
            let mut entry = entry.map_err(|error| damaged(&error))?;
            allowance.content();
            seen.extend(self.entry(key, &mut entry)?);
            allowance.next(&mut entry).map_err(|error| damaged(&error))?;
        }
        io::copy(&mut reader, &mut io::sink()).map_err(|error| damaged(&error))?;
        Ok((seen, reader.size_bytes, reader.hasher.finish()))
    }

    /// Makes one entry; gives its manifest path when it is a file.
    fn entry(&self, key: &str, entry: &mut Entry<'_, impl Read>) -> Result<Option<Vec<u8>>, ActionError> {
        let bytes = entry.path_bytes().into_owned();
        let path = inside(&bytes).ok_or_else(|| refused(key, &bytes, "leads out of the target folder"))?;
        match entry.header().entry_type() {
            EntryType::Directory => {
                if !path.as_os_str().is_empty() {
                    self.folder(&self.root.join(&path)).map_err(|error| cannot(&error))?;
                }
                Ok(None)
            }
            EntryType::Regular => self.file(key, &path, entry).map(Some),
            _ => Err(refused(key, &bytes, "is neither a file nor a folder")),
        }
    }

    fn file(&self, key: &str, path: &Path, entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, ActionError> {
        let mut listed = self.prefix.clone();
        listed.extend_from_slice(path.as_os_str().as_bytes());
        let mut verifier = match &self.manifest {
            Some(manifest) => {
                let known = manifest.file(&listed).ok_or_else(|| refused(key, &listed, "is not in backup_manifest"))?;
                Some(FileVerifier::new(known))
            }
            None => None,
        };
        let place = self.root.join(path);
        if let Some(parent) = place.parent() {
            self.folder(parent).map_err(|error| cannot(&error))?;
        }
        let mut file = self.files.create(&place, 0o600).map_err(|error| cannot(&error))?;
        std::os::unix::fs::fchown(&file, Some(self.owner.uid), Some(self.owner.gid))
            .map_err(|error| full(&place, &error))?;
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let count = entry.read(&mut buffer).map_err(|error| {
                ActionError::retryable(format!("`{key}` breaks off in `{}`", path.display())).because(&error)
            })?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).map_err(|error| full(&place, &error))?;
            if let Some(verifier) = &mut verifier {
                verifier.update(&buffer[..count]);
            }
        }
        verifier.map_or(Ok(()), FileVerifier::finish).map_err(|fault| {
            ActionError::fatal(format!("`{}` in `{key}` is damaged", path.display()))
                .because(&fault)
                .help(ANOTHER_BACKUP)
        })?;
        Ok(listed)
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

async fn pump(
    mut body: ByteStream,
    send: mpsc::Sender<Vec<u8>>,
    done: Arc<AtomicU64>,
    cancel: &CancellationToken,
) -> io::Result<()> {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let count = tokio::select! {
            read = body.read(&mut chunk) => read?,
            () = cancel.cancelled() => return Ok(()),
        };
        chunk.truncate(count);
        done.fetch_add(count as u64, Ordering::Relaxed);
        if count == 0 || send.send(chunk).await.is_err() {
            return Ok(());
        }
    }
}

/// The blocking end of the stream; digests what passes.
struct Incoming {
    receive: mpsc::Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    hasher: Hasher,
    size_bytes: u64,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            let Some(chunk) = self.receive.blocking_recv() else { return Ok(0) };
            self.hasher.update(&chunk);
            self.size_bytes += chunk.len() as u64;
            self.chunk = chunk;
            self.at = 0;
        }
        let count = buffer.len().min(self.chunk.len() - self.at);
        buffer[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

fn refused(key: &str, path: &[u8], why: &str) -> ActionError {
    let path = String::from_utf8_lossy(path);
    ActionError::fatal(format!("`{key}` is refused: `{path}` {why}")).help(ANOTHER_BACKUP)
}

fn cannot(error: &HostError) -> ActionError {
    ActionError::retryable("the backup cannot be written beside the data").because(error)
}

fn full(path: &Path, error: &io::Error) -> ActionError {
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
