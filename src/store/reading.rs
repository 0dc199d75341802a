//! A store that is only read: what would change it refuses.

use std::sync::Arc;

use crate::action::{
    BoxFuture, ByteStream, ObjectFacts, ObjectKey, PutOptions, PutOutcome, ReadStore, Store, StoreError,
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
    fn get(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        self.0.get(key)
    }
    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
        self.0.head(key)
    }
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
        self.0.list(prefix)
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
