//! Asks at the terminal of a live run, while the run goes on.
//!
//! [`Attended`] stands before the view and tells an [`attendant`](Attendant) on a thread of its own what is asked and
//! what was answered elsewhere; what is typed becomes a request like any other. The engine never waits for it.

mod attendant;
mod keyboard;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::mpsc::{SendError, Sender, channel};

use tokio::sync::mpsc;

use super::screen::{self, Face};
use super::wiring;
use crate::base::{StepId, Timestamp};
use crate::event::{Event, EventKind, HumanAnswer, ProgressUpdate, Question};
use crate::plan::BoundPlan;
use crate::port::{ControlRequest, Sink, SinkError};
use crate::report::terminal::Stage;
use crate::state::{RunState, StepStatus};

use attendant::Attendant;

/// More answers than this are never under way at once.
const ANSWERS: usize = 4;

/// What the attendant has to know.
#[derive(Debug)]
enum Notice {
    /// A step asks.
    Asked(StepId, Box<Question>),
    /// Somebody answered, here or elsewhere.
    Answered(StepId, Box<HumanAnswer>),
    /// A request was refused.
    Refused(String),
    /// The step asks no more.
    Settled(StepId),
}

/// The view of a run, and beside it somebody who is asked.
pub struct Attended {
    view: Box<dyn Sink>,
    stage: Stage,
    notices: Sender<Notice>,
    asking: Vec<StepId>,
}

/// The sinks of a run and, where a person sits at its terminal, what is answered there.
pub fn attended(
    face: Face,
    plan: &Arc<BoundPlan>,
    state: RunState,
) -> (Vec<Box<dyn Sink>>, Option<mpsc::Receiver<ControlRequest>>) {
    let is_there = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if face == Face::Json || !is_there {
        return (screen::sinks(face, plan, state), None);
    }
    let (stage, (notices, heard), (answers, answered)) = (Stage::default(), channel(), mpsc::channel(ANSWERS));
    let open: Vec<StepId> =
        state.steps.iter().filter(|(_, known)| known.status == StepStatus::Asking).map(|(id, _)| id.clone()).collect();
    for step in &open {
        if let Some(question) = state.steps.get(step).and_then(|known| known.question.clone()) {
            stage.take();
            let _ = notices.send(Notice::Asked(step.clone(), Box::new(question)));
        }
    }
    let attendant = Attendant::new(Arc::clone(plan), &state, stage.clone(), (heard, answers));
    let started = std::thread::Builder::new().name("prompt".to_owned()).spawn(move || attendant.attend());
    if let Err(error) = started {
        tracing::warn!(%error, "nobody can be asked at this terminal");
        return (screen::sinks(face, plan, state), None);
    }
    let view = screen::view(plan, state, &stage);
    (vec![Box::new(Attended { view, stage, notices, asking: open })], Some(answered))
}

impl Attended {
    fn notice(&mut self, event: &Event) -> Option<Notice> {
        if let EventKind::StepAsked { step, question } = &event.kind {
            self.asking.push(step.clone());
            return Some(Notice::Asked(step.clone(), question.clone()));
        }
        if let EventKind::StepAnswered { step, answer } = &event.kind {
            return Some(Notice::Answered(step.clone(), answer.clone()));
        }
        if let EventKind::OperatorRefused { request, .. } = &event.kind {
            return Some(Notice::Refused(request.clone()));
        }
        if let EventKind::StepSucceeded { step, .. }
        | EventKind::StepFailed { step, .. }
        | EventKind::StepHeld { step, .. }
        | EventKind::StepSkipped { step, .. }
        | EventKind::StepCancelled { step, .. } = &event.kind
        {
            let at = self.asking.iter().position(|asking| asking == step)?;
            return Some(Notice::Settled(self.asking.remove(at)));
        }
        None
    }
}

impl Sink for Attended {
    fn event(&mut self, event: &Event) -> Result<(), SinkError> {
        // The view leaves the terminal before the question is put there.
        if matches!(event.kind, EventKind::StepAsked { .. }) {
            self.stage.take();
        }
        self.view.event(event)?;
        if let Some(notice) = self.notice(event) {
            // Nobody listens when nothing more can be typed: the questions are answered elsewhere.
            if let Err(SendError(Notice::Asked(..))) = self.notices.send(notice) {
                self.stage.give_back();
            }
        }
        Ok(())
    }

    fn progress(&mut self, update: &ProgressUpdate) {
        self.view.progress(update);
    }

    fn tick(&mut self, now: Timestamp) {
        self.view.tick(now);
    }

    fn needs_terminal(&self) -> bool {
        true
    }

    fn close(&mut self) {
        self.stage.clear();
        self.view.close();
    }
}

/// The name under which answers are given here.
fn account() -> crate::event::Actor {
    wiring::actor()
}
