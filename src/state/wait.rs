//! Waits, as the fold keeps them: for people and for locks.

use std::time::Duration;

use super::{StepState, StepStatus, Stretch};
use crate::base::Timestamp;

/// Begins a stretch unless one goes on.
pub(super) fn begin(stretches: &mut Vec<Stretch>, at: Timestamp) {
    if stretches.last().is_none_or(|last| last.until.is_some()) {
        stretches.push(Stretch { from: at, until: None });
    }
}

/// Ends the stretch that goes on, if one does.
pub(super) fn end(stretches: &mut [Stretch], at: Timestamp) {
    if let Some(last) = stretches.last_mut() {
        last.until.get_or_insert(at);
    }
}

/// The stretch of this length that ends at `at`; none when it has no length.
pub(super) fn before(at: Timestamp, length_ms: u64) -> Option<Stretch> {
    let from = at.checked_sub(Duration::from_millis(length_ms)).ok().filter(|from| *from < at)?;
    Some(Stretch { from, until: Some(at) })
}

/// Keeps whether a step waits for a person now.
pub(super) fn keep(step: &mut StepState, at: Timestamp) {
    if matches!(step.status, StepStatus::Asking | StepStatus::Held) || step.asks.is_some() {
        begin(&mut step.person_waits, at);
    } else {
        end(&mut step.person_waits, at);
    }
}
