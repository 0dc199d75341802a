//! The catalog of backups, as steps see it.

mod adopt;
mod copy;
mod create;
mod failure;
mod find;
mod get;
mod inspect;
pub(in crate::actions) mod pipe;
mod place;
pub mod prune;
mod reach;
pub(in crate::actions) mod tarball;
mod verify;

pub use adopt::Foreign;
pub use create::{CopyFacts, Create, CreateOutput, CreateParams, FailedCopy};
pub use find::{Choice, Find, FindOutput, FindParams};
pub use get::{BackupFiles, Get, GetParams};
pub use inspect::{Demands, Encrypted, Inspected, Inspector, due, judge};
pub use prune::{PlannedPrune, Prune, PruneOutput, PruneParams};
pub use verify::{Verify, VerifyOutput, VerifyParams};
