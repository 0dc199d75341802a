//! The only place that reads a clock.
//!
//! Wall time is for people and for the journal; durations are always taken from [`monotonic`].

use std::time::{Duration, Instant};

/// An instant in UTC, as the journal writes it (RFC 3339, `Z`).
pub type Timestamp = jiff::Timestamp;

/// Returns the wall clock's time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one home of now()")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Returns a reading of the monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one home of now()")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Adds a duration to an instant and saturates at the end of representable time.
#[must_use]
pub fn after(at: Timestamp, by: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

/// Takes a duration from an instant and saturates at the beginning of representable time.
#[must_use]
pub fn before(at: Timestamp, by: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(by).ok().and_then(|by| at.checked_sub(by).ok()).unwrap_or(Timestamp::MIN)
}

/// Returns `later - earlier`, zero when `later` is not later.
#[must_use]
pub fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}
