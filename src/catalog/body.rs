//! Reads small objects whole.

use tokio::io::AsyncReadExt;

use super::{CatalogError, Manifest, sidecar};
use crate::action::{ByteStream, ObjectFacts, ObjectKey, ReadStore, StoreError};
use crate::base::Digest;
use crate::catalog::key::MANIFEST;

/// Reads an object of at most `limit` bytes.
///
/// # Errors
/// Fails when it is absent, cannot be read, or is longer.
pub async fn read_small(store: &dyn ReadStore, key: &ObjectKey, limit: u64) -> Result<Vec<u8>, CatalogError> {
    let body = store.get(key).await?;
    whole(body, Vec::new(), (store, key, limit)).await
}

/// Reads a small object and its facts.
///
/// # Errors
/// Fails as [`read_small`].
pub async fn read_told(
    store: &dyn ReadStore,
    key: &ObjectKey,
    limit: u64,
) -> Result<(ObjectFacts, Vec<u8>), CatalogError> {
    let (facts, body) = store.get_told(key).await?;
    // One byte more shows the end without a larger buffer.
    let room = Vec::with_capacity(usize::try_from(facts.size_bytes.min(limit) + 1).unwrap_or_default());
    let bytes = whole(body, room, (store, key, limit)).await?;
    Ok((facts, bytes))
}

async fn whole(
    body: ByteStream,
    mut bytes: Vec<u8>,
    (store, key, limit): (&dyn ReadStore, &ObjectKey, u64),
) -> Result<Vec<u8>, CatalogError> {
    body.take(limit + 1).read_to_end(&mut bytes).await.map_err(|source| StoreError::Unavailable {
        store: store.name().to_owned(),
        what: format!("cannot read `{key}`"),
        source,
    })?;
    if bytes.len() as u64 > limit {
        return Err(CatalogError::Damaged { key: key.to_string(), what: format!("longer than {limit} bytes") });
    }
    Ok(bytes)
}

/// Reads an object and holds it against the digest it was stored with.
///
/// # Errors
/// Fails as [`read_small`], and when the digest is missing or differs.
pub async fn read_verified(store: &dyn ReadStore, key: &ObjectKey, limit: u64) -> Result<Vec<u8>, CatalogError> {
    let (bytes, known) = read_known(store, key, limit).await?;
    match known {
        Known::Not => Err(damaged(key, "its digest is missing")),
        Known::Same => Ok(bytes),
    }
}

/// Reads the manifest of a backup. One that was copied without its metadata is taken at the word of `SHA256SUMS` beside
/// it: both were written from the same digests, and what they name is proven when it is read.
///
/// # Errors
/// Fails as [`read_verified`], and when neither digest nor sidecar vouches for it.
pub(super) async fn read_manifest(store: &dyn ReadStore, key: &ObjectKey, limit: u64) -> Result<Vec<u8>, CatalogError> {
    let (bytes, known) = read_known(store, key, limit).await?;
    match known {
        Known::Same => return Ok(bytes),
        Known::Not => {}
    }
    let folder = key.as_str().strip_suffix(MANIFEST).unwrap_or_default();
    let beside: Option<ObjectKey> = format!("{folder}{}", sidecar::NAME).parse().ok();
    let sums = match beside {
        Some(beside) => read_small(store, &beside, limit).await,
        None => return Err(damaged(key, "its digest is missing")),
    };
    let manifest: Option<Manifest> = serde_json::from_slice(&bytes).ok();
    match (sums, manifest) {
        (Ok(sums), Some(manifest)) if sidecar::vouches(&sums, &manifest) => Ok(bytes),
        (Ok(_) | Err(CatalogError::Damaged { .. }), _) => {
            Err(damaged(key, "its digest is missing, and `SHA256SUMS` beside it does not vouch for it"))
        }
        (Err(CatalogError::Store(StoreError::NotFound { .. })), _) => {
            Err(damaged(key, "its digest is missing, and no `SHA256SUMS` lies beside it"))
        }
        (Err(error), _) => Err(error),
    }
}

fn damaged(key: &ObjectKey, what: &str) -> CatalogError {
    CatalogError::Damaged { key: key.to_string(), what: what.to_owned() }
}

/// What is known of an object's bytes.
enum Known {
    /// They have the digest they were stored with.
    Same,
    /// It was stored without a digest.
    Not,
}

async fn read_known(store: &dyn ReadStore, key: &ObjectKey, limit: u64) -> Result<(Vec<u8>, Known), CatalogError> {
    let facts = store.head(key).await?;
    let bytes = read_small(store, key, limit).await?;
    match facts.metadata.get("sha256") {
        None => Ok((bytes, Known::Not)),
        Some(digest) if *digest != Digest::of(&bytes).to_string() => Err(damaged(key, "its SHA-256 differs")),
        Some(_) => Ok((bytes, Known::Same)),
    }
}
