//! The arguments of every step as far as they are known before the first one, for people to read.

use std::sync::Arc;

use serde_json::Value;

use super::PlanIndex;
use super::resolve::resolve_ahead;
use super::scope::Values;
use crate::action::{ActionError, Registry};
use crate::plan::BoundPlan;
use crate::state::RunState;

/// Evaluates arguments in the order of the plan's steps. A late value is its marker, a secret its reference.
#[must_use]
pub fn known_arguments(plan: &Arc<BoundPlan>, registry: &Registry) -> Vec<Result<Value, ActionError>> {
    let index = PlanIndex::new(Arc::clone(plan));
    let state = RunState::default();
    let values = Values { index: &index, state: &state, registry, now: plan.started_at };
    plan.steps.iter().map(|step| resolve_ahead(step, values)).collect()
}
