//! A file that is written under a hidden name until it is whole.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use openssh_sftp_client::Error;
use openssh_sftp_client::UnixTimeStamp;
use openssh_sftp_client::file::{File, TokioCompatFile};
use openssh_sftp_client::metadata::{MetaDataBuilder, Permissions};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::session::Session;
use crate::base::Timestamp;
use crate::base::digest::Hasher;
use crate::store::deferred_cleanup::deferred_cleanup;
use crate::store::sidecar::{Known, hidden_name};

const FILE_MODE: u16 = 0o640;
const CHUNK_BYTES: usize = 256 << 10;

/// What the hidden names of half-written files say of them.
const KIND: &str = "tmp";

/// What the hidden name of a half-written file tells: its own part of the name, and when it was created by its writer's clock.
/// `None` for any other name.
pub(super) fn begun(name: &str) -> Option<(&str, Timestamp)> {
    let own = name.strip_prefix(hidden_name("", KIND).as_str())?;
    let created = uuid::Uuid::try_parse(own).ok().filter(|id| id.simple().to_string() == own)?.get_timestamp()?;
    let (seconds, _) = created.to_unix();
    Some((own, Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?))
}

/// What went wrong between a source and the server.
pub(super) enum CopyError {
    /// The source.
    Source(io::Error),
    /// The server.
    Server(Error),
}

/// A hidden file. Dropped before it was published, it is removed.
pub(super) struct Temporary {
    session: Arc<Session>,
    path: PathBuf,
    file: Option<Pin<Box<TokioCompatFile>>>,
    kept: bool,
}

impl Temporary {
    /// Creates a file that nobody else writes, in the folder of `beside`.
    pub(super) async fn create(session: &Arc<Session>, beside: &Path) -> Result<Self, Error> {
        let path = beside.with_file_name(hidden_name(&uuid::Uuid::now_v7().simple().to_string(), KIND));
        // Its name is its own from here on: a request that was sent may be carried out although nobody waits for it.
        let mut temporary = Self { session: Arc::clone(session), path, file: None, kept: false };
        let mut options = session.sftp().options();
        let mut file = options.read(true).write(true).create_new(true).open(&temporary.path).await?;
        file.set_permissions(Permissions::from(FILE_MODE)).await?;
        temporary.file = Some(Box::pin(TokioCompatFile::new(file)));
        Ok(temporary)
    }

    /// Its name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Copies a body into it. Returns size and digest.
    pub(super) async fn fill(&mut self, body: &mut (dyn AsyncRead + Send + Unpin)) -> Result<Known, CopyError> {
        let (mut hasher, mut buffer, mut size_bytes) = (Hasher::default(), vec![0; CHUNK_BYTES], 0);
        let mut file = self.writer()?;
        loop {
            let count = body.read(&mut buffer).await.map_err(CopyError::Source)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).await.map_err(lost)?;
            size_bytes += count as u64;
        }
        file.flush().await.map_err(lost)?;
        Ok(Known { sha256: hasher.finish(), size_bytes, metadata: std::collections::BTreeMap::new() })
    }

    /// Writes a small content, durably.
    pub(super) async fn write(&mut self, content: &[u8]) -> Result<(), Error> {
        let syncing = self.session.syncing();
        let file = self.file()?;
        file.write_all(content).await?;
        let synced = file.sync_all().await;
        drop(syncing);
        synced
    }

    /// Makes its bytes, and the name it has by now, durable.
    pub(super) async fn sync(&mut self) -> Result<(), Error> {
        let syncing = self.session.syncing();
        let synced = self.file()?.sync_all().await;
        drop(syncing);
        synced
    }

    /// When it was last written, by the server's clock, in seconds.
    pub(super) async fn written_at(&mut self) -> Result<u32, Error> {
        let facts = self.file()?.metadata().await?;
        Ok(facts.modified().map_or(0, UnixTimeStamp::into_raw))
    }

    /// Sets when it was last written.
    pub(super) async fn set_written_at(&mut self, seconds: u32) -> Result<(), Error> {
        let Some(at) = UnixTimeStamp::from_raw(seconds) else { return Ok(()) };
        self.file()?.set_metadata(MetaDataBuilder::new().time(at, at).create()).await
    }

    /// Says that the file has its final name.
    pub(super) fn published(&mut self) {
        self.kept = true;
    }

    /// Whether it has its final name.
    pub(super) fn is_published(&self) -> bool {
        self.kept
    }

    /// Removes it, and waits for that.
    pub(super) async fn discard(mut self) {
        self.kept = true;
        self.file = None;
        // A file that cannot be removed stays hidden.
        let _ = self.session.fs().remove_file(&self.path).await;
    }

    fn writer(&mut self) -> Result<Pin<&mut TokioCompatFile>, CopyError> {
        self.file.as_mut().map(Pin::as_mut).ok_or_else(|| lost(io::ErrorKind::BrokenPipe.into()))
    }

    fn file(&mut self) -> Result<&mut File, Error> {
        let closed = || Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        self.file.as_mut().map(|file| file.as_mut().as_mut_file()).ok_or_else(closed)
    }
}

/// The client hides the server's answer in an error of its own.
fn lost(error: io::Error) -> CopyError {
    let kind = error.kind();
    match error.into_inner().map(|inner| inner.downcast::<Error>()) {
        Some(Ok(error)) => CopyError::Server(*error),
        Some(Err(other)) => CopyError::Server(Error::from(io::Error::new(kind, other))),
        None => CopyError::Server(Error::from(io::Error::from(kind))),
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (session, path) = (Arc::clone(&self.session), std::mem::take(&mut self.path));
        self.file = None;
        deferred_cleanup(async move {
            let _ = session.fs().remove_file(&path).await;
        });
    }
}
