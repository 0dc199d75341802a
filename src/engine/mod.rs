//! The engine: drives a plan to its end through events, and nothing else.
//!
//! [`decide`] is pure; the loop in `drive` writes what it decides, makes it durable, shows it, and
//! only then acts. It is not a scheduler of processes (`supervisor`) and not a reporter (`report`).
//! Start with [`Engine::run`].

mod begin;
mod capability;
mod check;
mod decide;
mod drive;
mod execute;
mod flight;
mod frontier;
mod index;
mod land;
mod launch;
mod preflight;
mod publish;
mod recover;
mod redact;
mod reporting;
mod resolve;
pub mod retry;
mod reveal;
mod scope;
mod seed;
mod settle;
mod start;
mod tasks;
mod undo;

pub use capability::{Binding, Capabilities, Leash, ProbeAnswer, Purpose, Timing};
pub use decide::{Decision, Picture, decide};
pub use execute::revealed;
pub use frontier::Frontier;
pub use index::PlanIndex;
pub use preflight::{Preflight, preflight};
pub use seed::{Foreseen, foresee};
pub use start::{Answer, Ending, Engine, EngineError, Left, Resume, Seeded, Start};
pub use undo::{may_have_run, wanted as wanted_undos};
