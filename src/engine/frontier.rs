//! Where a run stands in its graph: which steps are open, ready, doomed or active.
//!
//! A frontier is a summary of plan and state. It is kept up to date step by step so that a round
//! costs what it changes, and it always equals [`Frontier::of`] of the same state.

use std::collections::{BTreeMap, BTreeSet};

use super::PlanIndex;
use crate::plan::{Section, Strictness};
use crate::state::{RunState, StepStatus};

/// The summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontier {
    /// Needs that have not ended, by position.
    open_needs: Vec<usize>,
    /// Steps nothing happened to yet.
    pub(super) pending: Vec<BTreeSet<usize>>,
    /// Pending steps whose needs are met.
    pub(super) ready: Vec<BTreeSet<usize>>,
    /// Pending steps with a need that came to the wrong end, with that need.
    pub(super) doomed: Vec<BTreeMap<usize, usize>>,
    /// Steps between pending and an end.
    pub(super) active: BTreeSet<usize>,
    /// Steps without an end, by section.
    pub(super) open: [usize; 3],
    /// Whether a body step failed where that is not tolerated.
    pub(super) aborted: bool,
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
    /// Summarizes a state.
    #[must_use]
    pub fn of(index: &PlanIndex, state: &RunState) -> Self {
        let mut frontier = Self::untouched(index);
        for at in 0..index.len() {
            let status = state.status(&index.step(at).id);
            frontier.observe(index, state, (at, StepStatus::Pending, status));
        }
        frontier
    }

    fn untouched(index: &PlanIndex) -> Self {
        let mut frontier = Self {
            open_needs: (0..index.len()).map(|at| index.needs(at).len()).collect(),
            pending: vec![BTreeSet::new(); 3],
            ready: vec![BTreeSet::new(); 3],
            doomed: vec![BTreeMap::new(); 3],
            active: BTreeSet::new(),
            open: [0; 3],
            aborted: false,
        };
        for at in 0..index.len() {
            let slot = slot(index.step(at).section);
            frontier.open[slot] += 1;
            frontier.pending[slot].insert(at);
            if index.needs(at).is_empty() {
                frontier.ready[slot].insert(at);
            }
        }
        frontier
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
        if !after.is_terminal() {
            self.active.insert(at);
            return;
        }
        self.active.remove(&at);
        self.open[slot] -= 1;
        let failed = matches!(after, StepStatus::Failed | StepStatus::Unknown);
        self.aborted |= failed && index.step(at).section == Section::Body && !index.tolerates(at);
        for next in index.dependents(at) {
            self.open_needs[*next] -= 1;
            if self.open_needs[*next] == 0 && state.status(&index.step(*next).id) == StepStatus::Pending {
                self.judge(index, state, *next);
            }
        }
    }

    /// Sorts a step whose needs have all ended.
    fn judge(&mut self, index: &PlanIndex, state: &RunState, at: usize) {
        let slot = slot(index.step(at).section);
        let broken = index.needs(at).iter().find(|(from, strictness)| {
            let status = state.status(&index.step(*from).id);
            !satisfied(status, *strictness, index.tolerates(*from))
        });
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
        Strictness::Settled => match status {
            StepStatus::Succeeded | StepStatus::Skipped => true,
            StepStatus::Failed | StepStatus::Unknown => tolerated,
            StepStatus::Cancelled
            | StepStatus::Pending
            | StepStatus::Resolved
            | StepStatus::Checked
            | StepStatus::Running
            | StepStatus::Waiting
            | StepStatus::Open
            | StepStatus::Asking
            | StepStatus::Held => false,
        },
    }
}
