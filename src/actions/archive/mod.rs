//! tar archives: what a folder holds, as it is, into one file or object, and back.
//!
//! Start with [`Create`] and [`Extract`]. `writer` makes the entries, `reader` judges and makes files of them,
//! `pipe` joins the blocking side to the streaming one, `format` tells a compression by its first bytes.

mod bound;
mod create;
mod entry;
mod extract;
mod format;
mod index;
mod list;
pub(in crate::actions) mod pipe;
mod reader;
mod writer;

pub(crate) use bound::Bounded;
pub use create::{Create, CreateOutput, CreateParams};
pub use extract::{Extract, ExtractOutput, ExtractParams, Links, Ownership};
pub(crate) use format::Ending;
pub use list::{List, ListOutput, ListParams, ListedEntry};
pub use writer::Special;
