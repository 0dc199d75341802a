//! Where secrets come from: one file per provider, [`Vault`] in front of them.
//!
//! A value is fetched when it is first needed, kept for the run, and known to the redactor from then on.

mod command;
mod env;
mod file;
mod prompt;
mod sources;

pub use prompt::{NoPrompt, Prompt, TerminalPrompt};
pub use sources::{RunCommand, Sources, Vault};
