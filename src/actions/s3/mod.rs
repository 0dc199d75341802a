//! The settings of buckets: planned, applied, and held against what was wished.
//!
//! Each action is one `setting::Setting`: how it is read, compared and written. What a mode does with it stands
//! in one place, `setting`. Start reading there, then `versioning`.

mod encryption;
mod lifecycle;
mod object_lock;
mod policy;
mod replication;
mod setting;
mod versioning;

pub use encryption::{Encryption, EncryptionParams};
pub use lifecycle::{Lifecycle, LifecycleParams, PrefixRule, TransitionRule};
pub use object_lock::{ObjectLock, ObjectLockParams};
pub use policy::{Policy, PolicyParams};
pub use replication::{Replication, ReplicationOutput, ReplicationParams};
pub use setting::{Difference, SettingMode, SettingOutput};
pub use versioning::{Versioning, VersioningParams};
