//! What tasks came to becomes events.

use std::time::Duration;

use serde_json::json;

use super::drive::Driver;
use super::execute::{AttemptEnd, HowEnded};
use super::flight::{Flight, Landed, Work};
use super::recover::Judgement;
use super::retry::{Next, Seed, Tried, judge};
use super::settle::Launch;
use super::start::{Answer, EngineError};
use super::tasks::TaskEnd;
use crate::action::{ActionError, EffectClass, Idempotency};
use crate::base::clock::between;
use crate::base::{Attempt, StepId};
use crate::event::{ErrorClass, ErrorInfo, EventKind, RecoverDecision, StepFinding};
use crate::state::StepState;

impl Driver {
    pub(super) fn land(&mut self, at: usize, end: TaskEnd<Landed>) -> Result<(), EngineError> {
        let landed = match end {
            TaskEnd::Done(landed) => landed,
            // Only checks are aborted, and their flight is called off before.
            TaskEnd::Aborted => return Ok(()),
            TaskEnd::Panicked(message) => match self.panicked(at, &message) {
                Some(landed) => landed,
                None => return Ok(()),
            },
        };
        if let Landed::Removed { resource, result } = landed {
            return self.removed(at, resource, result);
        }
        let Some(flight) = self.flights.remove(&at) else { return Ok(()) };
        let events = match landed {
            Landed::Checked(result) => self.checked(at, result),
            Landed::Attempted(end) => self.attempted(at, &flight, end),
            Landed::Judged(judgement) => return self.judged(at, judgement),
            Landed::Removed { .. } => Vec::new(),
        };
        self.record(events)
    }

    /// A panic is a bug of an action: what it did is not known.
    fn panicked(&mut self, at: usize, message: &str) -> Option<Landed> {
        let text = format!("the action panicked: {message}");
        let Some(flight) = self.flights.get(&at) else {
            let resource = self.removing.clone()?;
            return Some(Landed::Removed { resource, result: Err(ActionError::unknown(text)) });
        };
        Some(match flight.work {
            Work::Check => Landed::Checked(Err(ActionError::fatal(text))),
            Work::Recover(_) => Landed::Judged(Judgement::Ask { why: text }),
            Work::Attempt(_) => Landed::Attempted(AttemptEnd {
                result: Err(ActionError::unknown(text)),
                elapsed: Duration::from_millis(flight.pulse.silence().0),
                how: HowEnded::Returned,
            }),
        })
    }

    fn id(&self, at: usize) -> StepId {
        self.index.step(at).id.clone()
    }

    fn checked(&self, at: usize, result: Result<Vec<StepFinding>, ActionError>) -> Vec<EventKind> {
        let step = self.id(at);
        vec![match result {
            Ok(findings) => EventKind::StepChecked { step, findings },
            Err(error) => {
                let error = error.into_info();
                self.or_held(at, EventKind::StepFailed { step, attempt: Attempt(0), error, elapsed_ms: 0 })
            }
        }]
    }

    fn attempted(&self, at: usize, flight: &Flight, end: AttemptEnd) -> Vec<EventKind> {
        let Work::Attempt(attempt) = flight.work else { return Vec::new() };
        let (step, elapsed_ms) = (self.id(at), millis(end.elapsed));
        let error = match end.result {
            Ok(output) => return vec![EventKind::StepSucceeded { step, attempt, output, elapsed_ms }],
            Err(error) => error.into_info(),
        };
        if flight.told.is_none() {
            return vec![self.failed(at, (attempt, elapsed_ms), error)];
        }
        let confirmed = end.how == HowEnded::Returned;
        vec![match error.class {
            ErrorClass::Unknown => EventKind::StepUnknown { step, attempt, error },
            ErrorClass::Fatal => EventKind::StepFailed { step, attempt, error, elapsed_ms },
            ErrorClass::Cancelled | ErrorClass::Retryable | ErrorClass::Timeout => {
                EventKind::StepCancelled { step, attempt, confirmed }
            }
        }]
    }

    /// A failed attempt: another one, or the end of the step.
    fn failed(&self, at: usize, made: (Attempt, u64), error: ErrorInfo) -> EventKind {
        let (attempt, elapsed_ms) = made;
        let planned = self.index.step(at);
        let step = planned.id.clone();
        let seed = Seed { run: &self.index.plan().run, step: &step, attempt };
        match judge(planned.retry.as_ref(), &error, self.tried(at), seed) {
            Next::Again(delay) => {
                EventKind::AttemptFailed { retry_in_ms: millis(delay), step, attempt, error, elapsed_ms }
            }
            Next::Unknown if planned.effects.class > EffectClass::Read => {
                self.or_held(at, EventKind::StepUnknown { step, attempt, error })
            }
            Next::Unknown | Next::Fail => self.or_held(at, EventKind::StepFailed { step, attempt, error, elapsed_ms }),
        }
    }

    fn tried(&self, at: usize) -> Tried {
        let planned = self.index.step(at);
        let attempts = self.state.steps.get(&planned.id).map_or(&[][..], StepState::counted_attempts);
        let failures = attempts.iter().filter(|attempt| attempt.error.is_some()).count();
        let idempotent = self.registry.get(&planned.uses).map(|action| action.spec().idempotency);
        Tried {
            failures: u32::try_from(failures).unwrap_or(u32::MAX).saturating_add(1),
            elapsed: attempts.first().map_or(Duration::ZERO, |first| between(first.started_at, self.now())),
            idempotency: match idempotent {
                Some(known) if planned.effects.class > EffectClass::Read => known,
                Some(_) => Idempotency::Idempotent,
                None => Idempotency::NotIdempotent,
            },
        }
    }

    fn judged(&mut self, at: usize, judgement: Judgement) -> Result<(), EngineError> {
        let step = self.id(at);
        let Some(state) = self.state.steps.get(&step) else { return Ok(()) };
        let attempt = state.last_attempt();
        let elapsed_ms = state.attempts.last().map_or(0, |last| millis(between(last.started_at, self.now())));
        let recovered = |decision, why| EventKind::AttemptRecovered { step: step.clone(), attempt, decision, why };
        let answer = self.answers.remove(&step);
        let events = match (judgement, answer) {
            // A person's word outweighs a rule, never what the attempt itself left.
            (Judgement::Rerun { .. } | Judgement::Ask { .. }, Some(answer)) => self.answered(&step, answer),
            (Judgement::Unwatched { .. }, Some(done @ Answer::Done { .. })) => self.answered(&step, done),
            (Judgement::Rerun { why }, None) => vec![recovered(RecoverDecision::Rerun, why)],
            (Judgement::Ask { why }, None) => vec![recovered(RecoverDecision::Ask, why)],
            (Judgement::Unwatched { why }, Some(Answer::Rerun) | None) => {
                vec![recovered(RecoverDecision::Ask, format!("{why}; end it before another attempt is made"))]
            }
            (Judgement::Adopt { output, why }, _) => vec![
                recovered(RecoverDecision::Adopt { output: output.clone() }, why),
                EventKind::StepSucceeded { step: step.clone(), attempt, output, elapsed_ms },
            ],
            (Judgement::Failed { error }, _) if self.was_cancelled(at, &error) => {
                vec![EventKind::StepCancelled { step: step.clone(), attempt, confirmed: true }]
            }
            (Judgement::Failed { error }, _) => vec![self.failed(at, (attempt, elapsed_ms), error.into_info())],
            (Judgement::Reattach { cut }, _) => {
                self.queued.push(Launch::Reattach(at, cut));
                vec![EventKind::AttemptAdopted { step: step.clone(), attempt }]
            }
        };
        self.record(events)
    }

    /// Whether an attempt ended because of the cancel that an earlier engine had told it.
    fn was_cancelled(&self, at: usize, error: &ActionError) -> bool {
        self.picture().told_to_end(at).is_some() && error.info().class == ErrorClass::Cancelled
    }

    fn removed(&mut self, at: usize, resource: String, result: Result<(), ActionError>) -> Result<(), EngineError> {
        self.removing = None;
        self.removals.insert(resource.clone());
        if !self.state.resources.contains_key(&resource) {
            return Ok(());
        }
        let event = match result {
            Ok(()) => EventKind::ResourceRemoved { resource },
            Err(error) => EventKind::StepNoted {
                step: self.id(at),
                message: format!(
                    "`{resource}` could not be removed: {error}; `runbook reap {}` tries again",
                    self.index.plan().run
                ),
                data: json!({ "resource": resource, "error": error.info() }),
            },
        };
        self.record(vec![event])
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
