//! A store in front of another one: a test says what it does otherwise, all else is the other one's.

use std::sync::Arc;

use runbook::action::{
    BoxFuture, ByteStream, GetOptions, ObjectFacts, ObjectKey, PutOptions, PutOutcome, ReadStore, Store, StoreError,
};

/// What a test does to a store. An error that is given is the answer; the store behind is not asked then.
pub trait Interposer: Send + Sync + 'static {
    fn before_get(&self, _: &ObjectKey) -> Result<(), StoreError> {
        Ok(())
    }
    fn before_head(&self, _: &ObjectKey) -> Result<(), StoreError> {
        Ok(())
    }
    fn before_put(&self, _: &ObjectKey) {}
    fn after_delete(&self, _: &ObjectKey) {}
}

/// The store.
pub struct Interposed<I> {
    inner: Arc<dyn Store>,
    interposer: Arc<I>,
}

/// A store that does what `interposer` says.
pub fn interposed<I: Interposer>(inner: Arc<dyn Store>, interposer: I) -> Arc<dyn Store> {
    Arc::new(Interposed { inner, interposer: Arc::new(interposer) })
}

impl<I: Interposer> ReadStore for Interposed<I> {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn get_with(&self, key: &ObjectKey, options: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        match self.interposer.before_get(key) {
            Ok(()) => self.inner.get_with(key, options),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }
    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
        match self.interposer.before_head(key) {
            Ok(()) => self.inner.head(key),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
        self.inner.list(prefix)
    }
}

impl<I: Interposer> Store for Interposed<I> {
    fn put(
        &self,
        key: &ObjectKey,
        body: ByteStream,
        options: PutOptions,
    ) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        self.interposer.before_put(key);
        self.inner.put(key, body, options)
    }
    fn delete(&self, key: &ObjectKey) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.clone();
        Box::pin(async move {
            self.inner.delete(&key).await?;
            self.interposer.after_delete(&key);
            Ok(())
        })
    }
    fn as_read(&self) -> &dyn ReadStore {
        self
    }
}
