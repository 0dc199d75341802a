//! Where runs are kept: the journal of each, the directory of all, and the proof that nothing was changed.
//!
//! Start with [`chain`] for the format of a line, [`file`] and [`reader`] for one journal, [`memory`] for
//! tests of the engine.

pub mod chain;
pub(crate) mod durable;
pub mod file;
pub mod memory;
pub mod reader;
#[cfg(test)]
pub(crate) mod sample;

pub use file::FileJournal;
pub use memory::{Fault, MemoryJournal};
pub use reader::{History, Opened, Tail, open_for_resume, read};
