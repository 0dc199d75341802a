//! The locks of the whole run: nothing begins before all of them are held.

use super::drive::{Driver, Turn};
use super::start::EngineError;
use crate::event::{EventKind, SkipReason};
use crate::port::{Entered, Entrance, Entry};
use crate::state::{StepState, StepStatus};

impl Driver {
    /// Waits until the run holds its locks. Requests are heard meanwhile; a cancel ends a run that has not begun.
    pub(super) async fn enter(&mut self, mut entrance: Box<dyn Entrance>) -> Result<Turn, EngineError> {
        let mut told = None;
        while self.state.finished.is_none() {
            match entrance.enter()? {
                Entry::Inside(taken) => {
                    self.record(taken.into_iter().map(taken_event).collect())?;
                    return Ok(Turn::On);
                }
                Entry::Held { lock, holder } => {
                    let now = Some((lock.clone(), holder.clone()));
                    if told != now {
                        told = now;
                        self.record(vec![EventKind::LockAwaited { step: None, lock, holder }])?;
                    }
                }
            }
            if self.state.cancel.is_some() && self.is_untouched() {
                // What was never done needs no tidying up, and tidying up needs the locks.
                self.record(self.all_skipped())?;
                return Ok(Turn::On);
            }
            self.commit()?;
            let wake = self.next().await;
            if let Turn::Leave(left) = self.take(wake)? {
                return Ok(Turn::Leave(left));
            }
        }
        Ok(Turn::On)
    }

    /// Whether no step has begun in this run.
    fn is_untouched(&self) -> bool {
        let begun = |step: &StepState| step.status != StepStatus::Pending && !step.status.is_terminal();
        self.state.steps.values().all(|step| step.attempts.is_empty() && !begun(step))
    }

    fn all_skipped(&self) -> Vec<EventKind> {
        let pending = self.index.plan().steps.iter().filter(|step| self.state.status(&step.id) == StepStatus::Pending);
        pending.map(|step| EventKind::StepSkipped { step: step.id.clone(), why: SkipReason::Cancelled }).collect()
    }
}

fn taken_event(Entered { lock, over, preempted, waited_ms }: Entered) -> EventKind {
    EventKind::LockTaken { step: None, lock, over, preempted, waited_ms }
}
