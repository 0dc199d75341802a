//! Asks again when a store did not answer: the cheap questions only. A body is never put twice by this, because its
//! source can be read once; the step that owns the source is retried as a whole.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::action::{
    BoxFuture, Bucket as BucketSettings, ByteStream, Capacity, GetOptions, Listing, Locks, ObjectFacts, ObjectKey,
    PutOptions, PutOutcome, ReadBucket, ReadStore, ReadVersions, Retrieval, Store, StoreError, Unfinished, Versions,
};

/// How often one question is asked at most.
const ATTEMPTS: u32 = 4;
/// What is waited for after the first failure, about; it doubles each time.
const FIRST_DELAY: Duration = Duration::from_millis(200);

/// A store whose cheap questions are asked again.
pub struct Retry(Arc<dyn Store>);

impl Retry {
    /// Puts itself around a store.
    #[must_use]
    pub fn over(store: Arc<dyn Store>) -> Self {
        Self(store)
    }
}

/// Asks until there is an answer, another failure than a passing one, or the attempts are used up.
async fn again<T, F>(mut ask: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut delay = FIRST_DELAY;
    for _ in 1..ATTEMPTS {
        match ask().await {
            Err(error) if passes(&error) => tokio::time::sleep(jittered(delay)).await,
            answered => return answered,
        }
        delay *= 2;
    }
    ask().await
}

/// A store that is not there will not be there in a second.
fn passes(error: &StoreError) -> bool {
    match error {
        StoreError::Unavailable { .. } => !error.is_unborn(),
        StoreError::NotFound { .. }
        | StoreError::Exists { .. }
        | StoreError::ReadOnly { .. }
        | StoreError::Archived { .. }
        | StoreError::Replaced { .. }
        | StoreError::Refused { .. } => false,
    }
}

/// Between half of a delay and one and a half, so that many who failed together do not come back together.
fn jittered(delay: Duration) -> Duration {
    let random = (uuid::Uuid::now_v7().as_u128() & 0xffff) as u32;
    delay / 2 + delay * random / 0xffff
}

impl ReadStore for Retry {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn get_with(&self, key: &ObjectKey, options: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        let key = key.clone();
        Box::pin(async move { again(|| self.0.get_with(&key, options.clone())).await })
    }
    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
        let key = key.clone();
        Box::pin(async move { again(|| self.0.head(&key)).await })
    }
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move { again(|| self.0.list(&prefix)).await })
    }
    fn get_told(&self, key: &ObjectKey) -> BoxFuture<'_, Result<(ObjectFacts, ByteStream), StoreError>> {
        let key = key.clone();
        Box::pin(async move { again(|| self.0.get_told(&key)).await })
    }
    fn which(&self, stem: &str, endings: &[String]) -> BoxFuture<'_, Result<Vec<ObjectKey>, StoreError>> {
        let (stem, endings) = (stem.to_owned(), endings.to_vec());
        Box::pin(async move { again(|| self.0.which(&stem, &endings)).await })
    }
    fn browse(&self, prefix: &str) -> BoxFuture<'_, Result<Listing, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move { again(|| self.0.browse(&prefix)).await })
    }
    fn unfinished(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Unfinished>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move { again(|| self.0.unfinished(&prefix)).await })
    }
    fn capacity(&self) -> BoxFuture<'_, Result<Option<Capacity>, StoreError>> {
        Box::pin(async move { again(|| self.0.capacity()).await })
    }
    fn read_versions(&self) -> Option<&dyn ReadVersions> {
        self.0.read_versions()
    }
    fn read_bucket(&self) -> Option<&dyn ReadBucket> {
        self.0.read_bucket()
    }
}

impl Store for Retry {
    fn put(
        &self,
        key: &ObjectKey,
        body: ByteStream,
        options: PutOptions,
    ) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        self.0.put(key, body, options)
    }
    fn delete(&self, key: &ObjectKey) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.clone();
        Box::pin(async move { again(|| self.0.delete(&key)).await })
    }
    fn discard(&self, unfinished: &Unfinished) -> BoxFuture<'_, Result<bool, StoreError>> {
        let unfinished = unfinished.clone();
        Box::pin(async move { again(|| self.0.discard(&unfinished)).await })
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
        self.0.copy(from, to, options)
    }
    fn versions(&self) -> Option<&dyn Versions> {
        self.0.versions()
    }
    fn retrieval(&self) -> Option<&dyn Retrieval> {
        self.0.retrieval()
    }
    fn locks(&self) -> Option<&dyn Locks> {
        self.0.locks()
    }
    fn bucket(&self) -> Option<&dyn BucketSettings> {
        self.0.bucket()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::cell::Cell;
    use std::io;

    use super::*;

    async fn asked(kind: io::ErrorKind, answers_at: u32) -> (u32, bool) {
        let count = Cell::new(0);
        let answer = again(|| {
            count.set(count.get() + 1);
            let answered = count.get() >= answers_at;
            async move {
                if answered {
                    return Ok(());
                }
                let (store, what) = ("s".to_owned(), "asked".to_owned());
                Err(StoreError::Unavailable { store, what, source: io::Error::from(kind) })
            }
        });
        let answered = answer.await.is_ok();
        (count.get(), answered)
    }

    #[tokio::test]
    async fn a_store_that_did_not_answer_is_asked_again_but_not_for_ever() {
        assert_eq!(asked(io::ErrorKind::ConnectionReset, 1).await, (1, true));
        assert_eq!(asked(io::ErrorKind::ConnectionReset, 3).await, (3, true));
        assert_eq!(asked(io::ErrorKind::ConnectionReset, 99).await, (ATTEMPTS, false));
        assert_eq!(asked(io::ErrorKind::NotFound, 99).await, (1, false), "no store there is an answer");
    }

    #[test]
    fn delays_differ_and_stay_about_what_they_should_be() {
        let delays: Vec<Duration> = (0..50).map(|_| jittered(FIRST_DELAY)).collect();
        assert!(delays.iter().all(|delay| *delay >= FIRST_DELAY / 2 && *delay <= FIRST_DELAY * 3 / 2));
        assert!(delays.iter().any(|delay| *delay != delays[0]));
    }
}
