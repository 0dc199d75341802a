//! The state of a database that lies outside its dump: owner, rights, settings, locale, comment, limit (facts 2.10.13).
//!
//! [`read`] takes it, [`creation`] makes a new database of the same locale, [`apply`] gives it the rest, and
//! [`differences`] tells what is not as it was.

mod acl;
mod apply;
mod compare;
mod read;

pub(crate) use apply::{Leave, apply, creation};
pub(crate) use compare::differences;
pub(crate) use read::read;
