//! Telling people.

mod command;

pub use command::Command;
