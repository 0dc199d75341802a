//! The store capability: objects under keys, in a folder, a bucket or on another machine.

mod class;
mod error;
mod key;
mod object;
mod version;

pub use class::StorageClass;
pub use error::StoreError;
pub use key::{ObjectKey, ParseObjectKeyError};
pub use object::{
    Availability, ByteStream, Capacity, GetOptions, Listing, ObjectFacts, PutOptions, PutOutcome, Seen, Unfinished,
};
pub use version::{Hold, Locks, ObjectVersion, Protection, ReadVersions, Retrieval, Versions};

use super::{BoxFuture, Bucket, ReadBucket};

/// The reading half of a store.
pub trait ReadStore: Send + Sync {
    /// The store's name in the inventory.
    fn name(&self) -> &str;
    /// Opens an object, or a part of it. The stream of a whole object ends only after as many bytes as
    /// `head` tells: a body that breaks off is an error, never a short object.
    fn get_with(&self, key: &ObjectKey, options: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>>;
    /// Tells the facts of an object.
    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>>;
    /// Lists every object whose key starts with `prefix`, sorted by key.
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>>;

    /// Opens an object from its start.
    fn get(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        self.get_with(key, GetOptions::default())
    }
    /// Opens an object from its start and tells its facts: both of one content.
    fn get_told(&self, key: &ObjectKey) -> BoxFuture<'_, Result<(ObjectFacts, ByteStream), StoreError>> {
        let key = key.clone();
        Box::pin(async move {
            let facts = self.head(&key).await?;
            let options = GetOptions { if_match: facts.etag.clone(), ..GetOptions::default() };
            Ok((facts, self.get_with(&key, options).await?))
        })
    }
    /// Tells which objects there are whose keys are `stem` and one of these endings, in the order of the endings. Where a
    /// listing reads a whole folder, as on a disk, it costs as little among very many objects.
    fn which(&self, stem: &str, endings: &[String]) -> BoxFuture<'_, Result<Vec<ObjectKey>, StoreError>> {
        let (stem, endings) = (stem.to_owned(), endings.to_vec());
        Box::pin(async move {
            let listed = self.list(&stem).await?;
            let is_there = |key: &ObjectKey| listed.iter().any(|facts| facts.key == *key);
            let keys = endings.iter().filter_map(|ending| format!("{stem}{ending}").parse().ok());
            Ok(keys.filter(is_there).collect())
        })
    }
    /// Lists one level: what begins with `prefix`, cut at the next `/`.
    fn browse(&self, prefix: &str) -> BoxFuture<'_, Result<Listing, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move { Ok(Listing::of(&prefix, self.list(&prefix).await?)) })
    }
    /// Lists what writers began below `prefix` and did not finish, where it takes room until somebody removes it; stores that
    /// do so by themselves list nothing.
    fn unfinished(&self, _prefix: &str) -> BoxFuture<'_, Result<Vec<Unfinished>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    /// Tells how much room there is; `None` where it has no bound that can be known.
    fn capacity(&self) -> BoxFuture<'_, Result<Option<Capacity>, StoreError>> {
        Box::pin(async { Ok(None) })
    }
    /// The versions, where the store can keep them.
    fn read_versions(&self) -> Option<&dyn ReadVersions> {
        None
    }
    /// The settings of its bucket, where it lies in one.
    fn read_bucket(&self) -> Option<&dyn ReadBucket> {
        None
    }
}

/// A store that may be changed.
pub trait Store: ReadStore {
    /// Stores a body durably: when this returns, the object survives a power cut. All or nothing: dropped
    /// before, the key has what it had.
    fn put(
        &self,
        key: &ObjectKey,
        body: ByteStream,
        options: PutOptions,
    ) -> BoxFuture<'_, Result<PutOutcome, StoreError>>;
    /// Removes an object; one that is not there is no error.
    fn delete(&self, key: &ObjectKey) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Removes what a writer did not finish, and tells whether it is gone; one that is seen to be at work keeps it.
    fn discard(&self, _unfinished: &Unfinished) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async { Ok(false) })
    }
    /// Gives the reading half.
    fn as_read(&self) -> &dyn ReadStore;

    /// Copies an object inside the store, its metadata with it unless `options` gives other.
    fn copy(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        options: PutOptions,
    ) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        let (from, to) = (from.clone(), to.clone());
        Box::pin(async move {
            let facts = self.head(&from).await?;
            let body = self.get_with(&from, GetOptions { if_match: facts.etag, ..GetOptions::default() }).await?;
            let metadata = if options.metadata.is_empty() { facts.metadata } else { options.metadata.clone() };
            self.put(&to, body, PutOptions { metadata, size_bytes: Some(facts.size_bytes), ..options }).await
        })
    }
    /// The versions, where the store can keep them.
    fn versions(&self) -> Option<&dyn Versions> {
        None
    }
    /// The retrieval of archived objects, where the store has such classes.
    fn retrieval(&self) -> Option<&dyn Retrieval> {
        None
    }
    /// The locks, where the store can refuse to delete.
    fn locks(&self) -> Option<&dyn Locks> {
        None
    }
    /// The settings of its bucket, where it lies in one.
    fn bucket(&self) -> Option<&dyn Bucket> {
        None
    }
}
