//! The two journeys: into a store and back.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::meter::{Bottleneck, Meter};
use super::{Packed, Packing, Plain, PlainFacts, TransferError, Unpacking};
use crate::action::{ByteStream, ObjectKey, PutOptions, PutOutcome, ReadStore, Store, StoreError};
use crate::base::clock;

const CHUNK_BYTES: usize = 256 << 10;

/// What an object must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The bytes as stored.
    pub stored: PlainFacts,
    /// The bytes as read.
    pub plain: Plain,
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
    /// What bound it.
    pub bottleneck: Bottleneck,
}

/// What a download has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// The plain bytes.
    pub plain: Plain,
    /// What bound it.
    pub bottleneck: Bottleneck,
}

/// Packs a body and stores it.
///
/// # Errors
/// Fails when the source or the store does. The store keeps nothing then; where it has other bytes than were sent, what
/// it made of them is removed again, unless an object was there before: then the error says so.
pub async fn upload(
    (store, key): (&dyn Store, &ObjectKey),
    source: ByteStream,
    packing: &Packing,
    options: PutOptions,
) -> Result<Uploaded, TransferError> {
    let began = clock::monotonic();
    let options = PutOptions { size_bytes: options.size_bytes.filter(|_| packing.encoding().is_plain()), ..options };
    let sealed = packing.seal(source);
    let meter = Arc::clone(&sealed.meter);
    let (body, packed) = sealed.split();
    let was_free = options.if_absent || is_free(store, key).await;
    let outcome = store.put(key, body, options).await?;
    let packed = packed().ok_or_else(|| TransferError::Settings(format!("`{key}` was not read to its end")))?;
    if (packed.stored_size_bytes, packed.stored_sha256) != (outcome.size_bytes, outcome.sha256) {
        return Err(TransferError::Damaged {
            object: key.to_string(),
            what: take_back(store, key, was_free && !outcome.existed).await,
        });
    }
    Ok(Uploaded { packed, outcome, bottleneck: meter.bottleneck(began.elapsed()) })
}

/// Whether there is no object of this key, or no store yet; doubt is a no.
async fn is_free(store: &dyn Store, key: &ObjectKey) -> bool {
    match store.head(key).await {
        Ok(_) => false,
        Err(StoreError::NotFound { .. }) => true,
        Err(error) => error.is_unborn(),
    }
}

/// Removes what a store made of other bytes than were sent, where that is ours alone; else says what is left to do.
async fn take_back(store: &dyn Store, key: &ObjectKey, is_ours: bool) -> String {
    let fact = "the store has other bytes than were sent";
    if !is_ours {
        return format!("{fact}; another object may have been there before, so it is left: remove or replace it");
    }
    match store.delete(key).await {
        Ok(()) => format!("{fact}; the object was removed again"),
        Err(error) => format!("{fact}; it could not be removed again ({error}): remove it"),
    }
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
    let (began, meter) = (clock::monotonic(), Arc::<Meter>::default());
    let mut body = unpacking.open_metered(store.get(key).await?, expected, Arc::clone(&meter));
    let unwritten = |source: io::Error| TransferError::Io { what: "write the target", source };
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = body.read(&mut buffer).await.map_err(|error| TransferError::of_reading(key.as_str(), error))?;
        if count == 0 {
            break;
        }
        target.write_all(&buffer[..count]).await.map_err(unwritten)?;
        watch(meter.progress(Some(expected.plain.size_bytes)));
    }
    target.flush().await.map_err(unwritten)?;
    Ok(Passed { plain: expected.plain, bottleneck: meter.bottleneck(began.elapsed()) })
}
