//! The engine: drives a plan to its end through events, and nothing else.
//!
//! [`decide`] is pure; the loop in `drive` writes what it decides, makes it durable, shows it, and
//! only then acts. It is not a scheduler of processes (`supervisor`) and not a reporter (`report`).
//! Start with [`Engine::run`].

mod answer;
mod begin;
mod capability;
mod check;
mod decide;
mod drive;
mod ending;
mod entrance;
mod execute;
mod flight;
mod foresight;
mod frontier;
mod group;
mod index;
mod item;
mod known;
mod land;
mod launch;
mod lease;
mod locking;
mod operator;
mod people;
mod preflight;
mod publish;
mod recover;
mod redact;
mod rehearsal;
mod reporting;
mod resolve;
pub mod retry;
mod reveal;
mod sample;
mod scope;
mod seed;
mod settle;
mod slots;
mod start;
mod tasks;
mod undo;

pub use capability::{Binding, Capabilities, Leash, ProbeAnswer, Purpose, Timing};
pub use decide::{Decision, Picture, decide};
pub use execute::revealed;
pub use frontier::Frontier;
pub use index::PlanIndex;
pub use known::known_arguments;
pub use preflight::{Preflight, preflight};
pub use rehearsal::{Cast, Part, Rehearsal};
pub use seed::{Foreseen, foresee};
pub use start::{Answer, Ending, Engine, EngineError, Left, Presence, Resume, Seeded, Start};
pub use undo::{may_have_run, wanted as wanted_undos};
