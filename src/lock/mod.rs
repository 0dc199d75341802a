//! Names that only one run of this machine may hold at a time, as kernel locks on files.
//!
//! Start with [`FileLocks`].

mod file;

pub use file::{FileLocks, Holder};
