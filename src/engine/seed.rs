//! What a run takes from an earlier one, and how its state looks with it before anything is written.

use crate::base::{Digest, StepId, Timestamp};
use crate::event::{Event, EventKind, RunHeader};
use crate::plan::{BoundPlan, PlannedStep};
use crate::state::{IllegalEvent, RunState, StepStatus};

use super::undo::may_be_made;

/// A run as it will stand once its first events are written.
#[derive(Debug, Clone, PartialEq)]
pub struct Foreseen {
    /// Its state.
    pub state: RunState,
}

/// Folds the first events of a run that is not there yet.
///
/// # Errors
/// Fails when a seed cannot follow the ones before it.
pub fn foresee(plan: &BoundPlan, header: &RunHeader, seeds: &[EventKind]) -> Result<Foreseen, IllegalEvent> {
    let mut state = RunState::default();
    let start = EventKind::RunStarted(Box::new(header.clone()));
    for kind in std::iter::once(&start).chain(seeds) {
        apply(&mut state, plan, kind)?;
    }
    Ok(Foreseen { state })
}

fn apply(state: &mut RunState, plan: &BoundPlan, kind: &EventKind) -> Result<(), IllegalEvent> {
    let at: Timestamp = state.last_at.unwrap_or(plan.started_at);
    state.apply(&Event {
        seq: state.last_seq.next(),
        at,
        run: plan.run.clone(),
        prev: Digest::default(),
        kind: kind.clone(),
        hash: Digest::default(),
    })
}

impl Foreseen {
    /// A run that goes on from a state, with the seeds it still lacks.
    ///
    /// # Errors
    /// Fails when a seed cannot follow the ones before it.
    pub(super) fn after(state: &RunState, plan: &BoundPlan, seeds: &[EventKind]) -> Result<Self, IllegalEvent> {
        let mut state = state.clone();
        for kind in seeds {
            apply(&mut state, plan, kind)?;
        }
        Ok(Self { state })
    }

    /// Tells whether the run may still come to make a step.
    #[must_use]
    pub fn may_make(&self, plan: &BoundPlan, step: &PlannedStep) -> bool {
        !self.state.status(&step.id).is_terminal() && may_be_made(plan, &self.state, step)
    }
}

/// The seeds that a journal does not hold yet.
pub(super) fn missing(state: &RunState, seeds: Vec<EventKind>) -> Vec<EventKind> {
    let lacks = |kind: &EventKind| match seeded(kind) {
        Some((step, Seed::End)) => !state.status(step).is_terminal(),
        Some((step, Seed::Group)) => state.status(step) == StepStatus::Pending,
        None => {
            matches!(kind, EventKind::ResourceRegistered { resource, .. } if !state.resources.contains_key(resource))
        }
    };
    seeds.into_iter().filter(lacks).collect()
}

enum Seed {
    End,
    Group,
}

fn seeded(kind: &EventKind) -> Option<(&StepId, Seed)> {
    if let EventKind::StepSeeded { step, .. } = kind {
        return Some((step, Seed::End));
    }
    if let EventKind::GroupOpened { step, .. } = kind {
        return Some((step, Seed::Group));
    }
    None
}
