//! Objects of a store: put, get, list, find, copy, verify, retrieve, restore, delete, sync. Each transfer is
//! proven by digest.
//!
//! Start with [`Put`] and [`Get`]. What several actions share: `carry` (a content into a store, with its proof),
//! `arrival` (a file that gets its name when it is proven), `place` (where something lies), `crew` (several at once).

pub(in crate::actions) mod arrival;
pub(in crate::actions) mod body;
pub(in crate::actions) mod by_hand;
pub(in crate::actions) mod carry;
mod copy;
pub(in crate::actions) mod crew;
mod delete;
mod failure;
mod find;
mod get;
mod glob;
mod list;
pub(in crate::actions) mod passing;
pub(in crate::actions) mod place;
mod put;
mod restore_versions;
pub(in crate::actions) mod retrieve;
pub(in crate::actions) mod source;
mod sync;
mod verify;
mod version;

pub use carry::{Proof, StoredObject};
pub use copy::{Copy, CopyOutput, CopyParams, CopyPlace};
pub use delete::{Delete, DeleteOutput, DeleteParams};
pub(crate) use failure::{FULL, catalog_failed, store_failed, transfer_failed};
pub use find::{Find, FindParams, FoundObject, Which};
pub use get::{Get, GetOutput, GetParams};
pub use glob::Glob;
pub use list::{List, ListOutput, ListParams, ListedObject};
pub use place::{FilePlace, TreePlace};
pub use put::{Put, PutParams};
pub use restore_versions::{RestoreVersions, RestoreVersionsParams, RestoredVersions};
pub use retrieve::{Retrieve, RetrieveParams, Retrieved};
pub use sync::{Allowance, Compare, Symlinks, Sync, SyncOutput, SyncParams};
pub use verify::{Level, VerifiedObjects, Verify, VerifyParams};
