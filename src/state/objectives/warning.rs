//! Warnings that the recovery time objective is being used up.

use super::figures::recovered_at;
use crate::base::Timestamp;
use crate::base::clock::between;
use crate::plan::BoundPlan;
use crate::state::RunState;

const PERCENTS: [u32; 3] = [50, 80, 100];

/// Gives the shares of the RTO, in percent, that are used up at `now` and were not warned of yet.
///
/// Empty without an objective, without an incident, and once the last required step has ended.
#[must_use]
pub fn warnings_due(plan: &BoundPlan, state: &RunState, now: Timestamp) -> Vec<u32> {
    let (Some(rto), Some(incident_at)) = (plan.objectives.rto, plan.incident_at) else { return Vec::new() };
    let used = between(incident_at, now).as_millis() * 100;
    let reached = |percent: &u32| used >= rto.0.as_millis() * u128::from(*percent);
    let due: Vec<u32> =
        PERCENTS.into_iter().filter(|percent| *percent > state.warned_percent).filter(reached).collect();
    // Looked at last: it walks over the steps, and this is asked in every round.
    if due.is_empty() || state.finished.is_some() || recovered_at(plan, state).is_some() {
        return Vec::new();
    }
    due
}
