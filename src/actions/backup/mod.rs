//! The catalog of backups, as steps see it.

mod find;

pub use find::{Find, FindOutput, FindParams};
