//! Requests under way at the same time, bounded by the memory that their bodies take.

use tokio::task::JoinSet;

use crate::action::StoreError;

/// What the bodies of all requests of one transfer take together, the one that is read or written included; a single
/// larger one is let through alone.
pub(super) const BUDGET_BYTES: u64 = 64 << 20;

/// Requests under way. All are ended when this is dropped.
pub(super) struct Flight<T> {
    set: JoinSet<Result<(T, u64), StoreError>>,
    bytes: u64,
}

impl<T> Default for Flight<T> {
    fn default() -> Self {
        Self { set: JoinSet::new(), bytes: 0 }
    }
}

impl<T: Send + 'static> Flight<T> {
    /// Starts a request with a body of so many bytes.
    #[expect(clippy::disallowed_methods, reason = "they end with the transfer that owns them")]
    pub(super) fn start(&mut self, bytes: u64, task: impl Future<Output = Result<T, StoreError>> + Send + 'static) {
        self.bytes += bytes;
        self.set.spawn(async move { task.await.map(|value| (value, bytes)) });
    }

    /// Waits until there is room for a body of so many bytes; gives what has ended.
    pub(super) async fn room_for(&mut self, bytes: u64) -> Result<Vec<T>, StoreError> {
        let mut ended = Vec::new();
        while let Some(end) = self.set.try_join_next() {
            ended.push(self.settle(end)?);
        }
        while self.bytes + bytes > BUDGET_BYTES {
            let Some(end) = self.set.join_next().await else { break };
            ended.push(self.settle(end)?);
        }
        Ok(ended)
    }

    /// Waits for all that is under way.
    pub(super) async fn rest(&mut self) -> Result<Vec<T>, StoreError> {
        let mut ended = Vec::new();
        while let Some(end) = self.set.join_next().await {
            ended.push(self.settle(end)?);
        }
        Ok(ended)
    }

    /// Waits until nothing is under way, whatever comes of it.
    pub(super) async fn idle(&mut self) {
        while self.set.join_next().await.is_some() {}
    }

    fn settle(&mut self, end: Result<Result<(T, u64), StoreError>, tokio::task::JoinError>) -> Result<T, StoreError> {
        match end {
            Ok(Ok((value, bytes))) => {
                self.bytes -= bytes;
                Ok(value)
            }
            Ok(Err(error)) => Err(error),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(StoreError::Unavailable {
                    store: String::new(),
                    what: "the request was ended with the runtime".to_owned(),
                    source: std::io::Error::other(error),
                }),
            },
        }
    }
}
