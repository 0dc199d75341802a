//! `store.sync`: makes a folder or a prefix like another. Plans first, deletes last and only when said.

mod action;
mod apply;
mod frozen;
mod plan;
mod side;

pub use action::{Symlinks, Sync, SyncOutput, SyncParams};
pub use plan::{Allowance, Compare};
