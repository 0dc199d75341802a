//! Holds a store to a bandwidth: both ways together, whoever in this process uses it.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, ReadBuf};

use crate::action::{
    BoxFuture, Bucket as BucketSettings, ByteStream, Capacity, GetOptions, Listing, Locks, ObjectFacts, ObjectKey,
    PutOptions, PutOutcome, ReadBucket, ReadStore, ReadVersions, Retrieval, Store, StoreError, Unfinished, Versions,
};
use crate::base::clock::monotonic;
use crate::base::units::ByteSize;

/// What may pass at once after a pause.
const BURST: Duration = Duration::from_millis(100);
/// Bytes that are charged together.
const CHUNK_BYTES: usize = 64 << 10;

/// A store with a bandwidth. Copies inside the store do not count.
pub struct Throttle {
    inner: Arc<dyn Store>,
    bucket: Arc<Mutex<Bucket>>,
}

impl Throttle {
    /// Puts itself around a store; `rate` in bytes per second.
    #[must_use]
    pub fn over(inner: Arc<dyn Store>, rate: ByteSize) -> Self {
        Self { inner, bucket: Arc::new(Mutex::new(Bucket { rate: rate.0.max(1), free_at: None })) }
    }

    fn slowed(&self, body: ByteStream) -> ByteStream {
        Box::new(Slowed { body, bucket: Arc::clone(&self.bucket), pause: None })
    }
}

/// When the next byte may pass.
struct Bucket {
    rate: u64,
    free_at: Option<Instant>,
}

impl Bucket {
    /// Charges bytes that pass now. Returns how long the next ones must wait.
    fn charge(&mut self, bytes: usize, now: Instant) -> Duration {
        let begin = now.checked_sub(BURST).unwrap_or(now);
        let free_at = self.free_at.map_or(begin, |at| at.max(begin));
        let free_at = free_at + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        self.free_at = Some(free_at);
        free_at.saturating_duration_since(now)
    }

    /// As much as passes in a tenth of a second, so that a slow rate is no row of long stops.
    fn chunk(&self) -> usize {
        usize::try_from(self.rate / 10).unwrap_or(usize::MAX).clamp(1, CHUNK_BYTES)
    }
}

/// A body that passes no faster than the bucket lets it.
struct Slowed {
    body: ByteStream,
    bucket: Arc<Mutex<Bucket>>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl AsyncRead for Slowed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(pause) = self.pause.as_mut() {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let bucket = Arc::clone(&self.bucket);
        let most = buffer.remaining().min(bucket.lock().unwrap_or_else(PoisonError::into_inner).chunk());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.body).poll_read(cx, &mut part))?;
        let count = part.filled().len();
        buffer.advance(count);
        let wait = bucket.lock().unwrap_or_else(PoisonError::into_inner).charge(count, monotonic());
        if !wait.is_zero() {
            self.pause = Some(Box::pin(tokio::time::sleep(wait)));
        }
        Poll::Ready(Ok(()))
    }
}

impl ReadStore for Throttle {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn get_with(&self, key: &ObjectKey, options: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        let opened = self.inner.get_with(key, options);
        Box::pin(async move { Ok(self.slowed(opened.await?)) })
    }
    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
        self.inner.head(key)
    }
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
        self.inner.list(prefix)
    }
    fn get_told(&self, key: &ObjectKey) -> BoxFuture<'_, Result<(ObjectFacts, ByteStream), StoreError>> {
        let told = self.inner.get_told(key);
        Box::pin(async move {
            let (facts, body) = told.await?;
            Ok((facts, self.slowed(body)))
        })
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

impl Store for Throttle {
    fn put(
        &self,
        key: &ObjectKey,
        body: ByteStream,
        options: PutOptions,
    ) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        self.inner.put(key, self.slowed(body), options)
    }
    fn delete(&self, key: &ObjectKey) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.delete(key)
    }
    fn discard(&self, unfinished: &Unfinished) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.inner.discard(unfinished)
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
        self.inner.copy(from, to, options)
    }
    fn versions(&self) -> Option<&dyn Versions> {
        self.inner.versions()
    }
    fn retrieval(&self) -> Option<&dyn Retrieval> {
        self.inner.retrieval()
    }
    fn locks(&self) -> Option<&dyn Locks> {
        self.inner.locks()
    }
    fn bucket(&self) -> Option<&dyn BucketSettings> {
        self.inner.bucket()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_paid_for_and_a_pause_saves_little() {
        let mut bucket = Bucket { rate: 1_000_000, free_at: None };
        let began = monotonic();
        let mut now = began;
        let mut passed = 0;
        while now < began + Duration::from_secs(10) {
            now += bucket.charge(65_536, now);
            passed += 65_536;
        }
        let most = 10_000_000 + 100_000 + 2 * 65_536;
        assert!((9_900_000..=most).contains(&passed), "{passed}");
        now += Duration::from_secs(3600);
        assert!(bucket.charge(50_000, now).is_zero(), "within the burst");
        assert!(bucket.charge(150_000, now) >= Duration::from_millis(90), "an hour of silence is no credit");
    }

    #[test]
    fn a_slow_rate_is_cut_finely() {
        assert_eq!(Bucket { rate: 10_000, free_at: None }.chunk(), 1_000);
        assert_eq!(Bucket { rate: 1, free_at: None }.chunk(), 1);
        assert_eq!(Bucket { rate: u64::MAX, free_at: None }.chunk(), CHUNK_BYTES);
    }
}
