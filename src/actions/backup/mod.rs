//! The catalog of backups, as steps see it.

mod find;
mod place;
pub mod prune;

pub use find::{Choice, Find, FindOutput, FindParams};
pub use prune::{PlannedPrune, Prune, PruneOutput, PruneParams};
