//! Stores of the inventory: objects under keys. So far a folder (`file:///absolute/path`).
//!
//! Start with [`Opening`]: `open` and `open_read` are for the engine, `open_existing` for whoever must never mistake an
//! unmounted folder for a new store. The contract of stores is [`crate::action::Store`].

mod local;
mod opening;
mod reading;

pub use local::{LocalStore, RESERVED_PREFIX};
pub use opening::Opening;
pub use reading::ReadingStore;
