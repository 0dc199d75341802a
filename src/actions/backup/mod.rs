//! The catalog of backups, as steps see it.

mod copy;
mod create;
mod failure;
mod find;
mod get;
mod pipe;
mod place;
mod tarball;

pub use create::{CopyFacts, Create, CreateOutput, CreateParams, FailedCopy};
pub use find::{Choice, Find, FindOutput, FindParams};
pub use get::{BackupFiles, Get, GetParams};
