//! What to do next: a pure function of plan, state, limits and a given time.
//!
//! Level-triggered: it returns everything that is enabled now, in plan order, again and again until
//! it has happened; the driver leaves out what it is doing already. No clock, no randomness, no
//! rendering, no I/O, so any driver that folds the same events decides the same.

use std::sync::Arc;

use super::frontier::slot;
use super::{Frontier, PlanIndex};
use crate::base::{Attempt, StepId, Timestamp};
use crate::event::{CancelLevel, Outcome, SkipReason, SuspendReason};
use crate::plan::{BoundPlan, Limits, PlannedStep, Section};
use crate::state::{RunState, StepState, StepStatus, objectives};

/// One thing that is to be done now.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Evaluate the step's `when`, preconditions and arguments, once for all attempts.
    Resolve {
        /// The step.
        step: StepId,
    },
    /// Look whether the step can succeed.
    Check {
        /// The step.
        step: StepId,
    },
    /// Write the start of an attempt, then make it.
    Start {
        /// The step.
        step: StepId,
        /// Its number.
        attempt: Attempt,
    },
    /// Write that the step will not run.
    Skip {
        /// The step.
        step: StepId,
        /// Why.
        why: SkipReason,
    },
    /// Nothing before this time: a retry is due then.
    Wait {
        /// The step.
        step: StepId,
        /// When.
        until: Timestamp,
    },
    /// End the step because of a cancel.
    Cancel {
        /// The step.
        step: StepId,
        /// How hard.
        level: CancelLevel,
    },
    /// Judge an attempt that an engine left behind.
    Recover {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: Attempt,
    },
    /// Leave: only a person can tell what became of these steps.
    Suspend {
        /// Each step with its question.
        waiting: Vec<SuspendReason>,
    },
    /// Everything is settled: write the end.
    Finish {
        /// How the run ended.
        outcome: Outcome,
        /// The code the process ends with.
        exit_code: u8,
    },
}

/// Decides from plan and state alone.
#[must_use]
pub fn decide(plan: &BoundPlan, state: &RunState, limits: &Limits, now: Timestamp) -> Vec<Decision> {
    let index = PlanIndex::new(Arc::new(plan.clone()));
    let frontier = Frontier::of(&index, state);
    Picture { index: &index, frontier: &frontier, state, limits }.decide(now)
}

/// Plan and state with their summary: what a driver that keeps a frontier decides from.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// The plan.
    pub index: &'a PlanIndex,
    /// The summary; must be that of the state.
    pub frontier: &'a Frontier,
    /// The state.
    pub state: &'a RunState,
    /// Bounds.
    pub limits: &'a Limits,
}

impl Picture<'_> {
    /// Decides, in time proportional to what is open and enabled.
    #[must_use]
    pub fn decide(&self, now: Timestamp) -> Vec<Decision> {
        if self.state.finished.is_some() || self.state.header.is_none() || !self.state.suspended.is_empty() {
            return Vec::new();
        }
        if self.frontier.open == [0; 3] {
            let (outcome, exit_code) = objectives::end(self.index.plan(), self.state);
            return vec![Decision::Finish { outcome, exit_code }];
        }
        let mut decisions = Vec::new();
        let mut slots = self.limits.max_parallel.max(1).saturating_sub(self.occupied());
        let held = self.held();
        for (step, state) in self.active() {
            decisions.extend(self.advance(step, state, now, &mut slots).filter(|decision| !held || runs_on(decision)));
        }
        self.open_up(&mut decisions, if held { 0 } else { slots });
        self.suspend(decisions)
    }

    fn active(&self) -> impl Iterator<Item = (&PlannedStep, &StepState)> {
        self.frontier.active.iter().filter_map(|at| {
            let step = self.index.step(*at);
            self.state.steps.get(&step.id).map(|state| (step, state))
        })
    }

    /// How many steps hold a place; a step that waits for its next attempt holds none.
    fn occupied(&self) -> usize {
        self.active().filter(|(_, state)| state.status != StepStatus::Waiting && state.asks.is_none()).count()
    }

    /// Whether nothing new may start, because it is not known what an earlier engine left.
    fn held(&self) -> bool {
        self.active().any(|(_, state)| state.interrupted || state.asks.is_some())
    }

    /// Decides for a step between pending and an end.
    fn advance(
        &self,
        step: &PlannedStep,
        state: &StepState,
        now: Timestamp,
        slots: &mut usize,
    ) -> std::option::IntoIter<Decision> {
        let id = || step.id.clone();
        let stop = self.stopping(step.section);
        let start = || Decision::Start { step: id(), attempt: state.last_attempt().next() };
        let cancel = stop.map(|level| Decision::Cancel { step: id(), level });
        let decision = match state.status {
            StepStatus::Running if state.interrupted => {
                Some(Decision::Recover { step: id(), attempt: state.last_attempt() })
            }
            StepStatus::Running => cancel,
            StepStatus::Resolved | StepStatus::Checked if stop.is_some() => cancel,
            StepStatus::Resolved | StepStatus::Checked if self.aborting(step.section) => {
                Some(Decision::Skip { step: id(), why: SkipReason::Aborted })
            }
            StepStatus::Resolved if wants_check(step, state) => Some(Decision::Check { step: id() }),
            StepStatus::Resolved | StepStatus::Checked => Some(start()),
            StepStatus::Waiting if stop.is_some() => cancel,
            StepStatus::Waiting => match state.retry_at {
                Some(until) if until > now => Some(Decision::Wait { step: id(), until }),
                _ if *slots == 0 => None,
                _ => {
                    *slots -= 1;
                    Some(start())
                }
            },
            StepStatus::Open
            | StepStatus::Asking
            | StepStatus::Held
            | StepStatus::Pending
            | StepStatus::Succeeded
            | StepStatus::Failed
            | StepStatus::Skipped
            | StepStatus::Cancelled
            | StepStatus::Unknown => None,
        };
        decision.into_iter()
    }

    /// Decides for steps nothing happened to yet.
    fn open_up(&self, decisions: &mut Vec<Decision>, slots: usize) {
        let open = |section: &Section| self.frontier.open[slot(*section)] > 0;
        let order = [Section::Body, Section::Undo, Section::Finally];
        let section = order.into_iter().find(open).unwrap_or(Section::Finally);
        if section == Section::Undo {
            return self.open_undo(decisions, slots);
        }
        let at = slot(section);
        let id = |at: &usize| self.index.step(*at).id.clone();
        for (step, need) in &self.frontier.doomed[at] {
            decisions.push(Decision::Skip { step: id(step), why: SkipReason::Need { step: id(need) } });
        }
        let ending = if self.stopping(section).is_some() {
            Some(SkipReason::Cancelled)
        } else {
            self.aborting(section).then_some(SkipReason::Aborted)
        };
        if let Some(why) = ending {
            let rest = self.frontier.pending[at].iter().filter(|step| !self.frontier.doomed[at].contains_key(step));
            decisions.extend(rest.map(|step| Decision::Skip { step: id(step), why: why.clone() }));
            return;
        }
        // Skips may make earlier steps ready, and the order written is kept where it can be.
        let slots = if self.frontier.doomed[at].is_empty() { slots } else { 0 };
        let ready = self.frontier.ready[at].iter().take(slots);
        decisions.extend(ready.map(|step| Decision::Resolve { step: id(step) }));
    }

    /// Leaves when everything that can still happen without an answer has happened.
    fn suspend(&self, decisions: Vec<Decision>) -> Vec<Decision> {
        let waiting: Vec<SuspendReason> = self
            .active()
            .filter_map(|(step, state)| {
                let question = state.asks.clone()?;
                Some(SuspendReason { step: step.id.clone(), question })
            })
            .collect();
        let busy = self.active().any(|(_, state)| state.status == StepStatus::Running && state.asks.is_none());
        if waiting.is_empty() || busy || !decisions.is_empty() {
            return decisions;
        }
        vec![Decision::Suspend { waiting }]
    }

    /// A cancel ends the body; what was begun to be undone ends only at the second one, and `finally` runs all the same.
    pub(super) fn stopping(&self, section: Section) -> Option<CancelLevel> {
        let asked = self.state.cancel.as_ref().map(|(level, ..)| *level);
        match section {
            Section::Body => asked,
            Section::Undo => asked.filter(|level| *level == CancelLevel::Now),
            Section::Finally => None,
        }
    }

    /// A failure ends the body; a failing step of `finally` ends nothing.
    fn aborting(&self, section: Section) -> bool {
        section == Section::Body && self.frontier.aborted
    }
}

/// Whether a decision is for something that began already, so that it is made while new starts are held back.
fn runs_on(decision: &Decision) -> bool {
    match decision {
        Decision::Cancel { .. } | Decision::Recover { .. } | Decision::Skip { .. } => true,
        Decision::Resolve { .. }
        | Decision::Check { .. }
        | Decision::Start { .. }
        | Decision::Wait { .. }
        | Decision::Suspend { .. }
        | Decision::Finish { .. } => false,
    }
}

/// Whether something has to be looked at between the values and the first attempt.
fn wants_check(step: &PlannedStep, state: &StepState) -> bool {
    step.has_check || state.preconditions.iter().any(serde_json::Value::is_object)
}
