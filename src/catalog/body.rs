//! Reads small objects whole.

use tokio::io::AsyncReadExt;

use super::CatalogError;
use crate::action::{ObjectKey, ReadStore, StoreError};
use crate::base::Digest;

/// Reads an object of at most `limit` bytes.
///
/// # Errors
/// Fails when it is absent, cannot be read, or is longer.
pub async fn read_small(store: &dyn ReadStore, key: &ObjectKey, limit: u64) -> Result<Vec<u8>, CatalogError> {
    let mut bytes = Vec::new();
    let body = store.get(key).await?;
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
    let damaged = |what: &str| CatalogError::Damaged { key: key.to_string(), what: what.to_owned() };
    let facts = store.head(key).await?;
    let bytes = read_small(store, key, limit).await?;
    match facts.metadata.get("sha256") {
        None => Err(damaged("its digest is missing")),
        Some(digest) if *digest != Digest::of(&bytes).to_string() => Err(damaged("its SHA-256 differs")),
        Some(_) => Ok(bytes),
    }
}
