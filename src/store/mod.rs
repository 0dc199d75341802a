//! Stores of the inventory: objects under keys. A folder (`file://`), another machine's (`sftp://`), a bucket of S3
//! (`s3://`) or Google (`gs://`), or a container of Azure (`az://`).
//!
//! Start with [`Opening`]: `open` and `open_read` are for the engine, `open_existing` for whoever must never mistake an
//! unmounted folder for a new store. The contract of stores is [`crate::action::Store`]; one suite of tests holds
//! every kind to it (`tests/it/store_conformance.rs`).

mod access;
mod deferred_cleanup;
mod local;
mod object;
mod opening;
mod reading;
mod retry;
mod s3;
mod sftp;
mod sidecar;
mod throttle;
mod whole;

pub use deferred_cleanup::deferred_cleanups;
pub use local::LocalStore;
pub use object::ObjectStorage;
pub use opening::Opening;
pub use reading::{ReadingStore, Why};
pub use retry::Retry;
pub use s3::S3Store;
pub use sftp::SftpStore;
pub use sidecar::{MARKER, RESERVED_PREFIX};
pub use throttle::Throttle;
