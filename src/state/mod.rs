//! The state of a run: a fold of its events, live and on resume by the same code.

mod act;
mod apply;
#[cfg(test)]
pub(crate) mod fixture;
mod model;
pub mod objectives;
mod transition;
mod wait;

pub use act::{Acts, Amendment, LockTake, LockWait, OperatorAct};
pub use apply::IllegalEvent;
pub use model::{AttemptState, Resource, RunState, StepEnd, StepState, StepStatus, Stretch, UndoState};
pub use transition::subject;
