//! Locks of steps: kept apart within a run by `decide`, across runs by the driver.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::Decision;
use super::drive::Driver;
use crate::action::ActionError;
use crate::base::{Attempt, StepId};
use crate::event::EventKind;
use crate::plan::PlannedStep;
use crate::port::{LockError, LockGuard};
use crate::state::{StepState, StepStatus};

/// The names that running steps of the run keep from each other.
pub(super) struct Kept<'a>(BTreeSet<&'a str>);

impl<'a> Kept<'a> {
    pub(super) fn of(active: impl Iterator<Item = (&'a PlannedStep, &'a StepState)>) -> Self {
        let running = active.filter(|(_, state)| state.status == StepStatus::Running);
        Self(running.flat_map(|(step, _)| &step.locks).map(String::as_str).collect())
    }

    /// Whether a decision may be made beside what runs; an attempt that may keeps its names from the next.
    pub(super) fn admits(&mut self, step: &'a PlannedStep, decision: &Decision) -> bool {
        if !matches!(decision, Decision::Start { .. }) || step.locks.is_empty() {
            return true;
        }
        let free = step.locks.iter().all(|name| !self.0.contains(name.as_str()));
        if free {
            self.0.extend(step.locks.iter().map(String::as_str));
        }
        free
    }
}

/// What the engine of a run holds and waits for.
#[derive(Default)]
pub(super) struct Held {
    /// Each with the step that needs it, or needed it last.
    guards: BTreeMap<String, (usize, Box<dyn LockGuard>)>,
    /// Since when a step waits for a lock.
    awaited: BTreeMap<(usize, String), Instant>,
}

/// Whether a step may go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Grip {
    /// It holds what it needs.
    Firm,
    /// Another run holds a lock.
    Waits,
    /// The step cannot be made.
    Lost,
}

impl Driver {
    /// Takes the locks of a step, all of them or none, and says what came of it.
    pub(super) fn grip(&mut self, at: usize, events: &mut Vec<EventKind>) -> Grip {
        let plan = std::sync::Arc::clone(self.index.plan());
        let step = self.index.step(at);
        let wanted = |name: &&String| !plan.locks.contains(*name) && !self.held.guards.contains_key(*name);
        let names: BTreeSet<String> = step.locks.iter().filter(wanted).cloned().collect();
        let id = step.id.clone();
        let mut taken = Vec::with_capacity(names.len());
        for name in names {
            match self.locks.acquire(&name, &plan.run) {
                Ok(guard) => taken.push((name, guard)),
                Err(LockError::Held { holder, .. }) => {
                    self.await_lock((at, name), (id, holder), events);
                    return Grip::Waits;
                }
                Err(error @ LockError::File { .. }) => {
                    events.push(self.unlocked(at, &error));
                    return Grip::Lost;
                }
            }
        }
        self.hand_on(at, events);
        for (lock, guard) in taken {
            let since = self.held.awaited.remove(&(at, lock.clone()));
            let waited = since.map(|since| self.clock.monotonic().saturating_duration_since(since));
            let waited_ms = waited.map_or(0, |waited| u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
            events.push(taken_by(&id, &lock, (guard.over(), waited_ms)));
            self.held.guards.insert(lock, (at, guard));
        }
        Grip::Firm
    }

    /// A lock that cannot be used ends the step; of an attempt that an earlier engine left, it is not known how it ended.
    fn unlocked(&self, at: usize, error: &LockError) -> EventKind {
        let step = self.index.step(at).id.clone();
        let left = self.state.steps.get(&step).filter(|state| state.status == StepStatus::Running);
        let event = match left.map(StepState::last_attempt) {
            Some(attempt) => {
                let error = ActionError::unknown(error.to_string()).because(error).into_info();
                EventKind::StepUnknown { step, attempt, error }
            }
            None => {
                let error = ActionError::fatal(error.to_string()).because(error).into_info();
                EventKind::StepFailed { step, attempt: Attempt(0), error, elapsed_ms: 0 }
            }
        };
        self.or_held(at, event)
    }

    /// Hands locks on that an earlier step of this run held until now.
    fn hand_on(&mut self, at: usize, events: &mut Vec<EventKind>) {
        let step = self.index.step(at);
        for lock in &step.locks {
            if let Some((holder, _)) = self.held.guards.get_mut(lock).filter(|(holder, _)| *holder != at) {
                *holder = at;
                events.push(taken_by(&step.id, lock, (None, 0)));
            }
        }
    }

    /// Says once that a lock is waited for; it is tried again at every round.
    fn await_lock(&mut self, wait: (usize, String), told: (StepId, String), events: &mut Vec<EventKind>) {
        let (step, holder) = told;
        let lock = wait.1.clone();
        if let std::collections::btree_map::Entry::Vacant(entry) = self.held.awaited.entry(wait) {
            entry.insert(self.clock.monotonic());
            events.push(EventKind::LockAwaited { step: Some(step), lock, holder });
        }
    }

    /// Lets go of what no running step needs. Called when the ends of steps are durable.
    pub(super) fn let_go(&mut self) {
        if self.held.guards.is_empty() {
            return;
        }
        let running = self.frontier.active.iter().map(|at| self.index.step(*at));
        let running = running.filter(|step| self.state.status(&step.id) == StepStatus::Running);
        let needed: BTreeSet<&String> = running.flat_map(|step| &step.locks).collect();
        let free: Vec<String> = self.held.guards.keys().filter(|name| !needed.contains(name)).cloned().collect();
        for name in free {
            if let Some((_, guard)) = self.held.guards.remove(&name) {
                guard.release();
            }
        }
    }
}

fn taken_by(step: &StepId, lock: &str, (over, waited_ms): (Option<&str>, u64)) -> EventKind {
    EventKind::LockTaken {
        step: Some(step.clone()),
        lock: lock.to_owned(),
        over: over.map(str::to_owned),
        preempted: None,
        waited_ms,
    }
}
