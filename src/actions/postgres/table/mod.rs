//! Rows and tables: brought back from a copy, exported, erased.

pub(crate) mod erase;
pub(crate) mod export;
mod names;
pub(crate) mod restore_table;
