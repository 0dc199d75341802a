//! Plain bytes between the asynchronous world of stores and the blocking one of archives.

use std::io;
use std::sync::Arc;

use tokio_util::io::SyncIoBridge;

use super::failure::transfer_failed;
use crate::action::{ActionError, ByteStream, ObjectKey, ReadStore};
use crate::catalog::ManifestObject;
use crate::transfer::{Expected, PlainFacts, TransferError, Unpacking, download};

const PIPE_BYTES: usize = 1 << 20;

/// Reads the plain bytes of an object while they arrive.
pub(in crate::actions) type Incoming = SyncIoBridge<tokio::io::DuplexStream>;

/// What an object must be.
pub(in crate::actions) fn expected(object: &ManifestObject) -> Expected {
    let stored = PlainFacts { size_bytes: object.size_bytes, sha256: object.sha256 };
    Expected { stored, plain: object.plain_facts() }
}

/// What came of reading an object.
pub(in crate::actions) enum Read<T> {
    /// It is what it must be.
    Whole(T),
    /// It is not: what differs.
    Damaged(String),
}

/// Downloads an object into a blocking reader. Damage is an answer, not a failure.
///
/// # Errors
/// Fails when the store or the reader does, and when no key fits.
pub(in crate::actions) async fn read<T: Send + 'static>(
    (store, key): (&dyn ReadStore, &ObjectKey),
    unpacking: &Unpacking,
    object: &ManifestObject,
    reader: impl FnOnce(&mut Incoming) -> io::Result<T> + Send + 'static,
) -> Result<Read<T>, ActionError> {
    let (mut ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let reading = tokio::task::spawn_blocking(move || {
        let mut incoming = SyncIoBridge::new(theirs);
        let value = reader(&mut incoming)?;
        // An archive may end before its object does; the digest is over all of it.
        io::copy(&mut incoming, &mut io::sink())?;
        Ok::<T, io::Error>(value)
    });
    let passed = download((store, key), unpacking, expected(object), &mut ours, Arc::new(|_| {})).await;
    drop(ours);
    let value = reading.await.map_err(|error| ActionError::fatal("the reader broke off").because(&error))?;
    match (passed, value) {
        (Ok(_), Ok(value)) => Ok(Read::Whole(value)),
        // The reader gave up first, so that nothing could be written to it any more.
        (Ok(_) | Err(TransferError::Io { what: "write the target", .. }), Err(error)) if unreadable(&error) => {
            Ok(Read::Damaged(format!("`{key}`: {error}")))
        }
        (Ok(_) | Err(TransferError::Io { what: "write the target", .. }), Err(error)) => {
            Err(ActionError::retryable(format!("`{key}` cannot be unpacked")).because(&error))
        }
        (Err(error @ TransferError::Damaged { .. }), _) => Ok(Read::Damaged(error.to_string())),
        (Err(error), _) => Err(transfer_failed(error)),
    }
}

/// Whether an error speaks of what was read, and not of where it was written to.
fn unreadable(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// A body that a blocking writer fills; ask the second half how it went once the body was read.
pub(in crate::actions) fn written<T: Send + 'static>(
    writer: impl FnOnce(&mut Incoming) -> io::Result<T> + Send + 'static,
) -> (ByteStream, tokio::task::JoinHandle<io::Result<T>>) {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let writing = tokio::task::spawn_blocking(move || {
        let mut outgoing = SyncIoBridge::new(theirs);
        let value = writer(&mut outgoing)?;
        outgoing.shutdown()?;
        Ok(value)
    });
    (Box::new(ours), writing)
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::unreadable;

    #[test]
    fn a_disk_that_takes_nothing_says_nothing_of_what_was_read() {
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::PermissionDenied, ErrorKind::Other] {
            assert!(!unreadable(&Error::from(kind)), "{kind}");
        }
        assert!(unreadable(&ErrorKind::InvalidData.into()) && unreadable(&ErrorKind::UnexpectedEof.into()));
    }
}
