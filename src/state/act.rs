//! What people and other runs did to a run, kept in the fold for reports. No decision reads it.

use schemars::JsonSchema;
use serde::Serialize;

use super::RunState;
use crate::base::{Digest, StepId, Timestamp};
use crate::event::{Actor, Event, EventKind, OperatorVerb};

/// Everything that was done to a run from outside, in order.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Acts {
    /// What operators asked for, done and refused.
    pub operators: Vec<OperatorAct>,
    /// Engines that took the run over.
    pub takeovers: Vec<(Timestamp, Actor)>,
    /// Plans that replaced the one before.
    pub amendments: Vec<Amendment>,
    /// Locks that were taken.
    pub locks: Vec<LockTake>,
    /// Locks that are waited for now.
    pub queue: Vec<LockWait>,
}

/// What an operator asked of a live run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct OperatorAct {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What.
    pub verb: OperatorVerb,
    /// Of which step; none when of the run.
    pub step: Option<StepId>,
    /// Why, in the operator's words.
    pub reason: String,
    /// Why it was refused; none when it was carried out.
    pub refused: Option<String>,
}

/// Another plan for the rest of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Amendment {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// SHA-256 of the new plan's file.
    pub plan: Digest,
    /// Its file in the run's folder.
    pub file: String,
    /// Steps that are new, gone or decided otherwise.
    pub changed: Vec<StepId>,
}

/// A lock that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LockTake {
    /// When.
    pub at: Timestamp,
    /// The lock.
    pub lock: String,
    /// The step that holds it; none when the run does.
    pub step: Option<StepId>,
    /// How long it was waited for, in milliseconds.
    pub waited_ms: u64,
    /// The dead run it was taken over from.
    pub over: Option<String>,
    /// The live run that was told to make room.
    pub preempted: Option<String>,
}

/// A lock that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LockWait {
    /// Since when.
    pub since: Timestamp,
    /// The lock.
    pub lock: String,
    /// The step that waits; none when the run does.
    pub step: Option<StepId>,
    /// The run that holds it.
    pub holder: String,
}

impl Acts {
    /// Keeps what an event says that was done from outside.
    pub(super) fn keep(&mut self, event: &Event) {
        let at = event.at;
        let act = |actor: &Actor, verb: &OperatorVerb, (step, reason): (&Option<StepId>, &str)| OperatorAct {
            at,
            actor: actor.clone(),
            verb: verb.clone(),
            step: step.clone(),
            reason: reason.to_owned(),
            refused: None,
        };
        if let EventKind::RunResumed { actor, .. } = &event.kind {
            self.takeovers.push((at, actor.clone()));
        } else if let EventKind::OperatorActed { actor, verb, step, reason, .. } = &event.kind {
            self.operators.push(act(actor, verb, (step, reason)));
        } else if let EventKind::OperatorRefused { actor, verb, step, why, .. } = &event.kind {
            self.operators.push(OperatorAct { refused: Some(why.clone()), ..act(actor, verb, (step, "")) });
        } else if let EventKind::CancelRequested { actor, reason, .. } = &event.kind {
            self.operators.push(act(actor, &OperatorVerb::Cancel, (&None, reason)));
        } else if let EventKind::PlanAmended { actor, plan, file, changed } = &event.kind {
            let (actor, file, changed) = (actor.clone(), file.clone(), changed.clone());
            self.amendments.push(Amendment { at, actor, plan: *plan, file, changed });
        } else if let EventKind::LockAwaited { step, lock, holder } = &event.kind {
            self.queue.retain(|wait| (&wait.step, &wait.lock) != (step, lock));
            self.queue.push(LockWait { since: at, lock: lock.clone(), step: step.clone(), holder: holder.clone() });
        } else if let EventKind::LockTaken { step, lock, over, preempted, waited_ms } = &event.kind {
            self.queue.retain(|wait| (&wait.step, &wait.lock) != (step, lock));
            self.locks.push(LockTake {
                at,
                lock: lock.clone(),
                step: step.clone(),
                waited_ms: *waited_ms,
                over: over.clone(),
                preempted: preempted.clone(),
            });
        }
    }
}

impl RunState {
    /// The locks that are waited for now: those of steps that ended, and of a run that did, are not any more.
    pub fn awaited_locks(&self) -> impl Iterator<Item = &LockWait> {
        let open = |wait: &&LockWait| wait.step.as_ref().is_none_or(|step| !self.status(step).is_terminal());
        self.acts.queue.iter().filter(open).filter(|_| self.finished.is_none())
    }
}
