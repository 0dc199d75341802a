//! One small process per running program, so that a step outlives the engine.
//!
//! [`main`] is the supervisor: our own binary on an early path, single-threaded, a poll loop without
//! tokio. It leads its own session, adopts every orphan of the program it watches (child subreaper),
//! holds its pipes, redacts and caps what it writes, and keeps an exit record in the attempt's folder.
//! The engine's side is [`Launcher`]; what became of an attempt whose engine died tells [`fate`].
//!
//! Resilient against: the end of the engine by any signal, a program that forks, daemonizes or
//! ignores TERM, floods of output, a reader that is slow or gone. Not against: SIGKILL of the
//! supervisor itself (reported as lost), loss of power (attempt files are not synced).
//!
//! Start reading at `watch`, the loop.

mod capture;
mod fate;
mod folder;
mod identity;
mod launch;
mod link;
mod outcome;
mod request;
mod session;
mod spawn;
mod tail;
mod tree;
mod watch;
mod wire;

pub use fate::{AttemptFate, RunningAttempt, fate, still_runs};
pub use launch::Launcher;
pub use request::{EndLevel, Life, RunAs, Task};
pub use session::Session;
pub use watch::main;

/// The first argument that makes our binary a supervisor.
pub const EARLY_PATH: &str = "__supervise";
