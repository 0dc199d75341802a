//! What a recovery would come to, by what a store holds: plans without touching anything.
//!
//! Start with [`Recoverable`]: it reads backups, WAL and timelines of one database. [`plan`] finds the way to a goal, or
//! why there is none; where a goal has no position of its own, [`Hunt`] looks for it in the WAL. All judgement is
//! [`crate::catalog::recovery`]'s; this reads what that wants to know.

mod answering;
mod copies;
mod holding;
mod hunt;
mod plan;
mod remnant;
mod retrieval;
mod uneven;

pub use answering::Silent;
pub use copies::{Content, SegmentCopy};
pub use holding::{ClusterView, LookError, Recoverable};
pub use hunt::{Hunt, readable};
pub use plan::{BESIDE_REPLAY, ChosenBackup, Impossible, Plan, Planned, Replay, plan};
pub use remnant::{Remnant, Tear};
pub use retrieval::ToRetrieve;
