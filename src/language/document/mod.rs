//! Text becomes a tree in which every node knows its place, and trees are held against JSON schemas.
//!
//! [`parse`] reads hostile input within budgets; [`validate`] serves the file's own structure and
//! the arguments of every action alike. Nothing here knows what a step is.

mod choice;
mod format;
mod node;
mod parse;
mod reader;
mod schema;
#[cfg(test)]
mod tests;
mod text;
mod validate;

pub(super) use node::child;
pub use node::{Entry, Kind, Node};
pub use parse::parse;
pub(super) use schema::plain;
pub use text::{MAX_BYTES, decode};
pub use validate::{Checked, Fault, NameKind, NameUse, TemplatePolicy, validate};
