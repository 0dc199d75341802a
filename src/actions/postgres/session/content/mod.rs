//! What a database holds: rows and hashes per table, a fingerprint of its schema, and the comparison with what was.
//!
//! Start with [`Content`]: it opens one moment (a read-only transaction on one snapshot, which a dump can share), takes
//! the facts of it, and ends it. [`differences`] compares two such facts.
//!
//! A fact must mean the same before and after a restore, on another machine and in another session. So values are
//! written as text under fixed settings, rows are hashed by content and never by place, and the fingerprint leaves out
//! what a restore may rewrite: expressions, which the server prints in another form after it has read them back.

mod compare;
mod depth;
mod moment;
mod schema;
mod table;

pub(crate) use compare::differences;
pub use depth::FactsDepth;
pub(crate) use moment::Content;
pub(crate) use table::TableName;
