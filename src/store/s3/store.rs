//! The store over a bucket.

use std::sync::{Arc, Mutex, PoisonError};

use super::abort::Abort;
use super::address::Address;
use super::session::{Opener, Session};
use super::{copy, download, head, list, lock, put, retrieval, version};
use crate::action::{
    BoxFuture, Bucket, ByteStream, GetOptions, Hold, Listing, Locks, ObjectFacts, ObjectKey, ObjectVersion, Protection,
    PutOptions, PutOutcome, ReadBucket, ReadStore, ReadVersions, Retrieval, Secrets, Store, StoreError, Unfinished,
    Versions,
};
use crate::base::Timestamp;
use crate::language::inventory::{RetrievalSpeed, StoreEntry};

struct Inner {
    opener: Opener,
    /// The session of the runtime that asked last: connections live in one.
    session: Mutex<Option<(tokio::runtime::Id, Arc<Session>)>>,
}

/// A bucket, or what begins with a prefix in it, as a store.
#[derive(Clone)]
pub struct S3Store(Arc<Inner>);

impl S3Store {
    /// A store at the entry's URL. Touches nothing yet.
    ///
    /// # Errors
    /// Fails when the URL makes no sense.
    pub fn new(name: &str, entry: &StoreEntry, secrets: Arc<dyn Secrets>) -> Result<Self, StoreError> {
        let refused = |what| StoreError::Refused { store: name.to_owned(), what };
        let address = Address::parse(&entry.url).map_err(refused)?;
        let opener = Opener { store: name.to_owned(), address, entry: entry.clone(), secrets };
        Ok(Self(Arc::new(Inner { opener, session: Mutex::new(None) })))
    }

    /// Connects at the first call.
    pub(super) async fn session(&self) -> Result<Arc<Session>, StoreError> {
        let runtime = tokio::runtime::Handle::current().id();
        let known = self.0.session.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, session)) = known.filter(|(known, _)| *known == runtime) {
            return Ok(session);
        }
        let session = Arc::new(self.0.opener.open().await?);
        *self.0.session.lock().unwrap_or_else(PoisonError::into_inner) = Some((runtime, Arc::clone(&session)));
        Ok(session)
    }

    /// Where it lies.
    pub(super) fn address(&self) -> &Address {
        &self.0.opener.address
    }

    /// Connects, unless nothing may be written.
    pub(super) async fn writing(&self) -> Result<Arc<Session>, StoreError> {
        if self.0.opener.entry.read_only {
            return Err(StoreError::ReadOnly { store: self.0.opener.store.clone() });
        }
        self.session().await
    }
}

impl ReadStore for S3Store {
    fn name(&self) -> &str {
        &self.0.opener.store
    }

    fn get_with(&self, key: &ObjectKey, options: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        let key = key.clone();
        Box::pin(async move { Ok(download::get(self.session().await?, key, options).await?.1) })
    }

    fn get_told(&self, key: &ObjectKey) -> BoxFuture<'_, Result<(ObjectFacts, ByteStream), StoreError>> {
        let key = key.clone();
        Box::pin(async move { download::get(self.session().await?, key, GetOptions::default()).await })
    }

    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
        let key = key.clone();
        Box::pin(async move { head::head(&*self.session().await?, &key).await })
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move { Ok(list::list(&*self.session().await?, &prefix, list::Depth::All).await?.objects) })
    }

    fn browse(&self, prefix: &str) -> BoxFuture<'_, Result<Listing, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move { list::list(&*self.session().await?, &prefix, list::Depth::Level).await })
    }

    fn unfinished(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Unfinished>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move { list::unfinished(&*self.session().await?, &prefix).await })
    }

    fn read_versions(&self) -> Option<&dyn ReadVersions> {
        Some(self)
    }

    fn read_bucket(&self) -> Option<&dyn ReadBucket> {
        Some(self)
    }
}

impl Store for S3Store {
    fn put(
        &self,
        key: &ObjectKey,
        body: ByteStream,
        options: PutOptions,
    ) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        let key = key.clone();
        Box::pin(async move { put::put(self.writing().await?, key, body, options).await })
    }

    fn delete(&self, key: &ObjectKey) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.clone();
        Box::pin(async move { version::delete_newest(&*self.writing().await?, &key).await })
    }

    fn discard(&self, unfinished: &Unfinished) -> BoxFuture<'_, Result<bool, StoreError>> {
        let unfinished = unfinished.clone();
        Box::pin(async move {
            let session = self.writing().await?;
            let object = session.address.object(&unfinished.key);
            Abort::of(session, &object, &unfinished.upload).tried().await?;
            Ok(true)
        })
    }

    fn as_read(&self) -> &dyn ReadStore {
        self
    }

    fn copy(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        options: PutOptions,
    ) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        let (from, to) = (from.clone(), to.clone());
        Box::pin(async move { copy::copy(self.writing().await?, (&from, None), &to, options).await })
    }

    fn versions(&self) -> Option<&dyn Versions> {
        Some(self)
    }

    fn retrieval(&self) -> Option<&dyn Retrieval> {
        Some(self)
    }

    fn locks(&self) -> Option<&dyn Locks> {
        Some(self)
    }

    fn bucket(&self) -> Option<&dyn Bucket> {
        Some(self)
    }
}

impl ReadVersions for S3Store {
    fn list_versions(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectVersion>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move { version::list(&*self.session().await?, &prefix).await })
    }
}

impl Versions for S3Store {
    fn restore_version(&self, key: &ObjectKey, version: &str) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        let (key, version) = (key.clone(), version.to_owned());
        Box::pin(async move { version::restore(self.writing().await?, &key, &version).await })
    }

    fn delete_version(&self, key: &ObjectKey, version: &str) -> BoxFuture<'_, Result<(), StoreError>> {
        let (key, version) = (key.clone(), version.to_owned());
        Box::pin(async move { version::delete(&*self.writing().await?, &key, &version).await })
    }
}

impl Retrieval for S3Store {
    fn retrieve(&self, key: &ObjectKey, speed: RetrievalSpeed, days: u32) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.clone();
        Box::pin(async move { retrieval::retrieve(&*self.session().await?, &key, (speed, days)).await })
    }
}

impl Locks for S3Store {
    fn protection(&self, key: &ObjectKey) -> BoxFuture<'_, Result<Protection, StoreError>> {
        let key = key.clone();
        Box::pin(async move { lock::protection(&*self.session().await?, &key).await })
    }

    fn hold(&self, key: &ObjectKey, hold: Hold) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.clone();
        Box::pin(async move { lock::hold(&*self.writing().await?, &key, hold).await })
    }

    fn lock_until(&self, key: &ObjectKey, until: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.clone();
        Box::pin(async move { lock::lock_until(&*self.writing().await?, &key, until).await })
    }
}
