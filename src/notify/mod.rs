//! Telling people: the rules of `notify`, carried out beside the run and never in its way.
//!
//! [`Notifier`] is a sink of durable events. What a rule wants to know of them becomes an [`Occasion`] and waits in
//! the queue of that rule's own [`courier`](self), which calls the action the rule uses. A notifier that fails or
//! hangs is told and written down, and nothing else. What an event means is said in one place, [`Teller`].

mod courier;
mod notifier;
mod occasion;
mod teller;

pub use notifier::{Notifier, Outstanding, Post};
pub use occasion::Occasion;
pub use teller::Teller;
