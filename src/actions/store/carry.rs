//! Carries one content into a store and proves that it arrived.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::{broke_off, copy};
use super::passing::{Meter, Passing};
use super::store_failed;
use crate::action::{
    ActionError, ByteStream, GetOptions, ObjectKey, PlainFacts, PutOptions, PutOutcome, ReadStore, Store,
};
use crate::base::Digest;

/// How it is proven that an object arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Every byte is read back and digested.
    #[default]
    ReadBack,
    /// What was sent has the right digest, and the store tells the right size: for stores whose reading is dear.
    Sent,
}

/// An object that was stored, with its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoredObject {
    /// Its key.
    pub key: String,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Whether the same content was there before.
    pub existed: bool,
    /// Its version, where the store keeps versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// One object of a store.
pub(in crate::actions) type Object<'a> = (&'a dyn Store, &'a ObjectKey);

/// Puts a content whose digest is known. A body that turns out to be another leaves the store as it was.
pub(in crate::actions) async fn put_known(
    (store, key): Object<'_>,
    (body, facts): (ByteStream, PlainFacts),
    options: PutOptions,
    meter: &Meter,
) -> Result<PutOutcome, ActionError> {
    let mut options = PutOptions { size_bytes: Some(facts.size_bytes), ..options };
    options.metadata.insert("sha256".to_owned(), facts.sha256.to_string());
    let body = Passing::new(body).expecting(facts).metered(meter);
    let outcome = store.put(key, Box::new(body), options).await.map_err(store_failed)?;
    if (outcome.size_bytes, outcome.sha256) == (facts.size_bytes, facts.sha256) {
        return Ok(outcome);
    }
    Err(ActionError::retryable(format!("store `{}` has other bytes of `{key}` than were sent", store.name())))
}

/// Proves that an object is what was put.
pub(in crate::actions) async fn prove(
    (store, key): Object<'_>,
    put: &PutOutcome,
    proof: Proof,
) -> Result<StoredObject, ActionError> {
    match proof {
        Proof::ReadBack => {
            let read = read_facts(store.as_read(), key, GetOptions::default()).await?;
            if (read.size_bytes, read.sha256) != (put.size_bytes, put.sha256) {
                return Err(ActionError::retryable(format!("`{key}` reads back with other content than was stored")));
            }
        }
        Proof::Sent => {
            let size_bytes = store.head(key).await.map_err(store_failed)?.size_bytes;
            if size_bytes != put.size_bytes {
                let fact = format!("`{key}` has {size_bytes} bytes in the store, not {}", put.size_bytes);
                return Err(ActionError::retryable(fact));
            }
        }
    }
    Ok(StoredObject {
        key: key.to_string(),
        size_bytes: put.size_bytes,
        sha256: put.sha256,
        existed: put.existed,
        version: put.version.clone(),
    })
}

/// Reads an object to its end and tells what it is.
pub(in crate::actions) async fn read_facts(
    store: &dyn ReadStore,
    key: &ObjectKey,
    options: GetOptions,
) -> Result<PlainFacts, ActionError> {
    let mut body = store.get_with(key, options).await.map_err(store_failed)?;
    let read = copy(&mut body, &mut tokio::io::sink()).await;
    let (size_bytes, sha256) = read.map_err(|error| broke_off(store.name(), key, error))?;
    Ok(PlainFacts { size_bytes, sha256 })
}

/// Copies an object, inside a store by the store itself, and proves the copy by digest.
pub(in crate::actions) async fn copy_object(
    (from, key): Object<'_>,
    (to, new): Object<'_>,
    (options, proof): (PutOptions, Proof),
    meter: &Meter,
) -> Result<StoredObject, ActionError> {
    let facts = from.head(key).await.map_err(store_failed)?;
    let same = || GetOptions { if_match: facts.etag.clone(), ..GetOptions::default() };
    let sha256 = match facts.sha256() {
        Some(sha256) => sha256,
        None => read_facts(from.as_read(), key, same()).await?.sha256,
    };
    let wanted = PlainFacts { size_bytes: facts.size_bytes, sha256 };
    let put = if from.name() == to.name() {
        let metadata = facts.metadata.clone();
        let options = PutOptions { size_bytes: Some(facts.size_bytes), metadata, ..options };
        let put = to.copy(key, new, options).await.map_err(store_failed)?;
        PutOutcome { size_bytes: wanted.size_bytes, sha256, ..put }
    } else {
        let body = from.get_with(key, same()).await.map_err(store_failed)?;
        let options = PutOptions { metadata: facts.metadata.clone(), ..options };
        put_known((to, new), (body, wanted), options, meter).await?
    };
    prove((to, new), &put, proof).await
}
