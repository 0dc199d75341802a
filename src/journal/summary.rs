//! One line per run for lists: a small fold of its events.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::run::RunDir;
use crate::base::mode::Mode;
use crate::base::{RunId, StepId, Timestamp, clock};
use crate::event::{Event, EventKind, OperatorVerb, Outcome, RunOrigin};
use crate::port::JournalError;

/// What a list of runs shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run.
    pub id: RunId,
    /// The runbook's name; empty when nothing could be read.
    pub name: String,
    /// Its mode.
    pub mode: Option<Mode>,
    /// The environment's name.
    pub environment: String,
    /// Who started it.
    pub actor: String,
    /// Where it stands.
    pub status: RunStatus,
    /// The run that it builds on, or undoes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<RunOrigin>,
    /// When the first event was written.
    pub started_at: Option<Timestamp>,
    /// When the last event was written.
    pub last_at: Option<Timestamp>,
    /// From the first to the last event, in milliseconds; by the monotonic clock once finished.
    pub elapsed_ms: u64,
    /// Number of steps that succeeded.
    pub succeeded: usize,
    /// Number of steps that failed or whose effect is unknown.
    pub failed: usize,
    /// Steps that ask a person, or wait for an operator.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub waiting: BTreeSet<StepId>,
    /// Who paused the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<String>,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum RunStatus {
    /// It was created and has no first event.
    NeverStarted,
    /// An engine drives it.
    Live,
    /// It waits for a person and nobody drives it.
    Suspended,
    /// Its engine ended before the run did.
    Interrupted,
    /// It is over.
    Finished {
        /// How it ended.
        outcome: Outcome,
        /// The code its process ended with.
        exit_code: u8,
    },
    /// Its files may not be read by who asks: nothing is known of it.
    Unread {
        /// What may not be read.
        what: String,
    },
    /// Its files do not hold together.
    Damaged {
        /// What is wrong.
        what: String,
    },
}

impl RunStatus {
    /// Where a run stands that cannot be read.
    pub(super) fn unknown(error: &JournalError) -> Self {
        let what = error.to_string();
        if error.is_denied() { Self::Unread { what } } else { Self::Damaged { what } }
    }
}

impl RunSummary {
    /// Sums up a run. Never fails: what cannot be read is a damaged run, or one of somebody else.
    #[must_use]
    pub fn of(dir: &RunDir) -> Self {
        let events = match dir.read() {
            Ok(history) => history.events,
            Err(error) => return Self::empty(dir.id(), RunStatus::unknown(&error)),
        };
        let mut summary = Self::settled(dir, &events);
        summary.look_whether_live(dir);
        summary
    }

    /// Folds the events read from a run's folder, without a look at the lock.
    pub(super) fn settled(dir: &RunDir, events: &[Event]) -> Self {
        let mut summary = Self::fold(dir.id(), events);
        if events.is_empty() {
            summary.name_from_plan(dir);
        }
        summary
    }

    /// A run that has not ended may be driven right now.
    pub(super) fn look_whether_live(&mut self, dir: &RunDir) {
        if matches!(self.status, RunStatus::Finished { .. } | RunStatus::Unread { .. } | RunStatus::Damaged { .. }) {
            return;
        }
        match dir.is_live() {
            Ok(true) => self.status = RunStatus::Live,
            Ok(false) => {}
            Err(error) => self.status = RunStatus::Damaged { what: error.to_string() },
        }
    }

    /// Folds events alone: without a look at the lock, an unfinished run counts as interrupted.
    #[must_use]
    pub fn fold(id: &RunId, events: &[Event]) -> Self {
        let mut summary = Self::empty(id, RunStatus::NeverStarted);
        let (mut succeeded, mut failed) = (BTreeSet::new(), BTreeSet::new());
        for event in events {
            summary.apply(event);
            summary.apply_to_people(event);
            if let EventKind::StepSucceeded { step, .. } = &event.kind {
                note(&mut succeeded, &mut failed, step);
            } else if let EventKind::StepFailed { step, .. } | EventKind::StepUnknown { step, .. } = &event.kind {
                note(&mut failed, &mut succeeded, step);
            }
        }
        (summary.succeeded, summary.failed) = (succeeded.len(), failed.len());
        summary
    }

    fn apply(&mut self, event: &Event) {
        let started = *self.started_at.get_or_insert(event.at);
        self.last_at = Some(event.at);
        self.elapsed_ms = millis(clock::between(started, event.at));
        self.status = RunStatus::Interrupted;
        if let EventKind::RunStarted(header) = &event.kind {
            self.name.clone_from(&header.name);
            self.mode = Some(header.mode);
            self.environment.clone_from(&header.environment);
            self.actor.clone_from(&header.actor.name);
            self.origin.clone_from(&header.origin);
        } else if let EventKind::RunSuspended { .. } = &event.kind {
            self.status = RunStatus::Suspended;
        } else if let EventKind::RunFinished { outcome, exit_code, figures } = &event.kind {
            self.elapsed_ms = figures.run_ms.max(self.elapsed_ms);
            self.status = RunStatus::Finished { outcome: *outcome, exit_code: *exit_code };
        }
    }

    /// Keeps what waits for people, and who paused the run.
    fn apply_to_people(&mut self, event: &Event) {
        if let EventKind::StepAsked { step, .. } | EventKind::StepHeld { step, .. } = &event.kind {
            self.waiting.insert(step.clone());
        } else if let EventKind::StepReleased { step }
        | EventKind::StepSucceeded { step, .. }
        | EventKind::StepFailed { step, .. }
        | EventKind::StepSkipped { step, .. }
        | EventKind::StepCancelled { step, .. } = &event.kind
        {
            self.waiting.remove(step);
        } else if let EventKind::OperatorActed { actor, verb: OperatorVerb::Pause, .. } = &event.kind {
            self.paused_by = Some(actor.name.clone());
        } else if let EventKind::OperatorActed { verb: OperatorVerb::Continue, .. } | EventKind::RunFinished { .. } =
            &event.kind
        {
            self.paused_by = None;
        }
    }

    pub(super) fn empty(id: &RunId, status: RunStatus) -> Self {
        Self {
            id: id.clone(),
            name: String::new(),
            mode: None,
            environment: String::new(),
            actor: String::new(),
            status,
            origin: None,
            started_at: None,
            last_at: None,
            elapsed_ms: 0,
            succeeded: 0,
            failed: 0,
            waiting: BTreeSet::new(),
            paused_by: None,
        }
    }

    /// A run whose engine died before its first event still has its plan.
    fn name_from_plan(&mut self, dir: &RunDir) {
        match dir.plan() {
            Ok((plan, _)) => {
                (self.name, self.mode, self.environment) = (plan.name, Some(plan.mode), plan.environment);
                self.actor = plan.actor.name;
            }
            Err(error) => self.status = RunStatus::unknown(&error),
        }
    }
}

fn note(to: &mut BTreeSet<StepId>, from: &mut BTreeSet<StepId>, step: &StepId) {
    from.remove(step);
    to.insert(step.clone());
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
