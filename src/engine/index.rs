//! What a plan says about its graph, looked up once.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::StepId;
use crate::language::runbook::OnFailure;
use crate::plan::{BoundPlan, PlannedStep, Section, Strictness};

/// A plan with its edges resolved to positions.
#[derive(Debug, Clone)]
pub struct PlanIndex {
    plan: Arc<BoundPlan>,
    positions: BTreeMap<StepId, usize>,
    needs: Vec<Vec<(usize, Strictness)>>,
    dependents: Vec<Vec<usize>>,
    body: usize,
}

impl PlanIndex {
    /// Looks the plan over. An edge from a step that the plan does not hold is ignored: `plan` never makes one.
    #[must_use]
    pub fn new(plan: Arc<BoundPlan>) -> Self {
        let positions: BTreeMap<StepId, usize> =
            plan.steps.iter().enumerate().map(|(at, step)| (step.id.clone(), at)).collect();
        let mut dependents = vec![Vec::new(); plan.steps.len()];
        let mut needs = Vec::with_capacity(plan.steps.len());
        for (at, step) in plan.steps.iter().enumerate() {
            let edges: Vec<(usize, Strictness)> = step
                .needs
                .iter()
                .filter_map(|edge| positions.get(&edge.from).map(|from| (*from, edge.strictness)))
                .collect();
            for (from, _) in &edges {
                dependents[*from].push(at);
            }
            needs.push(edges);
        }
        let body = plan.steps.iter().filter(|step| step.section == Section::Body).count();
        Self { plan, positions, needs, dependents, body }
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Arc<BoundPlan> {
        &self.plan
    }

    /// The step at a position.
    #[must_use]
    pub fn step(&self, at: usize) -> &PlannedStep {
        &self.plan.steps[at]
    }

    /// The position of a step.
    #[must_use]
    pub fn position(&self, step: &StepId) -> Option<usize> {
        self.positions.get(step).copied()
    }

    /// What the step at a position waits for.
    #[must_use]
    pub fn needs(&self, at: usize) -> &[(usize, Strictness)] {
        &self.needs[at]
    }

    /// Who waits for the step at a position.
    #[must_use]
    pub fn dependents(&self, at: usize) -> &[usize] {
        &self.dependents[at]
    }

    /// How many steps the plan holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.plan.steps.len()
    }

    /// Whether the plan holds no step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plan.steps.is_empty()
    }

    /// How many of them are body steps.
    #[must_use]
    pub fn body(&self) -> usize {
        self.body
    }

    /// Whether the failure of the step at a position is tolerated.
    #[must_use]
    pub fn tolerates(&self, at: usize) -> bool {
        self.step(at).on_failure == OnFailure::Continue
    }
}
