//! The locks of a whole run, as its engine sees them.

use super::LockError;

/// What a run holds from its first step to its end.
pub trait Entrance: Send {
    /// Takes all locks of the run or none of them, without waiting: a run that waits holds nothing, so that two
    /// runs never wait for each other.
    ///
    /// # Errors
    /// Fails when a lock cannot be used; the run stops, `resume` goes on.
    fn enter(&mut self) -> Result<Entry, LockError>;
}

/// What came of trying to enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Everything is held; these are the locks that were not simply free.
    Inside(Vec<Entered>),
    /// Another run holds one of them.
    Held {
        /// The lock.
        lock: String,
        /// The run that holds it.
        holder: String,
    },
}

/// A lock that was not simply free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// The lock.
    pub lock: String,
    /// The dead run it was taken over from.
    pub over: Option<String>,
    /// The live run that was told to make room for it.
    pub preempted: Option<String>,
    /// How long it was waited for, in milliseconds.
    pub waited_ms: u64,
}
