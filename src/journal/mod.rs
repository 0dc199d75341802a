//! Where runs are kept: the journal of each, the directory of all, and the proof that nothing was changed.
//!
//! Start with [`chain`] for the format of a line, [`memory`] for tests of the engine.

pub mod chain;
pub mod memory;
#[cfg(test)]
pub(crate) mod sample;

pub use memory::{Fault, MemoryJournal};
