//! Where secrets come from: one file per provider, [`Vault`] in front of them.
//!
//! A secret may have several sources: the first that answers counts ([`Vault`] says what is told of the others).
//! A value is fetched when it is first needed, kept for the run, and known to the redactor from then on.

mod aws;
mod bridge;
mod command;
mod env;
mod file;
mod hashicorp;
mod miss;
mod prompt;
mod sources;

pub use prompt::{NoPrompt, Prompt, TerminalPrompt};
pub use sources::{RunCommand, Sources, Vault};
