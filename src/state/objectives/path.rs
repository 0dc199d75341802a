//! The chain of steps that decided how long a run took.

use std::collections::{BTreeMap, BTreeSet};

use super::member::instances;
use super::required;
use crate::base::{StepId, Timestamp};
use crate::plan::{BoundPlan, PlannedStep};
use crate::state::{RunState, StepEnd, StepState, StepStatus};

/// Walks back from the required step that ended last, to the step before it that held it up, and so on.
///
/// What held a step up is the need that ended last or, where all slots were taken when that need
/// ended, the step whose end freed the slot. What held a group up is its member that ended last; the
/// members stand in the path for it. Steps that were skipped decide nothing and are left out.
#[must_use]
pub fn critical_path(plan: &BoundPlan, state: &RunState) -> Vec<StepId> {
    let timeline = Timeline::new(plan, state);
    let last = required(plan, state)
        .filter_map(|(step, known)| Some((known.filter(|known| worked(known.status))?.ended_at?, step.id.clone())))
        .reduce(|last, next| if next.0 >= last.0 { next } else { last });
    let mut path = Vec::new();
    let mut seen = BTreeSet::new();
    let mut at = last.map(|(_, id)| id);
    while let Some(id) = at {
        if !seen.insert(id.clone()) {
            break;
        }
        let inside = timeline.last_member(&id);
        if inside.is_none() && timeline.worked(&id) {
            path.push(id.clone());
        }
        at = inside.or_else(|| timeline.before(&id));
    }
    path.reverse();
    path
}

fn worked(status: StepStatus) -> bool {
    match status.end() {
        Some(StepEnd::Succeeded | StepEnd::Failed | StepEnd::Cancelled | StepEnd::Unknown) => true,
        None | Some(StepEnd::Skipped) => false,
    }
}

/// When each step started and ended, ordered for look-ups.
struct Timeline<'a> {
    steps: BTreeMap<&'a StepId, &'a PlannedStep>,
    /// The last end inside each group that has members.
    inside: BTreeMap<StepId, (Timestamp, StepId)>,
    state: &'a RunState,
    starts: Vec<Timestamp>,
    ends: Vec<(Timestamp, StepId)>,
    slots: usize,
}

impl<'a> Timeline<'a> {
    fn new(plan: &'a BoundPlan, state: &'a RunState) -> Self {
        let steps = plan.steps.iter().map(|step| (&step.id, step)).collect();
        let slots = plan.limits.max_parallel;
        let mut line = Self { steps, inside: BTreeMap::new(), state, starts: Vec::new(), ends: Vec::new(), slots };
        for step in &plan.steps {
            for (id, known) in instances(step, state) {
                line.take(id, known, Some(&step.id));
            }
            line.take(step.id.clone(), state.steps.get(&step.id), step.group.as_ref());
        }
        let held = |id: &StepId| !line.inside.contains_key(id);
        line.ends.retain(|(_, id)| held(id));
        let starts = line.ends.iter().filter_map(|(_, id)| state.steps.get(id)?.started_at);
        line.starts = starts.collect();
        line.starts.sort_unstable();
        line.ends.sort_unstable();
        line
    }

    fn take(&mut self, id: StepId, known: Option<&StepState>, group: Option<&StepId>) {
        let Some(known) = known.filter(|known| worked(known.status)) else { return };
        let (Some(_), Some(end)) = (known.started_at, known.ended_at) else { return };
        if let Some(group) = group {
            let last = self.inside.entry(group.clone()).or_insert_with(|| (end, id.clone()));
            if end >= last.0 {
                *last = (end, id.clone());
            }
        }
        self.ends.push((end, id));
    }

    fn worked(&self, id: &StepId) -> bool {
        self.state.steps.get(id).is_some_and(|known| worked(known.status))
    }

    /// The member of a group that ended last.
    fn last_member(&self, id: &StepId) -> Option<StepId> {
        self.inside.get(id).map(|(_, last)| last.clone())
    }

    fn before(&self, id: &StepId) -> Option<StepId> {
        let start = self.state.steps.get(id)?.started_at?;
        let need = self.last_need(id);
        let slot = self.last_end(start).filter(|(end, by)| by != id && self.full_before(*end));
        match (need, slot) {
            (Some((ready, _)), Some((freed, by))) if freed > ready => Some(by),
            (Some((_, need)), _) => Some(need),
            (None, Some((_, by))) => Some(by),
            (None, None) => None,
        }
    }

    /// The need that ended last; a member without one waited for what its group waited for.
    fn last_need(&self, id: &StepId) -> Option<(Timestamp, StepId)> {
        let step = self.steps.get(id).copied();
        let needs = step.map_or(&[][..], |step| &step.needs).iter();
        let ended = needs.filter_map(|edge| Some((self.state.steps.get(&edge.from)?.ended_at?, edge.from.clone())));
        let last = ended.reduce(|last, next| if next.0 >= last.0 { next } else { last });
        let group = || step.map_or_else(|| id.of_instance(), |step| step.group.clone());
        last.or_else(|| self.last_need(&group()?))
    }

    fn last_end(&self, by: Timestamp) -> Option<(Timestamp, StepId)> {
        let count = self.ends.partition_point(|(end, _)| *end <= by);
        count.checked_sub(1).map(|index| self.ends[index].clone())
    }

    /// Tells whether all slots were taken just before `at`.
    fn full_before(&self, at: Timestamp) -> bool {
        let started = self.starts.partition_point(|start| *start < at);
        let ended = self.ends.partition_point(|(end, _)| *end < at);
        started.saturating_sub(ended) >= self.slots
    }
}
