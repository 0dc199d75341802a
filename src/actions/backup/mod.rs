//! The catalog of backups, as steps see it.

mod find;
mod place;

pub use find::{Choice, Find, FindOutput, FindParams};
