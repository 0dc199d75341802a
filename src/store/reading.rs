//! A store that is only read: what would change it refuses.

use std::sync::Arc;

use crate::action::{
    BoxFuture, ByteStream, Capacity, GetOptions, Listing, ObjectFacts, ObjectKey, PutOptions, PutOutcome, ReadBucket,
    ReadStore, ReadVersions, Store, StoreError,
};

/// A store for a rehearsed attempt.
pub struct ReadingStore(pub Arc<dyn ReadStore>);

impl ReadingStore {
    fn refused<T: Send + 'static>(&self) -> BoxFuture<'_, Result<T, StoreError>> {
        let store = self.0.name().to_owned();
        Box::pin(
            async move { Err(StoreError::Refused { store, what: "nothing is written in a rehearsal".to_owned() }) },
        )
    }
}

impl ReadStore for ReadingStore {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn get_with(&self, key: &ObjectKey, options: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        self.0.get_with(key, options)
    }
    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
        self.0.head(key)
    }
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
        self.0.list(prefix)
    }
    fn browse(&self, prefix: &str) -> BoxFuture<'_, Result<Listing, StoreError>> {
        self.0.browse(prefix)
    }
    fn capacity(&self) -> BoxFuture<'_, Result<Option<Capacity>, StoreError>> {
        self.0.capacity()
    }
    fn read_versions(&self) -> Option<&dyn ReadVersions> {
        self.0.read_versions()
    }
    fn read_bucket(&self) -> Option<&dyn ReadBucket> {
        self.0.read_bucket()
    }
}

impl Store for ReadingStore {
    fn put(&self, _: &ObjectKey, _: ByteStream, _: PutOptions) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        self.refused()
    }
    fn delete(&self, _: &ObjectKey) -> BoxFuture<'_, Result<(), StoreError>> {
        self.refused()
    }
    fn as_read(&self) -> &dyn ReadStore {
        self
    }
}
