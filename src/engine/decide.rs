//! What to do next: a pure function of plan, state, limits and a given time.
//!
//! Level-triggered: it returns everything that is enabled now, in plan order, again and again until
//! it has happened; the driver leaves out what it is doing already. No clock, no randomness, no
//! rendering, no I/O, so any driver that folds the same events decides the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::frontier::slot;
use super::locking::Kept;
use super::slots::{FreeSlots, Slot};
use super::{Frontier, PlanIndex, people};
use crate::base::{Attempt, StepId, Timestamp};
use crate::event::{CancelLevel, OperatorVerb, Outcome, SkipReason, SuspendReason};
use crate::plan::{BoundPlan, Limits, PlannedStep, Section, StepKind};
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
    /// Ask people what the step is to ask.
    Ask {
        /// The step.
        step: StepId,
    },
    /// Write that nobody answered in time.
    Expire {
        /// The step.
        step: StepId,
    },
    /// Write what the answers came to.
    Conclude {
        /// The step.
        step: StepId,
    },
    /// Carry out what an operator asked of the step.
    Obey {
        /// The step.
        step: StepId,
        /// What was asked.
        verb: OperatorVerb,
    },
    /// Nothing before this time: a retry is due then, or a question is open until then.
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
    /// Evaluate what a group's members are, and let them begin.
    Open {
        /// The step.
        step: StepId,
    },
    /// All members of a group have ended: write its end.
    Close {
        /// The step.
        step: StepId,
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
    let index = PlanIndex::of(Arc::new(plan.clone()), state);
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
        self.decide_but(now, &BTreeSet::new())
    }

    /// Decides while the waits of these steps, by position, go on whatever `now` says: a wall clock that is set forward
    /// shortens no delay.
    #[must_use]
    pub fn decide_but(&self, now: Timestamp, waiting: &BTreeSet<usize>) -> Vec<Decision> {
        if self.state.finished.is_some() || self.state.header.is_none() || !self.state.suspended.is_empty() {
            return Vec::new();
        }
        if self.frontier.open == [0; 3] {
            let (outcome, exit_code) = objectives::end(self.index.plan(), self.state);
            return vec![Decision::Finish { outcome, exit_code }];
        }
        let mut decisions = Vec::new();
        let mut free_slots = FreeSlots::of(self);
        let held = self.held() || self.state.paused.is_some();
        decisions.extend(self.orders());
        let mut kept = Kept::of(self.active().map(|(_, step, state)| (step, state)));
        for (at, step, state) in self.active().filter(|(at, ..)| !self.is_ordered(*at)) {
            let now = if waiting.contains(&at) { Timestamp::MIN } else { now };
            let asking = state.status == StepStatus::Asking;
            let goes_on = |decision: &Decision| !held || asking || runs_on(decision);
            let decision = self.advance((at, step, state), now, &mut free_slots).filter(goes_on);
            decisions.extend(decision.filter(|decision| kept.admits(step, decision)));
        }
        if held {
            free_slots.close();
        }
        self.open_up(&mut decisions, free_slots);
        self.suspend(decisions)
    }

    /// What operators asked for and an engine that died did not carry out, and what takes its time.
    fn orders(&self) -> impl Iterator<Item = Decision> {
        let open = self.state.orders.iter().filter(|(step, _)| !self.state.status(step).is_terminal());
        open.map(|(step, verb)| Decision::Obey { step: step.clone(), verb: verb.clone() })
    }

    /// Whether an operator's order for the step at a position is not carried out yet.
    pub(super) fn is_ordered(&self, at: usize) -> bool {
        !self.state.orders.is_empty() && self.state.orders.contains_key(&self.index.step(at).id)
    }

    /// The steps between pending and an end, with their positions.
    pub(super) fn active(&self) -> impl Iterator<Item = (usize, &PlannedStep, &StepState)> {
        self.frontier.active.iter().filter_map(|at| {
            let step = self.index.step(*at);
            self.state.steps.get(&step.id).map(|state| (*at, step, state))
        })
    }

    /// Whether nothing new may start, because it is not known what an earlier engine left.
    fn held(&self) -> bool {
        self.active().any(|(.., state)| state.interrupted || state.asks.is_some())
    }

    /// Decides for a step between pending and an end.
    fn advance(
        &self,
        (at, step, state): (usize, &PlannedStep, &StepState),
        now: Timestamp,
        free_slots: &mut FreeSlots,
    ) -> Option<Decision> {
        let id = || step.id.clone();
        let stop = self.told_to_end(at);
        let start = || match self.index.is_group(at) {
            true => Decision::Open { step: id() },
            false => Decision::Start { step: id(), attempt: state.last_attempt().next() },
        };
        let cancel = stop.map(|level| Decision::Cancel { step: id(), level });
        match state.status {
            StepStatus::Running if state.interrupted => {
                Some(Decision::Recover { step: id(), attempt: state.last_attempt() })
            }
            StepStatus::Running => cancel,
            StepStatus::Resolved | StepStatus::Checked if stop.is_some() => cancel,
            StepStatus::Resolved | StepStatus::Checked if self.ending(at).is_some() => {
                Some(Decision::Skip { step: id(), why: SkipReason::Aborted })
            }
            StepStatus::Resolved if self.wants_check(at, state) => Some(Decision::Check { step: id() }),
            StepStatus::Resolved | StepStatus::Checked if self.asks_people(at) => Some(Decision::Ask { step: id() }),
            StepStatus::Resolved | StepStatus::Checked => Some(start()),
            StepStatus::Waiting if stop.is_some() => cancel,
            StepStatus::Waiting => match state.retry_at {
                Some(until) if until > now => Some(Decision::Wait { step: id(), until }),
                _ if free_slots.take(self, at) != Slot::Taken => None,
                // An operator released a step that no attempt was made of: its values may be others now.
                _ => Some(if state.attempts.is_empty() { Decision::Resolve { step: id() } } else { start() }),
            },
            // Nobody has to decide about a run that is ending.
            StepStatus::Asking | StepStatus::Held if stop.is_some() || self.ending(at).is_some() => {
                Some(Decision::Cancel { step: id(), level: stop.unwrap_or(CancelLevel::Graceful) })
            }
            StepStatus::Asking => people::next(step, state, now),
            StepStatus::Open => {
                let ended = self.frontier.groups.get(&at).is_none_or(|members| members.open == 0);
                ended.then(|| Decision::Close { step: id() })
            }
            StepStatus::Held
            | StepStatus::Pending
            | StepStatus::Succeeded
            | StepStatus::Failed
            | StepStatus::Skipped
            | StepStatus::Cancelled
            | StepStatus::Unknown => None,
        }
    }

    /// Decides for steps nothing happened to yet.
    fn open_up(&self, decisions: &mut Vec<Decision>, mut free_slots: FreeSlots) {
        let open = |section: &Section| self.frontier.open[slot(*section)] > 0;
        let order = [Section::Body, Section::Undo, Section::Finally];
        let section = order.into_iter().find(open).unwrap_or(Section::Finally);
        if section == Section::Undo {
            return self.open_undo(decisions, free_slots.free());
        }
        let doomed = &self.frontier.doomed[slot(section)];
        let id = |at: &usize| self.index.step(*at).id.clone();
        let skipped = doomed.iter().filter(|(step, _)| !self.is_ordered(**step));
        decisions.extend(skipped.map(|(step, by)| match self.index.group(*step) {
            Some(group) if group == *by => Decision::Skip { step: id(step), why: SkipReason::Group },
            Some(_) | None => Decision::Skip { step: id(step), why: SkipReason::Need { step: id(by) } },
        }));
        self.leave_out(section, decisions);
        // Skips may make earlier steps ready, and the order written is kept where it can be.
        if doomed.is_empty() {
            self.begin_ready(section, decisions, &mut free_slots);
        }
    }

    /// Lets steps begin whose needs are met, as far as there is room.
    fn begin_ready(&self, section: Section, decisions: &mut Vec<Decision>, free_slots: &mut FreeSlots) {
        let ready = &self.frontier.ready[slot(section)];
        let mut from = 0;
        while let Some(at) = ready.range(from..).next().copied() {
            from = at + 1;
            if self.ending(at).is_some() || self.is_ordered(at) {
                continue;
            }
            match free_slots.take(self, at) {
                Slot::Taken => decisions.push(Decision::Resolve { step: self.index.step(at).id.clone() }),
                Slot::GroupFull(group) => from = self.index.instances(group).end,
                Slot::RunFull => return,
            }
        }
    }

    /// Leaves when everything that can still happen without an answer has happened.
    fn suspend(&self, decisions: Vec<Decision>) -> Vec<Decision> {
        let busy = || self.active().any(|(.., state)| state.status == StepStatus::Running && state.asks.is_none());
        if !decisions.is_empty() || busy() {
            return decisions;
        }
        let waiting = people::waiting(self);
        if waiting.is_empty() { Vec::new() } else { vec![Decision::Suspend { waiting }] }
    }

    /// Whether people make the step.
    fn asks_people(&self, at: usize) -> bool {
        match self.index.step(at).kind {
            StepKind::Approval | StepKind::Manual => !self.index.is_group(at),
            StepKind::Action | StepKind::Runbook => false,
        }
    }

    /// Whether something has to be looked at between the values and the first attempt. A group makes nothing itself.
    fn wants_check(&self, at: usize, state: &StepState) -> bool {
        let own = self.index.step(at).has_check && !self.index.is_group(at);
        own || state.preconditions.iter().any(serde_json::Value::is_object)
    }
}

/// Whether a decision is for something that began already, so that it is made while new starts are held back.
fn runs_on(decision: &Decision) -> bool {
    match decision {
        Decision::Cancel { .. }
        | Decision::Recover { .. }
        | Decision::Skip { .. }
        | Decision::Close { .. }
        | Decision::Obey { .. }
        | Decision::Expire { .. }
        | Decision::Conclude { .. } => true,
        Decision::Resolve { .. }
        | Decision::Check { .. }
        | Decision::Start { .. }
        | Decision::Open { .. }
        | Decision::Ask { .. }
        | Decision::Wait { .. }
        | Decision::Suspend { .. }
        | Decision::Finish { .. } => false,
    }
}
