//! The catalog of backups, as steps see it.

mod copy;
mod create;
mod failure;
mod find;
mod get;
mod inspect;
mod pipe;
mod place;
mod tarball;
mod verify;

pub use create::{CopyFacts, Create, CreateOutput, CreateParams, FailedCopy};
pub use find::{Choice, Find, FindOutput, FindParams};
pub use get::{BackupFiles, Get, GetParams};
pub use inspect::{Demands, Encrypted, Inspected, Inspector, due, judge};
pub use verify::{Verify, VerifyOutput, VerifyParams};
