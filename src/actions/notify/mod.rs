//! Telling people and services.

mod command;
mod mark;
mod signature;
mod webhook;

pub use command::Command;
pub use webhook::Webhook;
