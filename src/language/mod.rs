//! The runbook language: text becomes a spanned tree, the tree becomes typed data and diagnostics.
//!
//! No I/O except reading the file, its includes and nothing else. Start with [`load`].

pub mod document;
mod include;
pub mod inventory;
mod load;
mod named;
pub mod runbook;
pub mod source;
mod sub;
pub mod template;
pub mod time;
pub mod vocabulary;

pub use load::{LoadRequest, Loaded, in_order, load};
pub use named::{is_inventory_text, named_inventories};
pub use source::{DiskFiles, MemoryFiles, ReadError, SourceReader};
pub use sub::SubRunbook;
pub use vocabulary::Vocabulary;
