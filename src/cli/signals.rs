//! What reaches a live run from outside: signals, and verbs in its control folder.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Receiver;

use super::{Exit, Failure};
use crate::action::BoxFuture;
use crate::event::{Actor, CancelLevel};
use crate::journal::ControlDir;
use crate::port::{Control, ControlRequest};

/// Listens to signals, to the control folder, and to whoever sits at the run's terminal.
///
/// The first SIGINT or SIGTERM cancels, the second kills at once, the third abandons. SIGHUP detaches
/// what writes to the terminal; the run goes on.
pub struct LiveControl {
    folder: ControlDir,
    /// What a person answers at the run's own terminal.
    answers: Option<Receiver<ControlRequest>>,
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    asked: u32,
}

impl LiveControl {
    /// Starts to listen. Needs a runtime.
    pub fn new(folder: ControlDir, answers: Option<Receiver<ControlRequest>>) -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::new(Exit::Bug, "signals cannot be received").because(&error));
        Ok(Self {
            folder,
            answers,
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            asked: 0,
        })
    }

    fn asked_by(&mut self, name: &str) -> ControlRequest {
        self.asked += 1;
        let actor = Actor { name: "signal".to_owned(), from: name.to_owned() };
        match self.asked {
            1 => {
                tell!("\ncancelling: running steps are told to end, then `finally` runs; once more kills them at once");
                ControlRequest::Cancel { actor, level: CancelLevel::Graceful, reason: format!("{name} received") }
            }
            2 => {
                tell!("\nkilling what runs; once more leaves at once and leaves `finally` to `runbook resume`");
                ControlRequest::Cancel { actor, level: CancelLevel::Now, reason: format!("{name} received again") }
            }
            _ => ControlRequest::Abandon,
        }
    }
}

/// Pends for ever where nobody is asked.
async fn answered(answers: &mut Option<Receiver<ControlRequest>>) -> Option<ControlRequest> {
    match answers {
        Some(answers) => answers.recv().await,
        None => std::future::pending().await,
    }
}

impl Control for LiveControl {
    fn next(&mut self) -> BoxFuture<'_, ControlRequest> {
        Box::pin(async move {
            enum Came {
                Verb(ControlRequest),
                Signal(&'static str),
                Hangup,
            }
            let came = tokio::select! {
                request = self.folder.next() => Came::Verb(request),
                Some(request) = answered(&mut self.answers) => Came::Verb(request),
                _ = self.interrupt.recv() => Came::Signal("SIGINT"),
                _ = self.terminate.recv() => Came::Signal("SIGTERM"),
                _ = self.hangup.recv() => Came::Hangup,
            };
            match came {
                Came::Verb(request) => request,
                Came::Signal(name) => self.asked_by(name),
                Came::Hangup => ControlRequest::Detach,
            }
        })
    }
}
