//! Stores of the inventory: objects under keys, in a folder (`file:///absolute/path`) or a bucket (`s3://bucket/prefix`).
//!
//! Start with [`Opening`]: `open` and `open_read` are for the engine, `open_existing` for whoever must never mistake an
//! unmounted folder for a new store. The contract of stores is [`crate::action::Store`].

mod local;
mod opening;
mod reading;
mod s3;

pub use local::{LocalStore, RESERVED_PREFIX};
pub use opening::Opening;
pub use reading::ReadingStore;
pub use s3::S3Store;
