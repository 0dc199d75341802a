//! A folder as a store: one plain file per object, readable without this program.
//!
//! Names that begin with `.rb-` are the store's own and never listed: `.rb-store` in the root marks the
//! folder as a store (an unmounted folder lacks it, so "absent" is never said of one), `.rb-meta-NAME`
//! beside an object keeps its digest and metadata, `.rb-tmp-NAME` is an object being written and at the
//! same time the lock of its key. A crash leaves at most such a hidden file; the next put of the key
//! takes it over. Start with [`LocalStore`]; `publish` holds the order of syncs and renames.

mod claim;
mod fault;
mod folder;
mod known;
mod publish;
mod store;

pub use store::LocalStore;

#[cfg(test)]
mod tests;
