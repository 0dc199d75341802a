//! Bytes on their way between a file and a store.

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::action::{ActionError, Files, HostError, ObjectKey, ParamFault, RunContext, StoreError};
use crate::base::{Digest, digest::Hasher};

const CHUNK_BYTES: usize = 256 << 10;

/// Reads the key of an argument.
pub(in crate::actions) fn key(text: &str) -> Result<ObjectKey, ActionError> {
    text.parse().map_err(|_| ActionError::fatal(format!("`{text}` is not an object key")))
}

/// Judges the arguments `key` and `path`.
pub(in crate::actions) fn faults(key: &str, path: Option<&Path>) -> Result<(), Vec<ParamFault>> {
    let mut faults = Vec::new();
    if key.parse::<ObjectKey>().is_err() {
        let fault = ParamFault::new("/key", format!("`{key}` is not an object key"));
        faults.push(fault.help("parts joined by `/`, none empty, `.` or `..`"));
    }
    if path.is_some_and(Path::is_relative) {
        faults.push(ParamFault::new("/path", "the path is not absolute"));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Digests a stream to its end.
pub(in crate::actions) async fn digest(mut body: impl AsyncRead + Unpin) -> std::io::Result<(u64, Digest)> {
    copy(&mut body, &mut tokio::io::sink()).await
}

/// Copies a stream to its end and digests it.
pub(in crate::actions) async fn copy(
    body: &mut (impl AsyncRead + Unpin),
    into: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> std::io::Result<(u64, Digest)> {
    let (mut hasher, mut size_bytes, mut buffer) = (Hasher::default(), 0, vec![0; CHUNK_BYTES]);
    loop {
        let count = body.read(&mut buffer).await?;
        if count == 0 {
            into.flush().await?;
            return Ok((size_bytes, hasher.finish()));
        }
        hasher.update(&buffer[..count]);
        into.write_all(&buffer[..count]).await?;
        size_bytes += count as u64;
    }
}

/// Ends `work` when the attempt is cancelled.
pub(in crate::actions) async fn until_cancelled<T>(
    cx: &RunContext,
    work: impl Future<Output = Result<T, ActionError>>,
) -> Result<T, ActionError> {
    tokio::select! {
        done = work => done,
        () = cx.cancel.cancelled() => Err(ActionError::cancelled("the transfer was cancelled")),
    }
}

/// Does blocking work on files.
pub(in crate::actions) async fn on_files<T: Send + 'static>(
    files: Arc<dyn Files>,
    work: impl FnOnce(&dyn Files) -> Result<T, HostError> + Send + 'static,
) -> Result<T, ActionError> {
    match tokio::task::spawn_blocking(move || work(&*files)).await {
        Ok(result) => result.map_err(file_failed),
        Err(error) => Err(ActionError::fatal("the work on files broke off").because(&error)),
    }
}

/// Turns a failure of the host's files into an action's.
pub(in crate::actions) fn file_failed(error: HostError) -> ActionError {
    ActionError::fatal(error.to_string()).because(&error)
}

/// Says that a stream broke off, or that it was not what it should be.
pub(in crate::actions) fn broke_off(store: &str, key: &ObjectKey, source: std::io::Error) -> ActionError {
    if source.kind() == std::io::ErrorKind::InvalidData {
        return ActionError::fatal(format!("`{key}` is damaged: {source}"));
    }
    let what = format!("`{key}` broke off: {source}");
    super::store_failed(StoreError::Unavailable { store: store.to_owned(), what, source })
}
