//! How much more may begin: the slots of the run, and those of fan-outs that bound their own.

use std::collections::BTreeMap;

use super::decide::Picture;
use crate::state::{StepState, StepStatus};

/// Free slots.
#[derive(Debug)]
pub(super) struct FreeSlots {
    run: usize,
    /// By fan-out; one that is not bounded is absent.
    groups: BTreeMap<usize, usize>,
}

/// Where a step wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// It has a slot now.
    Taken,
    /// The run is full.
    RunFull,
    /// As many instances of this fan-out run as may.
    GroupFull(usize),
}

impl FreeSlots {
    /// Counts what is free.
    pub(super) fn of(picture: &Picture<'_>) -> Self {
        let places = |limit: Option<u32>| usize::try_from(limit.unwrap_or(u32::MAX)).unwrap_or(usize::MAX).max(1);
        let mut free_slots = Self { run: picture.limits.max_parallel.max(1), groups: BTreeMap::new() };
        for at in &picture.frontier.active {
            if let Some(bound) = picture.index.step(*at).for_each.as_ref().filter(|_| picture.index.is_fan_out(*at)) {
                free_slots.groups.insert(*at, places(bound.max_parallel));
            }
        }
        for (at, _, state) in picture.active() {
            if holds_slot(state) {
                free_slots.run = free_slots.run.saturating_sub(1);
                let group = picture.index.group(at).and_then(|group| free_slots.groups.get_mut(&group));
                group.into_iter().for_each(|free| *free = free.saturating_sub(1));
            }
        }
        free_slots
    }

    /// How many slots the run has left.
    pub(super) fn free(&self) -> usize {
        self.run
    }

    /// No slot at all.
    pub(super) fn close(&mut self) {
        self.run = 0;
    }

    /// Takes a slot for the step at a position, if there is one.
    pub(super) fn take(&mut self, picture: &Picture<'_>, at: usize) -> Slot {
        if self.run == 0 {
            return Slot::RunFull;
        }
        if let Some((group, free)) =
            picture.index.group(at).and_then(|group| Some((group, self.groups.get_mut(&group)?)))
        {
            if *free == 0 {
                return Slot::GroupFull(group);
            }
            *free -= 1;
        }
        self.run -= 1;
        Slot::Taken
    }
}

/// Whether a step holds a slot; one that waits for its next attempt, for its members or for people holds none.
fn holds_slot(state: &StepState) -> bool {
    match state.status {
        StepStatus::Resolved | StepStatus::Checked | StepStatus::Running => state.asks.is_none(),
        StepStatus::Pending
        | StepStatus::Waiting
        | StepStatus::Open
        | StepStatus::Asking
        | StepStatus::Held
        | StepStatus::Succeeded
        | StepStatus::Failed
        | StepStatus::Skipped
        | StepStatus::Cancelled
        | StepStatus::Unknown => false,
    }
}
