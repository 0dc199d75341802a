//! The lock of one key, held while its new content gets its name: moments, not the length of an upload.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openssh_sftp_client::Error;

use super::fault::{Verdict, verdict};
use super::session::Session;
use crate::base::clock::monotonic;
use crate::store::deferred_cleanup::deferred_cleanup;
use crate::store::sidecar::hidden_name;

const POLL: Duration = Duration::from_millis(50);
/// A lock that did not change for so long belongs to nobody: its holder needs a few requests only.
const STALE: Duration = Duration::from_secs(30);

/// How often a lock may be gone when it is looked at before the server's failure is believed to be another one.
const VANISHED: u32 = 20;

/// A key held by this process. Dropped, it is free.
pub(super) struct KeyLock {
    session: Arc<Session>,
    path: PathBuf,
    held: bool,
}

impl KeyLock {
    /// Waits for the key of the object at `path` and takes it.
    pub(super) async fn take(session: &Arc<Session>, path: &Path) -> Result<Self, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let lock = path.with_file_name(hidden_name(&name, "lock"));
        let mut seen: Option<(Vec<u8>, std::time::Instant)> = None;
        let mut vanished = 0;
        loop {
            let taken = match attempt(session, &lock).await {
                Ok(lock) => return Ok(lock),
                // The server does not say that a name is taken: it says that it failed.
                Err(error) if verdict(&error) == Verdict::Unsaid => error,
                Err(error) => return Err(error),
            };
            let holder = match session.fs().read(&lock).await {
                Ok(holder) => holder.to_vec(),
                Err(error) if verdict(&error) == Verdict::Absent && vanished < VANISHED => {
                    vanished += 1;
                    continue;
                }
                Err(error) if verdict(&error) == Verdict::Absent => return Err(taken),
                Err(error) => return Err(error),
            };
            match &seen {
                Some((same, since)) if *same == holder => {
                    if monotonic().duration_since(*since) > STALE {
                        take_away(session, &lock, &holder).await?;
                        seen = None;
                    }
                }
                Some(_) | None => seen = Some((holder, monotonic())),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Frees the key, and waits for that.
    pub(super) async fn release(mut self) {
        self.held = false;
        // A lock that cannot be removed is taken away by the next writer.
        let _ = self.session.fs().remove_file(&self.path).await;
    }
}

async fn attempt(session: &Arc<Session>, path: &Path) -> Result<KeyLock, Error> {
    let mut options = session.sftp().options();
    let mut file = options.write(true).create_new(true).open(path).await?;
    let lock = KeyLock { session: Arc::clone(session), path: path.to_owned(), held: true };
    file.write_all(uuid::Uuid::now_v7().simple().to_string().as_bytes()).await?;
    file.close().await?;
    Ok(lock)
}

/// Removes the lock of a holder that is gone; one that was taken meanwhile is put back.
async fn take_away(session: &Arc<Session>, lock: &Path, holder: &[u8]) -> Result<(), Error> {
    let mut fs = session.fs();
    let aside = lock.with_file_name(hidden_name(&uuid::Uuid::now_v7().simple().to_string(), "tmp"));
    match fs.rename(lock, &aside).await {
        Ok(()) => {}
        Err(error) if verdict(&error) == Verdict::Absent => return Ok(()),
        Err(error) => return Err(error),
    }
    if fs.read(&aside).await? != holder {
        return fs.rename(&aside, lock).await;
    }
    fs.remove_file(&aside).await
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        let (session, path) = (Arc::clone(&self.session), std::mem::take(&mut self.path));
        deferred_cleanup(async move {
            let _ = session.fs().remove_file(&path).await;
        });
    }
}
