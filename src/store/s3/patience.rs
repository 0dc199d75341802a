//! How long a server is waited for. Everything follows from one setting, `stall`.

use std::time::Duration;

use aws_sdk_s3::config::Builder;
use aws_sdk_s3::config::timeout::TimeoutConfig;

use crate::language::inventory::StoreEntry;

const DEFAULT_STALL: Duration = Duration::from_secs(20);
const LONGEST_CONNECT: Duration = Duration::from_secs(10);
/// What a body must send within one stall at least: 64 KiB per second with the default.
const SLOWEST_BYTES: u32 = 1_280 << 10;

/// How long a server is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    stall: Duration,
}

impl Patience {
    /// What the store's settings say.
    pub(super) fn of(entry: &StoreEntry) -> Self {
        Self { stall: entry.stall.map_or(DEFAULT_STALL, |span| span.0) }
    }

    /// No byte for so long is a failure.
    pub(super) fn stall(self) -> Duration {
        self.stall
    }

    /// Until an answer, for requests without a body.
    pub(super) fn timeouts(self) -> TimeoutConfig {
        self.until(self.answer())
    }

    /// Settings of a request with a body of so many bytes.
    pub(super) fn for_body(self, size_bytes: u64) -> Builder {
        Builder::new().timeout_config(self.until(self.answer() + self.stall.mul_f64(stalls_of(size_bytes))))
    }

    /// Settings of a request that keeps the server busy with so many bytes of its own.
    pub(super) fn for_server_work(self, size_bytes: u64) -> Builder {
        let work = self.stall.mul_f64(stalls_of(size_bytes) / 16.0);
        Builder::new().timeout_config(self.until(self.answer() * 5 + work))
    }

    fn answer(self) -> Duration {
        self.stall * 3
    }

    /// One attempt may take so long until its answer. It is no setting of the connection (`read_timeout` is): requests that
    /// wait for different times would have connections of their own.
    fn until(self, wait: Duration) -> TimeoutConfig {
        TimeoutConfig::builder()
            .connect_timeout(LONGEST_CONNECT.min(self.stall))
            .operation_attempt_timeout(wait)
            .build()
    }
}

/// How many stalls a body may take at the slowest pace.
#[expect(clippy::cast_precision_loss, reason = "a waiting time may be off by a millionth")]
fn stalls_of(size_bytes: u64) -> f64 {
    size_bytes as f64 / f64::from(SLOWEST_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::Span;

    #[test]
    fn everything_is_waited_for_in_proportion_to_the_setting() {
        let patience = |stall: Option<u64>| {
            Patience::of(&StoreEntry {
                stall: stall.map(|ms| Span(Duration::from_millis(ms))),
                ..StoreEntry::default()
            })
        };
        let read = |config: TimeoutConfig| config.operation_attempt_timeout().map(|wait| wait.as_millis());
        assert_eq!(patience(None).stall(), Duration::from_secs(20));
        assert_eq!(read(patience(None).timeouts()), Some(60_000));
        assert_eq!(read(patience(Some(100)).timeouts()), Some(300));
        assert_eq!(patience(None).timeouts().connect_timeout(), Some(Duration::from_secs(10)));
        assert!((stalls_of(64 << 20) - 51.2).abs() < 0.001, "64 MiB may take 1024 s with the default");
    }
}
