//! Lines for what is not a terminal: a log file, a pipe, `NO_COLOR`.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use super::Palette;
use super::line::lines;
use super::phrase::offset;
use super::progress::Tracker;
use crate::base::clock::after;
use crate::base::{Attempt, StepId, Timestamp};
use crate::event::{Event, EventKind, ProgressUpdate};
use crate::plan::BoundPlan;
use crate::port::{Sink, SinkError};
use crate::state::{RunState, StepStatus, subject};

/// A running step is spoken of this often.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// In a plan of more steps than this, starts and successes are counted instead of told.
pub(super) const MANY_STEPS: usize = 200;
/// Of the instances of a fan-out of more, too.
const MANY_INSTANCES: usize = 20;

/// Whether a step is an instance of a fan-out so large that its starts and successes are not told one by one.
pub(super) fn is_one_of_many(state: &RunState, step: &StepId) -> bool {
    let fan_out = step.undone().unwrap_or_else(|| step.clone()).of_instance();
    let fan_out = fan_out.and_then(|fan_out| state.steps.get(&fan_out));
    fan_out.is_some_and(|fan_out| fan_out.instances.len() > MANY_INSTANCES)
}

/// Writes one line per event that matters, with the time since the start, and a heartbeat per long step.
pub struct PlainLines<W> {
    out: W,
    palette: Palette,
    plan: Arc<BoundPlan>,
    started_at: Timestamp,
    state: RunState,
    done: usize,
    told: usize,
    tracker: Tracker,
    spoken: BTreeMap<StepId, Timestamp>,
    now: Timestamp,
}

impl<W: Write + Send> PlainLines<W> {
    /// Writes to `out`. `state` is what earlier events came to; empty for a new run.
    #[must_use]
    pub fn new(out: W, plan: Arc<BoundPlan>, state: RunState, palette: Palette) -> Self {
        let started_at = state.started_at.unwrap_or(plan.started_at);
        let done = state.steps.values().filter(|step| step.status == StepStatus::Succeeded).count();
        let tracker = Tracker::default();
        let (spoken, now) = (BTreeMap::new(), started_at);
        Self { out, palette, plan, started_at, state, done, told: done, tracker, spoken, now }
    }

    fn line(&mut self, text: &str) -> std::io::Result<()> {
        // One write per line: standard error is not buffered.
        self.out.write_all(format!("{text}\n").as_bytes())?;
        self.out.flush()
    }

    fn count(&mut self, at: Timestamp) -> std::io::Result<()> {
        self.done += 1;
        let instances: usize = self.state.steps.values().map(|known| known.instances.len()).sum();
        let all = self.plan.steps.len() + instances;
        if self.done < all && self.done - self.told < all.div_ceil(20) {
            return Ok(());
        }
        self.told = self.done;
        let line = format!("{}  {} of {all} steps done", offset(self.started_at, at), self.done);
        self.line(&line)
    }
}

impl<W: Write + Send> Sink for PlainLines<W> {
    fn event(&mut self, event: &Event) -> Result<(), SinkError> {
        self.state.apply(event).map_err(std::io::Error::other)?;
        self.now = self.now.max(event.at);
        let many = self.plan.steps.len() > MANY_STEPS
            || subject(&event.kind).is_some_and(|step| is_one_of_many(&self.state, step));
        match &event.kind {
            EventKind::RunStarted(_) => self.started_at = event.at,
            EventKind::AttemptStarted { step, .. } => {
                self.spoken.insert(step.clone(), event.at);
            }
            EventKind::StepSucceeded { step, .. } => {
                self.tracker.forget(step);
                if many {
                    return Ok(self.count(event.at)?);
                }
            }
            EventKind::StepFailed { step, .. }
            | EventKind::StepUnknown { step, .. }
            | EventKind::StepCancelled { step, .. } => self.tracker.forget(step),
            EventKind::RunResumed { .. }
            | EventKind::TailCut { .. }
            | EventKind::StepResolved { .. }
            | EventKind::StepChecked { .. }
            | EventKind::AttemptFailed { .. }
            | EventKind::AttemptAdopted { .. }
            | EventKind::AttemptRecovered { .. }
            | EventKind::StepSkipped { .. }
            | EventKind::StepStalled { .. }
            | EventKind::StepNoted { .. }
            | EventKind::ResourceRegistered { .. }
            | EventKind::ResourceRemoved { .. }
            | EventKind::ObjectiveWarning { .. }
            | EventKind::GroupOpened { .. }
            | EventKind::StepSeeded { .. }
            | EventKind::StepHeld { .. }
            | EventKind::StepReleased { .. }
            | EventKind::StepAsked { .. }
            | EventKind::StepAnswered { .. }
            | EventKind::StepExpired { .. }
            | EventKind::LockAwaited { .. }
            | EventKind::LockTaken { .. }
            | EventKind::OperatorActed { .. }
            | EventKind::OperatorRefused { .. }
            | EventKind::PlanAmended { .. }
            | EventKind::CancelRequested { .. }
            | EventKind::RunSuspended { .. }
            | EventKind::RunFinished { .. }
            | EventKind::Unknown => {}
        }
        if many && matches!(event.kind, EventKind::AttemptStarted { attempt: Attempt(1), .. }) {
            return Ok(());
        }
        for line in lines(&self.plan, event, self.palette) {
            let line = format!("{}  {line}", offset(self.started_at, event.at));
            self.line(&line)?;
        }
        Ok(())
    }

    fn progress(&mut self, update: &ProgressUpdate) {
        self.tracker.update(update, self.now);
    }

    fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        let running =
            |step: &StepId| self.state.steps.get(step).is_some_and(|known| known.status == StepStatus::Running);
        let due: Vec<StepId> = self
            .spoken
            .iter()
            .filter(|(step, spoken)| running(step) && now >= after(**spoken, HEARTBEAT))
            .map(|(step, _)| step.clone())
            .collect();
        for step in due {
            self.spoken.insert(step.clone(), now);
            let track = self.tracker.of(&step);
            let amount = track.and_then(|track| track.amount(now)).map(|amount| format!(" {amount}"));
            let words = track.map(|track| &track.words).filter(|words| !words.is_empty());
            let words = words.map(|words| format!(": {words}")).unwrap_or_default();
            let at = offset(self.started_at, now);
            // A reader that is gone is found by the next event.
            drop(self.line(&format!("{at}  … {step}{}{words}", amount.unwrap_or_default())));
        }
    }
}
