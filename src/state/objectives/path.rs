//! The chain of steps that decided how long a run took.

use std::collections::{BTreeMap, BTreeSet};

use super::required;
use crate::base::{StepId, Timestamp};
use crate::plan::{BoundPlan, PlannedStep};
use crate::state::{RunState, StepStatus};

/// Walks back from the required step that ended last, to the step before it that held it up, and so on.
///
/// What held a step up is the need that ended last or, where all slots were taken when that need
/// ended, the step whose end freed the slot. Steps that were skipped decide nothing and are left out.
#[must_use]
pub fn critical_path(plan: &BoundPlan, state: &RunState) -> Vec<StepId> {
    let timeline = Timeline::new(plan, state);
    let last = required(plan, state)
        .filter_map(|(step, known)| Some((known.filter(|known| worked(known.status))?.ended_at?, &step.id)))
        .reduce(|last, next| if next.0 >= last.0 { next } else { last });
    let mut path = Vec::new();
    let mut seen = BTreeSet::new();
    let mut at = last.map(|(_, id)| id);
    while let Some(id) = at {
        if !seen.insert(id) {
            break;
        }
        if timeline.worked(id) {
            path.push(id.clone());
        }
        at = timeline.before(id);
    }
    path.reverse();
    path
}

fn worked(status: StepStatus) -> bool {
    match status {
        StepStatus::Succeeded | StepStatus::Failed | StepStatus::Cancelled | StepStatus::Unknown => true,
        StepStatus::Pending
        | StepStatus::Resolved
        | StepStatus::Checked
        | StepStatus::Running
        | StepStatus::Waiting
        | StepStatus::Open
        | StepStatus::Asking
        | StepStatus::Held
        | StepStatus::Skipped => false,
    }
}

/// When each step started and ended, ordered for look-ups.
struct Timeline<'a> {
    steps: BTreeMap<&'a StepId, &'a PlannedStep>,
    state: &'a RunState,
    starts: Vec<Timestamp>,
    ends: Vec<(Timestamp, &'a StepId)>,
    slots: usize,
}

impl<'a> Timeline<'a> {
    fn new(plan: &'a BoundPlan, state: &'a RunState) -> Self {
        let mut starts = Vec::new();
        let mut ends = Vec::new();
        for step in &plan.steps {
            let Some(known) = state.steps.get(&step.id).filter(|known| worked(known.status)) else { continue };
            if let (Some(start), Some(end)) = (known.started_at, known.ended_at) {
                starts.push(start);
                ends.push((end, &step.id));
            }
        }
        starts.sort_unstable();
        ends.sort_unstable();
        let steps = plan.steps.iter().map(|step| (&step.id, step)).collect();
        Self { steps, state, starts, ends, slots: plan.limits.max_parallel }
    }

    fn worked(&self, id: &StepId) -> bool {
        self.state.steps.get(id).is_some_and(|known| worked(known.status))
    }

    fn before(&self, id: &StepId) -> Option<&'a StepId> {
        let step = self.steps.get(id)?;
        let start = self.state.steps.get(id)?.started_at?;
        let need = self.last_need(step);
        let slot = self.last_end(start).filter(|(end, by)| *by != id && self.full_before(*end));
        match (need, slot) {
            (Some((ready, _)), Some((freed, by))) if freed > ready => Some(by),
            (Some((_, need)), _) => Some(need),
            (None, Some((_, by))) => Some(by),
            (None, None) => None,
        }
    }

    fn last_need(&self, step: &'a PlannedStep) -> Option<(Timestamp, &'a StepId)> {
        step.needs
            .iter()
            .filter_map(|edge| Some((self.state.steps.get(&edge.from)?.ended_at?, &edge.from)))
            .reduce(|last, next| if next.0 >= last.0 { next } else { last })
    }

    fn last_end(&self, by: Timestamp) -> Option<(Timestamp, &'a StepId)> {
        let count = self.ends.partition_point(|(end, _)| *end <= by);
        count.checked_sub(1).map(|index| self.ends[index])
    }

    /// Tells whether all slots were taken just before `at`.
    fn full_before(&self, at: Timestamp) -> bool {
        let started = self.starts.partition_point(|start| *start < at);
        let ended = self.ends.partition_point(|(end, _)| *end < at);
        started.saturating_sub(ended) >= self.slots
    }
}
