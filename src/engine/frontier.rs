//! Where a run stands in its graph: which steps are open, ready, doomed or active.
//!
//! A frontier is a summary of plan and state. It is kept up to date step by step so that a round
//! costs what it changes, and it always equals [`Frontier::of`] of the same state.

use std::collections::{BTreeMap, BTreeSet};

use super::PlanIndex;
use crate::plan::{Section, Strictness};
use crate::state::{RunState, StepEnd, StepStatus};

/// The summary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    /// Needs that have not ended, by position, where there are any.
    open_needs: BTreeMap<usize, usize>,
    /// Steps nothing happened to yet.
    pub(super) pending: [BTreeSet<usize>; 3],
    /// Pending steps whose needs are met and whose group is open.
    pub(super) ready: [BTreeSet<usize>; 3],
    /// Pending steps that will not run, with the need that came to the wrong end, or the group that was not opened.
    pub(super) doomed: [BTreeMap<usize, usize>; 3],
    /// Steps between pending and an end.
    pub(super) active: BTreeSet<usize>,
    /// Steps without an end, by section.
    pub(super) open: [usize; 3],
    /// Whether a body step failed where that is not tolerated.
    pub(super) aborted: bool,
    /// Whether an undo came to an end after which the earlier ones would find another world than they expect.
    pub(super) undo_stopped: bool,
    /// The members of each group.
    pub(super) groups: BTreeMap<usize, Members>,
}

/// How the members of a group stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Members {
    /// Those without an end.
    pub(super) open: usize,
    /// Whether one failed where that is not tolerated.
    pub(super) aborted: bool,
    /// Whether one began, not counting those that run in any case.
    pub(super) begun: bool,
}

/// The slot of a section in the frontier's tables.
pub(super) fn slot(section: Section) -> usize {
    match section {
        Section::Body => 0,
        Section::Undo => 1,
        Section::Finally => 2,
    }
}

impl Frontier {
    /// Summarizes a state; the index must hold its instances.
    #[must_use]
    pub fn of(index: &PlanIndex, state: &RunState) -> Self {
        let mut frontier = Self::default();
        let positions: Vec<usize> = index.positions().collect();
        frontier.admit(index, &positions);
        for at in positions {
            let status = state.status(&index.step(at).id);
            frontier.observe(index, state, (at, StepStatus::Pending, status));
        }
        frontier
    }

    /// Takes in steps that nothing happened to: those of the plan, and instances when their fan-out is opened.
    pub fn admit(&mut self, index: &PlanIndex, steps: &[usize]) {
        for at in steps.iter().copied() {
            let slot = slot(index.step(at).section);
            self.open[slot] += 1;
            self.pending[slot].insert(at);
            let needs = index.needs(at).len();
            let group = index.group(at);
            if needs > 0 {
                self.open_needs.insert(at, needs);
            } else if group.is_none_or(|group| index.is_fan_out(group)) {
                self.ready[slot].insert(at);
            }
            if index.is_group(at) {
                self.groups.entry(at).or_default();
            }
            if let Some(group) = group {
                self.groups.entry(group).or_default().open += 1;
            }
        }
    }

    /// Takes note that a step went from one status to another; `state` is the state after it.
    pub fn observe(&mut self, index: &PlanIndex, state: &RunState, change: (usize, StepStatus, StepStatus)) {
        let (at, before, after) = change;
        if before == after {
            return;
        }
        let slot = slot(index.step(at).section);
        if before == StepStatus::Pending {
            self.pending[slot].remove(&at);
            self.ready[slot].remove(&at);
            self.doomed[slot].remove(&at);
        }
        self.tell_group(index, state, at);
        if after == StepStatus::Open {
            index.members(at).into_iter().for_each(|member| self.judge(index, state, member));
        }
        if !after.is_terminal() {
            self.active.insert(at);
            return;
        }
        self.active.remove(&at);
        self.open[slot] -= 1;
        if index.is_group(at) {
            self.doom_members(index, state, at);
        }
        for next in index.dependents(at) {
            if let Some(open) = self.open_needs.get_mut(next) {
                *open -= 1;
            }
            self.judge(index, state, *next);
        }
    }

    /// What became of a step matters to the group it is a member of, or to the body.
    fn tell_group(&mut self, index: &PlanIndex, state: &RunState, at: usize) {
        let step = index.step(at);
        let known = state.steps.get(&step.id);
        let status = state.status(&step.id);
        let failed = matches!(status, StepStatus::Failed | StepStatus::Unknown);
        let aborts = failed && !step.always && !index.tolerates(at);
        let Some(group) = index.group(at) else {
            self.aborted |= aborts && step.section == Section::Body;
            let broke = (failed || status == StepStatus::Cancelled) && !index.tolerates(at);
            self.undo_stopped |= broke && step.section == Section::Undo;
            return;
        };
        let members = self.groups.entry(group).or_default();
        members.aborted |= aborts;
        // One that was held and then left out by hand had begun, too.
        let begun = known.is_some_and(|known| known.with.is_some() || known.error.is_some());
        members.begun |= !step.always && (begun || status != StepStatus::Skipped);
        if status.is_terminal() {
            members.open -= 1;
        }
    }

    /// Members of a group that ended without them will not run.
    fn doom_members(&mut self, index: &PlanIndex, state: &RunState, group: usize) {
        for member in index.members(group) {
            let step = index.step(member);
            if state.status(&step.id) == StepStatus::Pending {
                self.ready[slot(step.section)].remove(&member);
                self.doomed[slot(step.section)].insert(member, group);
            }
        }
    }

    /// Sorts a step whose needs have all ended and whose group is open.
    fn judge(&mut self, index: &PlanIndex, state: &RunState, at: usize) {
        let status = |at: usize| state.status(&index.step(at).id);
        let waits = self.open_needs.get(&at).is_some_and(|open| *open > 0);
        let closed = index.group(at).is_some_and(|group| status(group) != StepStatus::Open);
        if waits || closed || status(at) != StepStatus::Pending {
            return;
        }
        let slot = slot(index.step(at).section);
        let broken = index
            .needs(at)
            .iter()
            .find(|(from, strictness)| !satisfied(status(*from), *strictness, index.tolerates(*from)));
        match broken {
            Some((from, _)) => {
                self.doomed[slot].insert(at, *from);
            }
            None => {
                self.ready[slot].insert(at);
            }
        }
    }
}

fn satisfied(status: StepStatus, strictness: Strictness, tolerated: bool) -> bool {
    match strictness {
        Strictness::Any => status.is_terminal(),
        Strictness::Success => status == StepStatus::Succeeded,
        Strictness::Settled => match status.end() {
            Some(StepEnd::Succeeded | StepEnd::Skipped) => true,
            Some(StepEnd::Failed | StepEnd::Unknown) => tolerated,
            Some(StepEnd::Cancelled) | None => false,
        },
    }
}
