//! Asks at the terminal of a live run, while the run goes on.
//!
//! [`Attended`] stands before the view and tells an [`attendant`](Attendant) on a thread of its own what is asked and
//! what was answered elsewhere; what is typed becomes a request like any other. The engine never waits for it.

mod attendant;
mod keyboard;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SendError, Sender, channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::screen::{self, Face};
use super::wiring;
use crate::base::{StepId, Timestamp};
use crate::event::{Event, EventKind, HumanAnswer, ProgressUpdate, Question};
use crate::plan::BoundPlan;
use crate::port::{ControlRequest, Sink, SinkError};
use crate::report::speaks;
use crate::report::terminal::Stage;
use crate::state::RunState;

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
    /// Lines were written where something was being typed.
    Interrupted,
}

/// Whether the terminal's cursor stands behind a prompt.
#[derive(Debug, Clone, Default)]
struct Cursor(Arc<AtomicBool>);

impl Cursor {
    /// A prompt was written.
    fn waits(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Takes the cursor to a new line; tells whether it stood behind a prompt.
    fn leave(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

/// The view of a run, and beside it somebody who is asked.
pub struct Attended {
    plan: Arc<BoundPlan>,
    view: Box<dyn Sink>,
    stage: Stage,
    /// Gone when the run has no more to say.
    notices: Option<Sender<Notice>>,
    attendant: Option<JoinHandle<()>>,
    asking: Vec<StepId>,
    cursor: Cursor,
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
    let attendant = Attendant::new(Arc::clone(plan), &state, stage.clone(), (heard, answers));
    let (open, cursor) = (attendant.open(), attendant.cursor());
    open.iter().for_each(|_| stage.take());
    let started = std::thread::Builder::new().name("prompt".to_owned()).spawn(move || attendant.attend());
    let attendant = match started {
        Ok(attendant) => Some(attendant),
        Err(error) => {
            tracing::warn!(%error, "nobody can be asked at this terminal");
            return (screen::sinks(face, plan, state), None);
        }
    };
    let view = screen::view(plan, state, &stage);
    let plan = Arc::clone(plan);
    let attended = Attended { plan, view, stage, notices: Some(notices), attendant, asking: open, cursor };
    (vec![Box::new(attended)], Some(answered))
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
        let interrupted = speaks(&self.plan, event) && self.cursor.leave();
        if interrupted {
            tell!("");
        }
        self.view.event(event)?;
        let interrupted = interrupted.then_some(Notice::Interrupted);
        for notice in self.notice(event).into_iter().chain(interrupted) {
            // Nobody listens when nothing more can be typed: the questions are answered elsewhere.
            let sent = self.notices.as_ref().map_or(Ok(()), |notices| notices.send(notice));
            if let Err(SendError(Notice::Asked(..))) = sent {
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
        self.notices = None;
        // What it has to say about an open question comes before the end of the run is told; it looks up at once.
        if self.attendant.take().is_some_and(|attendant| attendant.join().is_err()) {
            tracing::warn!("whoever asked at this terminal ended badly");
        }
        self.view.close();
    }
}

/// The name under which answers are given here.
fn account() -> crate::event::Actor {
    wiring::actor()
}
