//! How a run is driven: what the engine needs, how it starts, how it ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{Capabilities, drive};
use crate::action::{ActionError, Registry};
use crate::base::StepId;
use crate::event::{Actor, Event, EventKind, RunHeader};
use crate::plan::BoundPlan;
use crate::port::{Clock, Control, Entrance, Journal, JournalError, LockError, Locks, Sink};
use crate::state::{IllegalEvent, RunState};

/// Drives one run from its start, or from where another engine left it, to its end.
pub struct Engine {
    /// The frozen plan.
    pub plan: Arc<BoundPlan>,
    /// The actions.
    pub registry: Registry,
    /// Where events become durable.
    pub journal: Box<dyn Journal>,
    /// Who sees durable events.
    pub sinks: Vec<Box<dyn Sink>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What operators and signals ask.
    pub control: Box<dyn Control>,
    /// The engine's hands.
    pub capabilities: Arc<dyn Capabilities>,
    /// Names that only one run may hold at a time.
    pub locks: Arc<dyn Locks>,
    /// Whether somebody is there to answer.
    pub presence: Presence,
    /// The locks of the whole run; `None` when it has none.
    pub entrance: Option<Box<dyn Entrance>>,
}

/// Whether somebody is there: a run that only people can bring on is left when nobody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Somebody watches the run, or asked to wait.
    SomebodyThere,
    /// Nobody does.
    Nobody,
}

/// Where a run begins.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// A new run.
    Fresh(Box<RunHeader>),
    /// A new run that builds on an earlier one.
    Seeded(Box<Seeded>),
    /// A run that another engine left.
    Resume(Box<Resume>),
}

/// What a run that builds on an earlier one begins with.
#[derive(Debug, Clone, PartialEq)]
pub struct Seeded {
    /// What is known at the start.
    pub header: RunHeader,
    /// What ended there, in that order: `StepSeeded`, and `GroupOpened` before the instances of a `for_each`.
    pub seeds: Vec<EventKind>,
}

/// What a resumed run begins with.
#[derive(Debug, Clone, PartialEq)]
pub struct Resume {
    /// The journal so far, verified.
    pub events: Vec<Event>,
    /// Who resumes it.
    pub actor: Actor,
    /// The process of the new engine.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// Bytes cut off a torn tail, unless whoever opened the journal wrote that already.
    pub cut_bytes: Option<u64>,
    /// What a person knows of interrupted steps.
    pub answers: BTreeMap<StepId, Answer>,
    /// Everything the run takes from an earlier one; what an engine that died had not yet written is written now.
    pub seeds: Vec<EventKind>,
    /// The `PlanAmended` to write when the run follows another plan from here on.
    pub amended: Option<EventKind>,
}

/// What a person says of an interrupted attempt whose fate nothing else can tell.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It did not happen: make another attempt.
    Rerun,
    /// It happened; these of its outputs are known.
    Done {
        /// The outputs by name.
        output: BTreeMap<String, Value>,
    },
}

/// Where a run stands when the engine leaves it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// The folded state.
    pub state: RunState,
    /// The code the process ends with.
    pub exit_code: u8,
    /// Why the engine left.
    pub how: Left,
}

/// Why the engine left a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The run is finished.
    Finished,
    /// The run waits for a person.
    Suspended,
    /// The operator asked a third time: nothing more was written, `resume` goes on.
    Abandoned,
}

/// Why a run could not be driven on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing can be promised without a journal. The run stops where it is; `resume` goes on.
    #[error("the run stops because its journal cannot be used")]
    Journal(#[from] JournalError),
    /// The journal's events do not follow each other.
    #[error("the journal does not tell a possible run")]
    History(#[from] IllegalEvent),
    /// A lock of the run cannot be used. The run stops where it is; `resume` goes on.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A secret that a remaining step needs has no value. Nothing was changed.
    #[error("secret `{name}` has no value")]
    Secret {
        /// The secret.
        name: String,
        /// What the providers answered.
        source: ActionError,
    },
    /// A step uses an action that this program does not have. Nothing was changed.
    #[error("step `{step}` uses the unknown action `{uses}`")]
    Action {
        /// The step.
        step: StepId,
        /// The action.
        uses: String,
    },
    /// An answer was given for a step that asks nothing. Nothing was changed.
    #[error("step `{step}` was not interrupted, so it takes no answer")]
    Answer {
        /// The step.
        step: StepId,
    },
}

impl EngineError {
    /// The code the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Journal(_) | Self::History(_) | Self::Lock(_) => 15,
            Self::Secret { .. } => 4,
            Self::Action { .. } => 3,
            Self::Answer { .. } => 2,
        }
    }
}

impl Engine {
    /// Drives the run until it is finished, suspended or abandoned.
    ///
    /// Not cancel-safe: dropping the future is like the death of the engine, after which only `Start::Resume`
    /// goes on.
    ///
    /// # Errors
    /// Fails when the journal cannot be used, and before anything is changed when a secret or an action is missing.
    pub async fn run(self, start: Start) -> Result<Ending, EngineError> {
        drive::Driver::new(self).drive(start).await
    }
}
