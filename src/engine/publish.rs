//! Durable events go to every sink in order, once; a sink that fails is detached.

use crate::base::Timestamp;
use crate::event::{Event, ProgressUpdate};
use crate::port::Sink;

/// The sinks of a run and the events they have not seen.
pub(super) struct Publisher {
    sinks: Vec<Box<dyn Sink>>,
    waiting: Vec<Event>,
}

impl Publisher {
    pub(super) fn new(sinks: Vec<Box<dyn Sink>>) -> Self {
        Self { sinks, waiting: Vec::new() }
    }

    /// Keeps events until they are durable.
    pub(super) fn hold(&mut self, event: Event) {
        self.waiting.push(event);
    }

    /// Whether events wait for durability.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Shows what became durable.
    pub(super) fn publish(&mut self) {
        for event in self.waiting.drain(..) {
            self.sinks.retain_mut(|sink| match sink.event(&event) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(%error, "a reporter failed and is detached");
                    false
                }
            });
        }
    }

    pub(super) fn progress(&mut self, update: &ProgressUpdate) {
        self.sinks.iter_mut().for_each(|sink| sink.progress(update));
    }

    pub(super) fn tick(&mut self, now: Timestamp) {
        self.sinks.iter_mut().for_each(|sink| sink.tick(now));
    }

    /// Detaches what writes to a terminal that is gone.
    pub(super) fn detach_terminal(&mut self) {
        self.sinks.retain(|sink| !sink.needs_terminal());
    }

    pub(super) fn close(&mut self) {
        self.sinks.iter_mut().for_each(|sink| sink.close());
    }
}
