//! The contract of actions: what an action is, what it may hold, what it must declare.
//!
//! Start with [`Action`]. An action gets capabilities through its contexts and no others: a
//! [`CheckContext`] has reading handles only, a [`RunContext`] has writing ones. The engine sees
//! actions through [`ErasedAction`], which (de)serializes and boxes, so that authors never see
//! `dyn`, `Value` or `Box::pin`. Actions may not use [`crate::port`].

mod bucket;
pub mod by_hand;
mod context;
mod contract;
mod effect;
mod encoding;
mod erased;
mod erasure;
mod erasure_chain;
mod error;
mod foreseen;
mod handle;
mod host;
mod human;
mod late;
mod reference;
mod registry;
mod store;

pub use bucket::{
    Bucket, DefaultEncryption, DefaultLock, Lifecycle, LifecycleFilter, LifecycleRule, LockDefault, Moment,
    NoncurrentExpiry, NoncurrentTransition, ReadBucket, ReplicationRule, ReplicationStatus, Transition, Versioning,
};
pub use context::{
    CheckContext, Interrupted, NoSecrets, PlanContext, Reporter, RunContext, Secrets, Stores, Surroundings,
};
pub use contract::{Action, ActionSpec, Example, Findings, Idempotency, Recovery};
pub use effect::{Access, Effects, Target};
pub use encoding::{Compressed, Encoding, Encrypted, Kdf, Plain, PlainFacts};
pub use erased::{Erased, ErasedAction, ParamFault};
pub use erasure::{
    ErasureContent, ErasureKey, ErasureLine, Erasures, Forget, NoErasures, SHIPPED, SealedErasure, ShortKey, Treatment,
    Word, whole_part,
};
pub use erasure_chain::{ErasureFork, closed_part, holds_all, joined, shipped_chains, whole_of};
pub use error::ActionError;
pub use foreseen::{Expected, Foreseen, Machine};
pub use handle::{BackupHandle, InstanceHandle, StagedHandle, Waits};
pub use host::{
    CommandOutput, CommandSpec, DirEntry, Fate, FileFacts, FileKind, Files, Host, HostError, REPLACING, ReadFiles,
    ReadHost, Space, Tie,
};
pub use human::{ApprovalArgs, ApprovalOutput, ManualArgs, ManualOutput};
pub use late::{LATE_KEY, Late, pending};
pub use reference::{DatabaseRef, ServiceRef, StoreRef};
pub use registry::Registry;
pub use store::{
    Availability, ByteStream, Capacity, GetOptions, Hold, Listing, Locks, ObjectFacts, ObjectKey, ObjectVersion,
    ParseObjectKeyError, Protection, PutOptions, PutOutcome, ReadStore, ReadVersions, Retrieval, Seen, StorageClass,
    Store, StoreError, Unfinished, Versions,
};

pub use crate::base::effect::EffectClass;
pub use crate::base::mode::Mode;

/// A boxed future, as capability traits return it.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
