//! The fold: one event changes the state, live and on resume by the same code.
//!
//! What may follow what is written once, in `transition`. An event that may not follow is
//! refused and leaves the state as it was.

use super::transition::StepMove;
use super::{AttemptState, Resource, RunState, StepEnd, StepState, StepStatus, UndoState, wait};
use crate::base::clock::after;
use crate::base::{Attempt, EventSeq, StepId, Timestamp};
use crate::event::{ErrorInfo, Event, EventKind, OperatorVerb, RecoverDecision};

/// An event that cannot follow the ones before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalEvent {
    /// The number leaves a gap or repeats one.
    #[error("event {found:?} cannot follow event {last:?}")]
    Sequence {
        /// The last event applied.
        last: EventSeq,
        /// The number found.
        found: EventSeq,
    },
    /// The first event is not `run_started`, or another one is.
    #[error("`run_started` must be the first event and only the first")]
    Start,
    /// The run has ended already.
    #[error("nothing can follow `run_finished`")]
    Finished,
    /// The step is not where the event needs it.
    #[error("step `{step}` is {from:?} and cannot take `{what}`")]
    Step {
        /// The step.
        step: StepId,
        /// Where it stands.
        from: StepStatus,
        /// The event.
        what: &'static str,
    },
}

impl RunState {
    /// Folds events from the first on.
    ///
    /// # Errors
    /// Fails at the first event that cannot follow the ones before it.
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Self, IllegalEvent> {
        let mut state = Self::default();
        for event in events {
            state.apply(event)?;
        }
        Ok(state)
    }

    /// Takes one event.
    ///
    /// # Errors
    /// Fails when the event cannot follow the ones before it; the state is unchanged then.
    pub fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        if event.seq != self.last_seq.next() {
            return Err(IllegalEvent::Sequence { last: self.last_seq, found: event.seq });
        }
        if self.finished.is_some() {
            return Err(IllegalEvent::Finished);
        }
        if self.header.is_none() != matches!(event.kind, EventKind::RunStarted(_)) {
            return Err(IllegalEvent::Start);
        }
        if !self.apply_to_step(event)? {
            self.apply_to_run(event);
        }
        self.acts.keep(event);
        self.last_at = Some(event.at);
        self.last_seq = event.seq;
        self.last_hash = Some(event.hash);
        Ok(())
    }

    /// Gives a step's state; a step that nothing happened to is pending.
    #[must_use]
    pub fn status(&self, step: &StepId) -> StepStatus {
        self.steps.get(step).map_or(StepStatus::Pending, |step| step.status)
    }

    fn apply_to_run(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RunStarted(header) => {
                self.header = Some((**header).clone());
                self.started_at = Some(event.at);
            }
            EventKind::RunResumed { .. } => self.resume(event.at),
            EventKind::ResourceRegistered { .. } => {
                let registered = Resource::registered(event).map(|(key, known)| (key.to_owned(), known));
                self.resources.extend(registered);
            }
            EventKind::ResourceRemoved { resource } => {
                self.resources.remove(resource);
            }
            EventKind::ObjectiveWarning { percent, .. } => self.warned_percent = self.warned_percent.max(*percent),
            EventKind::CancelRequested { actor, level, reason } => {
                if self.cancel.as_ref().is_none_or(|(known, ..)| known < level) {
                    self.cancel = Some((*level, actor.clone(), reason.clone()));
                }
                // Whoever ends a run wants it to come to its end, `finally` included.
                self.go_on(event.at);
            }
            EventKind::RunSuspended { waiting } => self.suspended.clone_from(waiting),
            EventKind::OperatorActed { request, actor, verb, step, reason } => {
                self.requests.insert(request.clone());
                match verb {
                    OperatorVerb::Pause => {
                        self.paused = Some((actor.clone(), reason.clone()));
                        wait::begin(&mut self.pauses, event.at);
                    }
                    OperatorVerb::Continue => self.go_on(event.at),
                    OperatorVerb::Retry | OperatorVerb::Skip | OperatorVerb::MarkDone { .. } => {
                        self.orders.extend(step.clone().map(|step| (step, verb.clone())));
                    }
                    OperatorVerb::Answer | OperatorVerb::Cancel => {}
                }
            }
            EventKind::OperatorRefused { request, .. } => {
                self.requests.insert(request.clone());
            }
            EventKind::LockTaken { step, waited_ms, .. } => self.keep_lock(step.as_ref(), event.at, *waited_ms),
            EventKind::RunFinished { outcome, exit_code, figures } => {
                self.finished = Some((*outcome, *exit_code, (**figures).clone()));
            }
            EventKind::TailCut { .. }
            | EventKind::LockAwaited { .. }
            | EventKind::PlanAmended { .. }
            | EventKind::Unknown => {}
            EventKind::StepResolved { .. }
            | EventKind::StepChecked { .. }
            | EventKind::AttemptStarted { .. }
            | EventKind::AttemptFailed { .. }
            | EventKind::AttemptAdopted { .. }
            | EventKind::AttemptRecovered { .. }
            | EventKind::StepSucceeded { .. }
            | EventKind::StepFailed { .. }
            | EventKind::StepUnknown { .. }
            | EventKind::StepSkipped { .. }
            | EventKind::StepCancelled { .. }
            | EventKind::StepStalled { .. }
            | EventKind::GroupOpened { .. }
            | EventKind::StepSeeded { .. }
            | EventKind::StepHeld { .. }
            | EventKind::StepReleased { .. }
            | EventKind::StepAsked { .. }
            | EventKind::StepAnswered { .. }
            | EventKind::StepExpired { .. }
            | EventKind::StepNoted { .. } => {}
        }
    }

    /// The run is paused no longer.
    fn go_on(&mut self, at: Timestamp) {
        self.paused = None;
        wait::end(&mut self.pauses, at);
    }

    /// Another engine took over: what ran has to be judged, what was checked is checked again.
    fn resume(&mut self, at: Timestamp) {
        self.resumes += 1;
        self.suspended.clear();
        for step in self.steps.values_mut() {
            match step.status {
                StepStatus::Running => {
                    step.interrupted = true;
                    step.asks = None;
                    wait::end(&mut step.person_waits, at);
                }
                StepStatus::Checked => step.status = StepStatus::Resolved,
                StepStatus::Pending
                | StepStatus::Resolved
                | StepStatus::Waiting
                | StepStatus::Open
                | StepStatus::Asking
                | StepStatus::Held
                | StepStatus::Succeeded
                | StepStatus::Failed
                | StepStatus::Skipped
                | StepStatus::Cancelled
                | StepStatus::Unknown => {}
            }
        }
    }

    fn keep_lock(&mut self, step: Option<&StepId>, at: Timestamp, waited_ms: u64) {
        let Some(stretch) = wait::before(at, waited_ms) else { return };
        match step {
            Some(step) => {
                let step = self.steps.entry(step.clone()).or_default();
                step.lock_ms += waited_ms;
                step.lock_waits.push(stretch);
            }
            None => self.lock_waits.push(stretch),
        }
    }

    /// The end of an undo is told of the step it reverses, too.
    fn mark_undone(&mut self, undo: &StepId) {
        let undone = match self.status(undo).end() {
            Some(StepEnd::Succeeded) => UndoState::Undone,
            Some(StepEnd::Failed | StepEnd::Unknown | StepEnd::Cancelled) => UndoState::UndoFailed,
            None | Some(StepEnd::Skipped) => return,
        };
        if let Some(step) = undo.undone().and_then(|of| self.steps.get_mut(&of)) {
            step.undo = Some(undone);
        }
    }

    /// Applies an event that belongs to a step; tells whether it was one.
    fn apply_to_step(&mut self, event: &Event) -> Result<bool, IllegalEvent> {
        let Some(move_) = StepMove::of(&event.kind) else { return Ok(false) };
        let status = self.status(move_.step);
        if !move_.from.contains(&status) {
            return Err(IllegalEvent::Step { step: move_.step.clone(), from: status, what: move_.what });
        }
        let step = self.steps.entry(move_.step.clone()).or_default();
        step.started_at.get_or_insert(event.at);
        if let Some(to) = move_.to {
            step.enter(to, event.at);
        }
        step.keep(event);
        wait::keep(step, event.at);
        if is_carried_out(&event.kind) {
            self.orders.remove(move_.step);
        }
        if step.status.is_terminal() && step.ended_seq == EventSeq::default() {
            step.ended_seq = event.seq;
        }
        if let EventKind::StepAnswered { answer, .. } = &event.kind {
            self.requests.insert(answer.request.clone());
        }
        self.mark_undone(move_.step);
        Ok(true)
    }
}

/// Whether what an operator asked of the step is settled by this: nothing but what leaves it as it was does not.
fn is_carried_out(kind: &EventKind) -> bool {
    !matches!(
        kind,
        EventKind::StepNoted { .. }
            | EventKind::StepStalled { .. }
            | EventKind::StepAnswered { .. }
            | EventKind::StepExpired { .. }
    )
}

impl StepState {
    /// The number of the latest attempt; 0 when none was made.
    #[must_use]
    pub fn last_attempt(&self) -> Attempt {
        self.attempts.last().map_or(Attempt(0), |attempt| attempt.number)
    }

    /// The attempts since an operator released the step last, or all.
    #[must_use]
    pub fn counted_attempts(&self) -> &[AttemptState] {
        let first = self.attempts.iter().position(|attempt| attempt.number > self.released_after);
        first.map_or(&[], |first| &self.attempts[first..])
    }

    fn enter(&mut self, to: StepStatus, at: Timestamp) {
        self.status = to;
        self.interrupted = false;
        self.asks = None;
        self.retry_at = None;
        if to.is_terminal() {
            self.ended_at = Some(at);
        }
    }

    fn end_attempt(&mut self, at: Timestamp, elapsed_ms: Option<u64>, error: Option<&ErrorInfo>) {
        if let Some(attempt) = self.attempts.last_mut().filter(|attempt| attempt.ended_at.is_none()) {
            attempt.ended_at = Some(at);
            attempt.elapsed_ms = elapsed_ms;
            attempt.error = error.cloned();
        }
    }

    /// Keeps what the event says beyond the transition.
    fn keep(&mut self, event: &Event) {
        let at = event.at;
        match &event.kind {
            EventKind::StepResolved { with, secrets, preconditions, .. } => {
                self.with = Some(with.clone());
                self.secrets.clone_from(secrets);
                self.preconditions.clone_from(preconditions);
                self.error = None;
            }
            EventKind::StepChecked { findings, .. } => self.findings.clone_from(findings),
            EventKind::AttemptStarted { attempt, key, .. } => {
                // Why it was held is what became of the attempt before.
                self.error = None;
                self.attempts.push(AttemptState {
                    number: *attempt,
                    key: key.clone(),
                    started_at: at,
                    ended_at: None,
                    elapsed_ms: None,
                    error: None,
                    adopted: false,
                });
            }
            EventKind::AttemptFailed { error, elapsed_ms, retry_in_ms, .. } => {
                self.end_attempt(at, Some(*elapsed_ms), Some(error));
                self.retry_at = Some(after(at, std::time::Duration::from_millis(*retry_in_ms)));
            }
            EventKind::AttemptAdopted { .. } => {
                self.interrupted = false;
                if let Some(attempt) = self.attempts.last_mut() {
                    attempt.adopted = true;
                }
            }
            EventKind::AttemptRecovered { decision, why, .. } => self.keep_recovery(decision, why, at),
            EventKind::StepSucceeded { attempt, output, elapsed_ms, .. } => {
                self.end_attempt(at, Some(*elapsed_ms), None);
                self.marked_done = attempt.0 == 0;
                self.output = Some(output.clone());
                self.error = None;
            }
            EventKind::StepFailed { error, elapsed_ms, .. } => {
                self.end_attempt(at, Some(*elapsed_ms), Some(error));
                self.error = Some(error.clone());
            }
            EventKind::StepUnknown { error, .. } => {
                self.end_attempt(at, None, Some(error));
                self.error = Some(error.clone());
            }
            EventKind::StepCancelled { .. } => self.end_attempt(at, None, None),
            EventKind::StepSkipped { why, .. } => self.skipped = Some(why.clone()),
            EventKind::GroupOpened { instances, .. } => self.instances.clone_from(instances),
            EventKind::StepSeeded { of, end, output, .. } => {
                self.seeded_from = Some(of.clone());
                self.seeded_end = Some(*end);
                self.output = Some(output.clone()).filter(|output| !output.is_null());
            }
            EventKind::StepHeld { error, elapsed_ms, .. } => {
                self.end_attempt(at, Some(*elapsed_ms), Some(error));
                self.error = Some(error.clone());
                self.released_after = self.last_attempt();
            }
            EventKind::StepReleased { .. } => self.retry_at = Some(at),
            EventKind::StepAsked { question, .. } => {
                self.question = Some((**question).clone());
                self.asked_at = Some(at);
                self.answers.clear();
                self.expired = false;
            }
            EventKind::StepAnswered { answer, .. } => self.answers.push((at, (**answer).clone())),
            EventKind::StepExpired { .. } => self.expired = true,
            EventKind::StepNoted { message, data, .. } => self.notes.push((at, message.clone(), data.clone())),
            EventKind::StepStalled { .. }
            | EventKind::RunStarted(_)
            | EventKind::RunResumed { .. }
            | EventKind::TailCut { .. }
            | EventKind::ResourceRegistered { .. }
            | EventKind::ResourceRemoved { .. }
            | EventKind::ObjectiveWarning { .. }
            | EventKind::CancelRequested { .. }
            | EventKind::LockAwaited { .. }
            | EventKind::LockTaken { .. }
            | EventKind::OperatorActed { .. }
            | EventKind::OperatorRefused { .. }
            | EventKind::PlanAmended { .. }
            | EventKind::RunSuspended { .. }
            | EventKind::RunFinished { .. }
            | EventKind::Unknown => {}
        }
    }

    fn keep_recovery(&mut self, decision: &RecoverDecision, why: &str, at: Timestamp) {
        match decision {
            RecoverDecision::Rerun => {
                self.end_attempt(at, None, None);
                self.retry_at = Some(at);
            }
            RecoverDecision::Adopt { .. } => {
                if let Some(attempt) = self.attempts.last_mut() {
                    attempt.adopted = true;
                }
            }
            RecoverDecision::Ask => {
                self.interrupted = false;
                self.asks = Some(why.to_owned());
            }
        }
    }
}
