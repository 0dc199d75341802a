//! Tries something again until it succeeds or time is up.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::action::ActionError;
use crate::base::clock::monotonic;
use crate::base::units::Span;

/// The pause between two tries unless the step says otherwise.
const EVERY: Duration = Duration::from_secs(1);
/// What the last try gets when time is up.
const LAST_LOOK: Duration = Duration::from_millis(100);

/// How long and how often something is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    within: Option<Span>,
    every: Duration,
}

/// What a success took.
#[derive(Debug)]
pub(super) struct Tried<T> {
    pub(super) value: T,
    pub(super) tries: u32,
    pub(super) elapsed: Duration,
}

impl Patience {
    /// Without `within` there is one try.
    pub(super) fn new(within: Option<Span>, every: Option<Span>) -> Self {
        Self { within, every: every.map_or(EVERY, |every| every.0) }
    }

    /// Tries until it succeeds, time is up, or the attempt is cancelled. A failed try says why in words.
    pub(super) async fn until<T, F: Future<Output = Result<T, String>>>(
        &self,
        what: &str,
        cancel: &CancellationToken,
        mut attempt: impl FnMut() -> F,
    ) -> Result<Tried<T>, ActionError> {
        let from = monotonic();
        let cancelled = || ActionError::cancelled(format!("waiting for `{what}` was cancelled"));
        let mut tries = 0;
        let mut last: Option<String> = None;
        loop {
            tries += 1;
            let left = self.within.map(|within| within.0.saturating_sub(from.elapsed()).max(LAST_LOOK));
            let tried = tokio::select! {
                () = cancel.cancelled() => return Err(cancelled()),
                tried = attempt() => Some(tried),
                () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => None,
            };
            match tried {
                Some(Ok(value)) => return Ok(Tried { value, tries, elapsed: from.elapsed() }),
                Some(Err(why)) => last = Some(why),
                None => {}
            }
            let left = self.within.map(|within| within.0.saturating_sub(from.elapsed())).unwrap_or_default();
            if left.is_zero() {
                return Err(self.up(what, last));
            }
            tokio::select! {
                () = cancel.cancelled() => return Err(cancelled()),
                () = tokio::time::sleep(self.every.min(left)) => {}
            }
        }
    }

    fn up(&self, what: &str, last: Option<String>) -> ActionError {
        let why = last.unwrap_or_else(|| "it did not answer".to_owned());
        ActionError::retryable(match self.within {
            Some(within) => format!("`{what}` was not as it should be within {within}: {why}"),
            None => format!("`{what}` is not as it should be: {why}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::Patience;
    use crate::base::units::Span;
    use crate::event::ErrorClass;

    fn patience(within_ms: u64) -> Patience {
        let span = |ms| Some(Span(Duration::from_millis(ms)));
        Patience::new(span(within_ms), span(1))
    }

    #[tokio::test]
    async fn it_tries_until_it_succeeds() {
        let count = Cell::new(0);
        let attempt = || async {
            count.set(count.get() + 1);
            if count.get() == 3 { Ok("there") } else { Err("not yet".to_owned()) }
        };
        let tried = patience(60_000).until("x", &CancellationToken::new(), attempt).await.expect("success");
        assert_eq!((tried.value, tried.tries), ("there", 3));
    }

    #[tokio::test]
    async fn when_time_is_up_it_says_why_the_last_try_failed() {
        let failing = || async { Err::<(), _>("no route".to_owned()) };
        let error = patience(20).until("x", &CancellationToken::new(), failing).await.expect_err("time is up");
        assert_eq!(error.to_string(), "`x` was not as it should be within 20ms: no route");
        let hanging = || std::future::pending::<Result<(), String>>();
        let error = patience(20).until("x", &CancellationToken::new(), hanging).await.expect_err("time is up");
        assert!(error.to_string().ends_with("it did not answer"), "{error}");
    }

    #[tokio::test]
    async fn without_a_limit_there_is_one_try() {
        let count = Cell::new(0);
        let failing = || async {
            count.set(count.get() + 1);
            Err::<(), _>("no".to_owned())
        };
        assert!(Patience::new(None, None).until("x", &CancellationToken::new(), failing).await.is_err());
        assert_eq!(count.get(), 1);
    }

    #[tokio::test]
    async fn a_cancel_ends_the_wait() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let hanging = || std::future::pending::<Result<(), String>>();
        let error = patience(60_000).until("x", &cancel, hanging).await.expect_err("cancelled");
        assert_eq!(error.info().class, ErrorClass::Cancelled);
    }
}
