//! The two journeys: into a store and back.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Packed, Packing, PlainFacts, TransferError, Unpacking};
use crate::action::{ByteStream, ObjectKey, PutOptions, PutOutcome, ReadStore, Store};

const CHUNK_BYTES: usize = 256 << 10;

/// What an object must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The bytes as stored.
    pub stored: PlainFacts,
    /// The bytes as read.
    pub plain: PlainFacts,
}

/// How far a journey is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Plain bytes so far.
    pub plain_bytes: u64,
    /// Stored bytes so far.
    pub stored_bytes: u64,
    /// Plain bytes in all, where they are known.
    pub total_bytes: Option<u64>,
}

/// Is told of progress, often.
pub type Watch = Arc<dyn Fn(Progress) + Send + Sync>;

/// What an upload has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// What the object has become.
    pub packed: Packed,
    /// What the store says.
    pub outcome: PutOutcome,
}

/// What a download has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// The plain bytes.
    pub plain: PlainFacts,
}

/// Packs a body and stores it.
///
/// # Errors
/// Fails when the source or the store does. The store keeps nothing then.
pub async fn upload(
    (store, key): (&dyn Store, &ObjectKey),
    source: ByteStream,
    packing: &Packing,
    options: PutOptions,
) -> Result<Uploaded, TransferError> {
    let (body, packed) = packing.seal(source).split();
    let outcome = store.put(key, body, options).await?;
    let packed = packed().ok_or_else(|| TransferError::Settings(format!("`{key}` was not read to its end")))?;
    if (packed.stored_size_bytes, packed.stored_sha256) != (outcome.size_bytes, outcome.sha256) {
        let what = "the store has other bytes than were sent".to_owned();
        return Err(TransferError::Damaged { object: key.to_string(), what });
    }
    Ok(Uploaded { packed, outcome })
}

/// Reads an object and writes its plain bytes. Publish them only after success: they are proven at the end.
///
/// # Errors
/// Fails when the store or the target does, when no key fits, and when the object is not what it must be.
pub async fn download(
    (store, key): (&dyn ReadStore, &ObjectKey),
    unpacking: &Unpacking,
    expected: Expected,
    target: &mut (dyn AsyncWrite + Send + Unpin),
    watch: Watch,
) -> Result<Passed, TransferError> {
    let mut body = unpacking.open(store.get(key).await?, expected);
    let (mut buffer, mut progress) = (vec![0; CHUNK_BYTES], Progress::default());
    progress.total_bytes = Some(expected.plain.size_bytes);
    loop {
        let count = match body.read(&mut buffer).await {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(TransferError::Damaged { object: key.to_string(), what: error.to_string() });
            }
            Err(source) => return Err(TransferError::Io { what: "read the object", source }),
        };
        if count == 0 {
            break;
        }
        let written = target.write_all(&buffer[..count]).await;
        written.map_err(|source| TransferError::Io { what: "write the target", source })?;
        progress.plain_bytes += count as u64;
        watch(progress);
    }
    target.flush().await.map_err(|source| TransferError::Io { what: "write the target", source })?;
    Ok(Passed { plain: expected.plain })
}
