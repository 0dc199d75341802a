//! Whether and when a failed attempt is made again. Pure: the jitter comes from run, step and attempt.

use std::time::Duration;

use crate::action::Idempotency;
use crate::base::{Attempt, Digest, RunId, StepId};
use crate::event::{ErrorClass, ErrorInfo};
use crate::language::runbook::{Retry, RetryClass, RetryOn};

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt after this long.
    Again(Duration),
    /// The step has failed.
    Fail,
    /// It is not known whether the effect happened.
    Unknown,
}

/// What is known of the attempts so far, the failed one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// How many attempts failed.
    pub failures: u32,
    /// Time since the first attempt began.
    pub elapsed: Duration,
    /// Whether a second attempt does harm.
    pub idempotency: Idempotency,
}

/// Names an attempt for the jitter.
#[derive(Debug, Clone, Copy)]
pub struct Seed<'a> {
    /// The run.
    pub run: &'a RunId,
    /// The step.
    pub step: &'a StepId,
    /// The attempt that failed.
    pub attempt: Attempt,
}

/// Judges a failed attempt.
///
/// An unknown effect is repeated only when the action is idempotent; a cancelled attempt never is.
#[must_use]
pub fn judge(policy: Option<&Retry>, error: &ErrorInfo, tried: Tried, seed: Seed<'_>) -> Next {
    let give_up = match error.class {
        ErrorClass::Unknown => Next::Unknown,
        ErrorClass::Retryable | ErrorClass::Fatal | ErrorClass::Cancelled | ErrorClass::Timeout => Next::Fail,
    };
    let Some(policy) = policy else { return give_up };
    if !covers(policy, error, tried.idempotency) || tried.failures >= policy.max_attempts {
        return give_up;
    }
    let delay = delay(policy, tried.failures, seed);
    match policy.max_elapsed {
        Some(limit) if tried.elapsed.saturating_add(delay) > limit.0 => give_up,
        _ => Next::Again(delay),
    }
}

/// Whether the policy is meant for this error.
fn covers(policy: &Retry, error: &ErrorInfo, idempotency: Idempotency) -> bool {
    let names = |class| policy.on.contains(&RetryOn::Named(class));
    let mut codes = policy.on.iter().filter_map(|on| match on {
        RetryOn::ExitCode(code) => Some(i32::from(*code)),
        RetryOn::Named(_) => None,
    });
    match error.class {
        ErrorClass::Cancelled => false,
        ErrorClass::Unknown => idempotency == Idempotency::Idempotent && names(RetryClass::Retryable),
        ErrorClass::Timeout => names(RetryClass::Timeout),
        ErrorClass::Retryable | ErrorClass::Fatal => match error.exit_code {
            Some(code) if codes.clone().next().is_some() => codes.any(|listed| listed == code),
            Some(_) | None => error.class == ErrorClass::Retryable && names(RetryClass::Retryable),
        },
    }
}

/// The delay after the given number of failures.
#[must_use]
pub fn delay(policy: &Retry, failures: u32, seed: Seed<'_>) -> Duration {
    let cap = policy.max_delay.0.as_secs_f64();
    let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
    let plain = (policy.delay.0.as_secs_f64() * policy.backoff.max(0.0).powi(exponent)).min(cap);
    let spread = 1.0 + policy.jitter.clamp(0.0, 1.0) * (2.0 * fraction(seed) - 1.0);
    let seconds = (plain * spread).min(cap);
    Duration::try_from_secs_f64(seconds).unwrap_or(policy.max_delay.0)
}

/// A number from 0 to 1 that is the same wherever this attempt is judged.
fn fraction(seed: Seed<'_>) -> f64 {
    let digest = Digest::of(format!("{}/{}/{}", seed.run, seed.step, seed.attempt).as_bytes());
    let bytes = digest.as_bytes();
    f64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::base::units::Span;

    fn seed_of(attempt: u32) -> (RunId, StepId, Attempt) {
        ("20260101-000000-abcdef".parse().unwrap(), "s".parse().unwrap(), Attempt(attempt))
    }

    fn judged(policy: &Retry, error: &ErrorInfo, failures: u32) -> Next {
        let (run, step, attempt) = seed_of(failures);
        let tried = Tried { failures, elapsed: Duration::from_secs(10), idempotency: Idempotency::NotIdempotent };
        judge(Some(policy), error, tried, Seed { run: &run, step: &step, attempt })
    }

    fn steady() -> Retry {
        Retry { jitter: 0.0, ..Retry::default() }
    }

    #[test]
    fn delays_double_up_to_their_cap() {
        let policy = Retry { max_delay: Span(Duration::from_secs(5)), max_attempts: 9, ..steady() };
        let error = ErrorInfo::new(ErrorClass::Retryable, "no answer");
        let delays: Vec<_> = (1..=4).map(|failures| judged(&policy, &error, failures)).collect();
        let expected = [1, 2, 4, 5].map(|seconds| Next::Again(Duration::from_secs(seconds)));
        assert_eq!(delays, expected);
    }

    #[test]
    fn jitter_is_the_same_every_time_and_differs_between_attempts() {
        let policy = Retry { backoff: 1.0, jitter: 0.5, max_attempts: 99, ..Retry::default() };
        let error = ErrorInfo::new(ErrorClass::Retryable, "no answer");
        let once: Vec<_> = (1..20).map(|failures| judged(&policy, &error, failures)).collect();
        let twice: Vec<_> = (1..20).map(|failures| judged(&policy, &error, failures)).collect();
        assert_eq!(once, twice);
        assert!(once.windows(2).any(|pair| pair[0] != pair[1]));
        for next in once {
            let Next::Again(delay) = next else { panic!("given up") };
            assert!((0.5..=1.5).contains(&delay.as_secs_f64()));
        }
    }

    #[test]
    fn only_listed_classes_and_exit_codes_are_tried_again() {
        let fatal = ErrorInfo::new(ErrorClass::Fatal, "no");
        assert_eq!(judged(&steady(), &fatal, 1), Next::Fail);
        let listed = Retry { on: vec![RetryOn::ExitCode(75)], ..steady() };
        let ended = |code| ErrorInfo { exit_code: Some(code), ..ErrorInfo::new(ErrorClass::Retryable, "ended") };
        assert_eq!(judged(&listed, &ended(75), 1), Next::Again(Duration::from_secs(1)));
        assert_eq!(judged(&listed, &ended(1), 1), Next::Fail);
        assert_eq!(judged(&steady(), &ended(1), 1), Next::Again(Duration::from_secs(1)));
    }

    #[test]
    fn an_unknown_effect_is_never_repeated_unless_the_action_is_idempotent() {
        let (run, step, attempt) = seed_of(1);
        let seed = Seed { run: &run, step: &step, attempt };
        let error = ErrorInfo::new(ErrorClass::Unknown, "perhaps");
        let tried = |idempotency| Tried { failures: 1, elapsed: Duration::ZERO, idempotency };
        let policy = steady();
        assert_eq!(judge(Some(&policy), &error, tried(Idempotency::NotIdempotent), seed), Next::Unknown);
        let again = judge(Some(&policy), &error, tried(Idempotency::Idempotent), seed);
        assert_eq!(again, Next::Again(Duration::from_secs(1)));
    }

    #[test]
    fn no_attempt_starts_after_max_elapsed() {
        let error = ErrorInfo::new(ErrorClass::Retryable, "no answer");
        let tight = Retry { max_elapsed: Some(Span(Duration::from_millis(10_999))), ..steady() };
        let wide = Retry { max_elapsed: Some(Span(Duration::from_secs(11))), ..steady() };
        assert_eq!(judged(&tight, &error, 1), Next::Fail);
        assert_eq!(judged(&wide, &error, 1), Next::Again(Duration::from_secs(1)));
        assert_eq!(judged(&wide, &error, 3), Next::Fail);
    }
}
