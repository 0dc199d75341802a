//! Replaces a copy of a WAL file whose bytes are not those that were stored by another store's whole copy.
//!
//! The archive never overwrites content. A copy that does not match its own digest is no content any more: nobody could
//! replay it.

use std::io::Cursor;

use super::WalError;
use super::packed::{LIMIT_BYTES, Parcel, Source, plain_sha256};
use super::preference::read_first;
use super::push::{Destination, WalFile, verify};
use super::spread::aside;
use crate::action::{ObjectKey, PutOptions};
use crate::base::Digest;
use crate::catalog::{read_told, wal_objects};
use crate::pgformat::WalFileName;

/// What a repair did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repaired {
    /// The damaged copy was replaced.
    Replaced,
    /// Nothing proves a copy in the store damaged: each is what was stored, or has no digest. It was left alone.
    NotProven,
}

/// Replaces a file that is damaged in a store by what one of several other archives has whole. What replaces it was held
/// against its digest and its own header before; a copy is taken for damaged only when its bytes differ from the digest
/// that was stored with it.
///
/// # Errors
/// Fails when no other archive has it whole or can be decrypted here, and when the store refuses or fails; a store that
/// locks its objects does.
pub async fn repair(from: &[Source<'_>], to: Destination<'_>, name: WalFileName) -> Result<Repaired, WalError> {
    let damaged = damaged(to, name).await?;
    if damaged.is_empty() {
        return Ok(Repaired::NotProven);
    }
    let bytes = read_first(from, name).await?;
    verify(name, &bytes, &to.identity)?;
    let file = aside(&bytes)?;
    drop(bytes);
    let whole = WalFile::look_through(file.path(), name, &to.identity)?;
    let parcel = Parcel::of(&whole, (to.prefix, &to.identity), to.packing).await?;
    // What was stored there must come back, and not what another store has under the same name.
    let is_other = |plain: &Option<Digest>| match plain {
        Some(plain) => *plain != parcel.plain_sha256,
        None => whole.unfinished.is_some(),
    };
    if damaged.iter().any(|(_, plain)| is_other(plain)) {
        return Err(WalError::Differs(name));
    }
    let damaged: Vec<ObjectKey> = damaged.into_iter().map(|(key, _)| key).collect();
    let (metadata, size_bytes) = (parcel.metadata, Some(parcel.stored.len() as u64));
    // Only what is proven damaged is written over.
    let if_absent = !damaged.contains(&parcel.key);
    let options = PutOptions { if_absent, metadata, size_bytes, ..PutOptions::default() };
    let put = to.store.put(&parcel.key, Box::new(Cursor::new(parcel.stored)), options).await?;
    if put.sha256 != parcel.sha256 {
        return Err(WalError::Damaged { name, what: "the store wrote other bytes than it was given".to_owned() });
    }
    // Packed in another way the damaged one has another key: readers find the whole one first, or none but it.
    for key in damaged.iter().filter(|key| **key != parcel.key) {
        to.store.delete(key).await?;
    }
    Ok(Repaired::Replaced)
}

/// The objects of a file whose bytes differ from their own digest, each with the digest of the plain bytes that were stored.
async fn damaged(to: Destination<'_>, name: WalFileName) -> Result<Vec<(ObjectKey, Option<Digest>)>, WalError> {
    let (store, mut damaged) = (to.store.as_read(), Vec::new());
    for key in wal_objects(store, to.prefix, to.identity.system_id, name).await? {
        let (facts, bytes) = read_told(store, &key, LIMIT_BYTES + (LIMIT_BYTES >> 4)).await?;
        if facts.sha256().is_some_and(|stored| stored != Digest::of(&bytes)) {
            damaged.push((key, plain_sha256(&facts)));
        }
    }
    Ok(damaged)
}
