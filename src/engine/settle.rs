//! Decisions become events at once, or launches that follow the sync.

use serde_json::Value;

use super::Decision;
use super::drive::Driver;
use super::flight::Work;
use super::locking::Grip;
use super::resolve::resolve;
use super::scope::Values;
use super::start::EngineError;
use crate::action::Interrupted;
use crate::base::{Attempt, StepId};
use crate::event::{CancelLevel, ErrorClass, ErrorInfo, EventKind};
use crate::state::{StepState, StepStatus, objectives};

/// What is done once the round is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Launch {
    Check(usize),
    Attempt(usize, Attempt),
    Recover(usize, Attempt),
    Reattach(usize, Interrupted),
    Tell(usize, CancelLevel),
    Remove(String),
}

impl Driver {
    /// Decides and writes until nothing new is enabled; gives what is to be launched after the sync.
    pub(super) fn settle(&mut self) -> Result<Vec<Launch>, EngineError> {
        let mut launches = std::mem::take(&mut self.queued);
        loop {
            let mut events = Vec::new();
            for decision in self.enabled() {
                self.turn(decision, &mut events, &mut launches);
            }
            if events.is_empty() {
                return Ok(launches);
            }
            self.record(events)?;
        }
    }

    fn turn(&mut self, decision: Decision, events: &mut Vec<EventKind>, launches: &mut Vec<Launch>) {
        match decision {
            Decision::Resolve { step } => events.extend(self.resolved(&step)),
            Decision::Ask { step } => events.extend(self.ask(&step)),
            Decision::Expire { step } => events.extend(self.expire(&step)),
            Decision::Conclude { step } => events.extend(self.conclude(&step)),
            Decision::Obey { step, verb } => self.obey_order(&step, &verb, (events, launches)),
            Decision::Skip { step, why } => {
                self.call_off_check(&step);
                events.push(EventKind::StepSkipped { step, why });
            }
            Decision::Start { step, attempt } => self.start(step, attempt, (events, launches)),
            Decision::Open { step } => events.extend(self.opened(&step)),
            Decision::Close { step } => events.extend(self.closed(&step)),
            Decision::Check { step } => self.plan_once(&step, launches, Launch::Check),
            Decision::Recover { step, attempt } => self.recover(&step, attempt, (events, launches)),
            Decision::Wait { step, until } => self.wait_for(&step, until),
            Decision::Cancel { step, level } => self.cancel(&step, level, (events, launches)),
            Decision::Suspend { waiting } => {
                if self.leaves() {
                    events.push(EventKind::RunSuspended { waiting });
                }
            }
            Decision::Finish { outcome, exit_code } => {
                if !self.clean_up(launches) {
                    return;
                }
                let mut figures = Box::new(objectives::figures(self.index.plan(), &self.state, self.now()));
                figures.exceptions.extend(objectives::left_behind(&self.state));
                events.push(EventKind::RunFinished { outcome, exit_code, figures });
            }
        }
    }

    fn resolved(&self, step: &StepId) -> Option<EventKind> {
        let at = self.index.position(step)?;
        Some(self.or_held(at, resolve(self.index.step(at), self.values())))
    }

    /// Where the values of templates come from.
    pub(super) fn values(&self) -> Values<'_> {
        Values { index: &self.index, state: &self.state, registry: &self.registry, now: self.now() }
    }

    /// What an attempt that was left holds is held again before it is judged.
    pub(super) fn recover(&mut self, step: &StepId, attempt: Attempt, out: (&mut Vec<EventKind>, &mut Vec<Launch>)) {
        let Some(at) = self.index.position(step) else { return };
        if self.flights.contains_key(&at) || self.grip(at, out.0) == Grip::Firm {
            self.plan_once(step, out.1, |at| Launch::Recover(at, attempt));
        }
    }

    fn start(&mut self, step: StepId, attempt: Attempt, out: (&mut Vec<EventKind>, &mut Vec<Launch>)) {
        let Some(at) = self.index.position(&step) else { return };
        if self.grip(at, out.0) != Grip::Firm {
            return;
        }
        self.alarms.remove(&at);
        let key = format!("{}/{step}", self.index.plan().run);
        out.0.extend(self.leases(at));
        out.0.push(EventKind::AttemptStarted { step, attempt, key });
        out.1.push(Launch::Attempt(at, attempt));
    }

    /// Plans a task for a step unless it has one.
    pub(super) fn plan_once(&self, step: &StepId, launches: &mut Vec<Launch>, launch: impl Fn(usize) -> Launch) {
        let Some(at) = self.index.position(step) else { return };
        let launch = launch(at);
        if !self.flights.contains_key(&at) && !launches.contains(&launch) {
            launches.push(launch);
        }
    }

    fn wait_for(&mut self, step: &StepId, until: crate::base::Timestamp) {
        let Some(at) = self.index.position(step) else { return };
        if self.alarms.get(&at).is_none_or(|(known, _)| *known != until) {
            let delay = crate::base::clock::between(self.now(), until);
            self.alarms.insert(at, (until, self.clock.monotonic() + delay));
        }
    }

    fn cancel(&mut self, step: &StepId, level: CancelLevel, out: (&mut Vec<EventKind>, &mut Vec<Launch>)) {
        let Some(at) = self.index.position(step) else { return };
        let Some(state) = self.state.steps.get(step) else { return };
        let (status, attempt) = (state.status, state.last_attempt());
        if let (StepStatus::Running, Some(why)) = (status, &state.asks) {
            out.0.push(left_unknown(step, state, why));
        } else if let Some(error) = state.error.clone().filter(|error| error.class == ErrorClass::Unknown) {
            // A step that was held, and perhaps released since, may have taken effect, which a cancel does not undo.
            out.0.push(EventKind::StepUnknown { step: step.clone(), attempt, error });
        } else if status == StepStatus::Running {
            let known = self.flights.get(&at).and_then(|flight| flight.told);
            let launch = Launch::Tell(at, level);
            if known.is_none_or(|known| known < level) && !out.1.contains(&launch) {
                out.1.push(launch);
            }
        } else {
            self.call_off_check(step);
            self.alarms.remove(&at);
            out.0.push(EventKind::StepCancelled { step: step.clone(), attempt, confirmed: true });
        }
    }

    /// A check that is no longer wanted; it changes nothing, so it is just dropped.
    pub(super) fn call_off_check(&mut self, step: &StepId) {
        let Some(at) = self.index.position(step) else { return };
        if self.flights.get(&at).is_some_and(|flight| flight.work == Work::Check) {
            self.tasks.abort(at);
            self.flights.remove(&at);
        }
    }

    /// Plans the removal of one registered resource; true when none is left to try.
    fn clean_up(&mut self, launches: &mut Vec<Launch>) -> bool {
        if self.removing.is_some() {
            return false;
        }
        let left = self.state.resources.iter().filter(|(resource, _)| !self.removals.contains(*resource));
        match left.max_by_key(|(_, known)| known.registered_seq) {
            Some((resource, _)) => {
                let resource = resource.clone();
                self.removing = Some(resource.clone());
                launches.push(Launch::Remove(resource));
                false
            }
            None => true,
        }
    }
}

/// A cancel does not tell what became of an interrupted attempt.
fn left_unknown(step: &StepId, state: &StepState, why: &str) -> EventKind {
    let message = format!("cancelled before it was known whether it happened: {why}");
    EventKind::StepUnknown {
        step: step.clone(),
        attempt: state.last_attempt(),
        error: ErrorInfo::new(ErrorClass::Unknown, message),
    }
}

/// The arguments of a step that was resolved.
pub(super) fn arguments(state: &StepState) -> Value {
    state.with.clone().unwrap_or(Value::Null)
}
