//! The catalog of backups, as steps see it.

mod candidates;
mod copy;
mod create;
mod dump_listing;
mod failure;
pub(in crate::actions) mod find;
pub(in crate::actions) mod find_check;
pub mod foreign;
mod get;
mod inspect;
mod leads;
pub(in crate::actions) mod pipe;
mod place;
pub mod prune;
mod raw;
mod reach;
mod retrieve;
pub(in crate::actions) mod sighting;
pub(in crate::actions) mod tarball;
mod unfreeze;
mod verify;
pub(in crate::actions) mod vouched;

pub use create::{CopyFacts, Create, CreateOutput, CreateParams, FailedCopy};
pub use find::{Choice, Find, FindOutput, FindParams};
pub use get::{BackupFiles, Get, GetParams};
pub use inspect::{Demands, Encrypted, Inspected, Inspector, ReadBudget, judge, sort_by_due};
pub use leads::LeadsTo;
pub use place::PlaceSpec;
pub use prune::{PlannedPrune, Prune, PruneOutput, PruneParams};
pub use raw::{Layout, RawLocation};
pub use retrieve::{Retrieve, RetrieveParams};
pub use unfreeze::{Unfreeze, UnfreezeOutput, UnfreezeParams};
pub use verify::{Verify, VerifyOutput, VerifyParams};
