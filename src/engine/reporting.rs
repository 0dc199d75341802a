//! What comes back from attempts while they run: facts that must not be lost, progress that may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::Capabilities;
use crate::action::{ActionError, BoxFuture, Reporter};
use crate::base::{Attempt, StepId};
use crate::event::{Progress, ProgressUpdate};
use crate::port::Clock;

/// How many progress updates may wait; more are dropped.
const PROGRESS_WAITING: usize = 256;

/// A fact on its way into the journal.
pub(super) enum Fact {
    Note { step: StepId, message: String, data: Value },
    Register { step: StepId, resource: String, data: Value, synced: oneshot::Sender<()> },
    Removed { resource: String },
}

/// The sending ends, given to every attempt.
#[derive(Clone)]
pub(super) struct Wires {
    facts: mpsc::UnboundedSender<Fact>,
    progress: mpsc::Sender<ProgressUpdate>,
}

/// The receiving ends, held by the loop.
pub(super) struct Inbox {
    /// Not bounded: a fact must neither block an action nor be lost, and actions report few.
    pub(super) facts: mpsc::UnboundedReceiver<Fact>,
    /// Bounded and lossy.
    pub(super) progress: mpsc::Receiver<ProgressUpdate>,
}

pub(super) fn wires() -> (Wires, Inbox) {
    let (facts, facts_in) = mpsc::unbounded_channel();
    let (progress, progress_in) = mpsc::channel(PROGRESS_WAITING);
    (Wires { facts, progress }, Inbox { facts: facts_in, progress: progress_in })
}

/// When an attempt was last heard of, as milliseconds since it began.
#[derive(Clone)]
pub(super) struct Pulse {
    began: Instant,
    clock: Arc<dyn Clock>,
    last_ms: Arc<AtomicU64>,
}

impl Pulse {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { began: clock.monotonic(), clock, last_ms: Arc::default() }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.clock.monotonic().saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    fn beat(&self) {
        self.last_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// When it was last heard of, and how long ago that is.
    pub(super) fn silence(&self) -> (u64, u64) {
        let last = self.last_ms.load(Ordering::Relaxed);
        (last, self.elapsed_ms().saturating_sub(last))
    }
}

/// The reporter of one attempt.
pub(super) struct AttemptReporter {
    pub(super) step: StepId,
    pub(super) attempt: Attempt,
    pub(super) wires: Wires,
    pub(super) pulse: Pulse,
    pub(super) capabilities: Arc<dyn Capabilities>,
}

impl Reporter for AttemptReporter {
    fn progress(&self, progress: Progress) {
        self.pulse.beat();
        let progress = match progress {
            Progress::Output { line, stderr } => {
                Progress::Output { line: self.capabilities.redact(&line).into_owned(), stderr }
            }
            Progress::Doing { text } => Progress::Doing { text: self.capabilities.redact(&text).into_owned() },
            units @ Progress::Units { .. } => units,
        };
        let update = ProgressUpdate { step: self.step.clone(), attempt: self.attempt, progress };
        // Lossy by contract: a full channel drops the update.
        let _dropped = self.wires.progress.try_send(update);
    }

    fn note(&self, message: String, data: Value) {
        self.pulse.beat();
        // Fails only when the loop is gone, and then nothing is written any more.
        let _gone = self.wires.facts.send(Fact::Note { step: self.step.clone(), message, data });
    }

    fn register(&self, resource: String, data: Value) -> BoxFuture<'_, Result<(), ActionError>> {
        let (synced, wait) = oneshot::channel();
        let sent = self.wires.facts.send(Fact::Register { step: self.step.clone(), resource, data, synced });
        Box::pin(async move {
            let gone = || ActionError::cancelled("the engine is gone, so nothing can be registered");
            sent.map_err(|_| gone())?;
            wait.await.map_err(|_| gone())
        })
    }

    fn removed(&self, resource: String) {
        let _gone = self.wires.facts.send(Fact::Removed { resource });
    }
}
