//! Draws the panel with indicatif and takes it away at the end.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::panel::{Screen, fit, panel};
use super::stage::Stage;
use crate::base::Timestamp;
use crate::base::clock::after;
use crate::event::{Event, EventKind, ProgressUpdate};
use crate::plan::BoundPlan;
use crate::port::{Sink, SinkError};
use crate::report::progress::Tracker;
use crate::report::{Palette, line, phrase, plain};
use crate::state::RunState;

/// Lines of the panel that are no steps and no phases, with some room for what scrolls.
const OTHER_LINES: usize = 8;
/// Used when the terminal does not tell its size.
const FALLBACK: (usize, usize) = (80, 24);

/// The panel is drawn at most this often because of events; ticks draw it anyway.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether the panel lists every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Every step has its line in the panel, which stays on the screen at the end.
    Checklist,
    /// There are more steps than lines: what ends scrolls by above the panel, which goes at the end.
    Scrolling,
    /// There are so many that successes are only counted.
    Counting,
}

impl Layout {
    fn of(plan: &BoundPlan, state: &RunState) -> Self {
        let instances: usize = state.steps.values().map(|known| known.instances.len()).sum();
        match plan.steps.len() + instances {
            count if count + plan.phases.len() + OTHER_LINES < size().1 => Self::Checklist,
            count if count <= plain::MANY_STEPS => Self::Scrolling,
            _ => Self::Counting,
        }
    }
}

/// The live view on standard error.
pub struct Live {
    bar: ProgressBar,
    layout: Layout,
    drawn_at: Timestamp,
    palette: Palette,
    plan: Arc<BoundPlan>,
    state: RunState,
    tracker: Tracker,
    now: Timestamp,
    stage: Stage,
}

impl Live {
    /// Draws on standard error. `state` is what earlier events came to; empty for a new run.
    #[must_use]
    pub fn new(plan: Arc<BoundPlan>, state: RunState, palette: Palette) -> Self {
        Self::on(ProgressDrawTarget::stderr_with_hz(10), plan, state, palette)
    }

    /// Leaves the terminal to a dialogue while that has the stage.
    #[must_use]
    pub fn sharing(self, stage: &Stage) -> Self {
        Self { stage: stage.clone(), ..self }
    }

    /// Draws nowhere.
    #[cfg(test)]
    pub(crate) fn hidden(plan: Arc<BoundPlan>, palette: Palette) -> Self {
        Self::on(ProgressDrawTarget::hidden(), plan, RunState::default(), palette)
    }

    fn on(target: ProgressDrawTarget, plan: Arc<BoundPlan>, state: RunState, palette: Palette) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        // The panel brings its own words; a template that cannot be read would leave the default one.
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        let now = state.last_at.unwrap_or(plan.started_at);
        let layout = Layout::of(&plan, &state);
        let (tracker, stage) = (Tracker::default(), Stage::default());
        Self { bar, layout, drawn_at: Timestamp::MIN, palette, plan, state, tracker, now, stage }
    }

    fn draw(&mut self) {
        match (self.stage.is_taken(), self.bar.is_finished()) {
            (true, true) => return,
            (true, false) => return self.bar.finish_and_clear(),
            (false, true) => self.bar.reset(),
            (false, false) => {}
        }
        self.drawn_at = self.now;
        let (columns, rows) = size();
        let screen = Screen { columns, rows, now: self.now };
        self.bar.set_message(panel(&self.plan, &self.state, &self.tracker, (screen, self.palette)).join("\n"));
        self.bar.tick();
    }
}

fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        Ok(_) | Err(_) => FALLBACK,
    }
}

impl Sink for Live {
    fn needs_terminal(&self) -> bool {
        true
    }

    fn event(&mut self, event: &Event) -> Result<(), SinkError> {
        self.state.apply(event).map_err(std::io::Error::other)?;
        self.now = self.now.max(event.at);
        let told = match &event.kind {
            EventKind::StepSucceeded { step, .. } => {
                self.tracker.forget(step);
                self.layout == Layout::Scrolling && !plain::is_one_of_many(&self.state, step)
            }
            EventKind::StepFailed { step, .. }
            | EventKind::StepUnknown { step, .. }
            | EventKind::StepCancelled { step, .. } => {
                self.tracker.forget(step);
                true
            }
            EventKind::GroupOpened { .. } => {
                self.layout = Layout::of(&self.plan, &self.state);
                self.layout != Layout::Checklist
            }
            // The panel shows both.
            EventKind::RunStarted(_) | EventKind::AttemptStarted { .. } => false,
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
            | EventKind::Unknown => true,
        };
        if self.stage.is_taken() {
            self.draw();
        }
        let started_at = self.state.started_at.unwrap_or(event.at);
        for line in line::lines(&self.plan, event, self.palette).iter().filter(|_| told) {
            let line = format!("{}  {line}", phrase::offset(started_at, event.at));
            self.bar.println(fit(&line, size().0));
        }
        if self.now >= after(self.drawn_at, PAUSE) {
            self.draw();
        }
        Ok(())
    }

    fn progress(&mut self, update: &ProgressUpdate) {
        self.tracker.update(update, self.now);
    }

    fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.draw();
    }

    fn close(&mut self) {
        match self.layout {
            Layout::Checklist => {
                self.draw();
                self.bar.abandon();
            }
            Layout::Scrolling | Layout::Counting => self.bar.finish_and_clear(),
        }
    }
}
