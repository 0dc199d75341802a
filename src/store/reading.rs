//! A store that is only read: what would change it refuses.

use std::sync::Arc;

use crate::action::{
    BoxFuture, ByteStream, Capacity, GetOptions, Listing, ObjectFacts, ObjectKey, PutOptions, PutOutcome, ReadBucket,
    ReadStore, ReadVersions, Store, StoreError, Unfinished,
};

/// Why nothing is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The attempt is a rehearsal.
    Rehearsal,
    /// The run is a drill, and its environment, of this name, does not name the store.
    Drill(String),
}

/// A store whose reading half is all that may be used.
pub struct ReadingStore {
    inner: Arc<dyn ReadStore>,
    why: Why,
}

impl ReadingStore {
    /// Puts itself around a store.
    #[must_use]
    pub fn over(inner: Arc<dyn ReadStore>, why: Why) -> Self {
        Self { inner, why }
    }

    fn refused<T: Send + 'static>(&self) -> BoxFuture<'_, Result<T, StoreError>> {
        let store = self.inner.name().to_owned();
        let what = match &self.why {
            Why::Rehearsal => "nothing is written in a rehearsal".to_owned(),
            Why::Drill(environment) => {
                format!("a drill writes only to stores that environment `{environment}` names")
            }
        };
        Box::pin(async move { Err(StoreError::Refused { store, what }) })
    }
}

impl ReadStore for ReadingStore {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn get_with(&self, key: &ObjectKey, options: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        self.inner.get_with(key, options)
    }
    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
        self.inner.head(key)
    }
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
        self.inner.list(prefix)
    }
    fn get_told(&self, key: &ObjectKey) -> BoxFuture<'_, Result<(ObjectFacts, ByteStream), StoreError>> {
        self.inner.get_told(key)
    }
    fn which(&self, stem: &str, endings: &[String]) -> BoxFuture<'_, Result<Vec<ObjectKey>, StoreError>> {
        self.inner.which(stem, endings)
    }
    fn browse(&self, prefix: &str) -> BoxFuture<'_, Result<Listing, StoreError>> {
        self.inner.browse(prefix)
    }
    fn unfinished(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Unfinished>, StoreError>> {
        self.inner.unfinished(prefix)
    }
    fn capacity(&self) -> BoxFuture<'_, Result<Option<Capacity>, StoreError>> {
        self.inner.capacity()
    }
    fn read_versions(&self) -> Option<&dyn ReadVersions> {
        self.inner.read_versions()
    }
    fn read_bucket(&self) -> Option<&dyn ReadBucket> {
        self.inner.read_bucket()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::language::inventory::StoreEntry;
    use crate::store::Opening;

    #[tokio::test]
    async fn what_a_drill_does_not_name_is_read_and_never_written() {
        let dir = tempfile::tempdir().unwrap();
        let entry = StoreEntry { url: format!("file://{}", dir.path().display()), ..StoreEntry::default() };
        let (plain, key) = (Opening::plain(&entry, "s").open().unwrap(), "a".parse().unwrap());
        let body = || Box::new(std::io::Cursor::new(b"x".to_vec())) as ByteStream;
        plain.put(&key, body(), PutOptions::default()).await.unwrap();
        let guarded = ReadingStore::over(plain, Why::Drill("drill".to_owned()));
        assert_eq!(guarded.head(&key).await.unwrap().size_bytes, 1);
        let other = "b".parse().unwrap();
        let refusals = [
            guarded.put(&key, body(), PutOptions::default()).await.map(drop),
            guarded.delete(&key).await,
            guarded.copy(&key, &other, PutOptions::default()).await.map(drop),
        ];
        for refusal in refusals {
            assert!(refusal.unwrap_err().to_string().contains("`drill`"));
        }
        assert_eq!(guarded.list("").await.unwrap().len(), 1);
        assert!(guarded.versions().is_none() && guarded.locks().is_none() && guarded.bucket().is_none());
    }
}
