//! Objects of a store: put, get, list, delete. Each transfer is proven by digest.

mod body;
pub(in crate::actions) mod by_hand;
mod delete;
mod failure;
mod get;
mod list;
mod put;

pub use delete::{Delete, DeleteOutput, DeleteParams};
pub(crate) use failure::{catalog_failed, store_failed};
pub use get::{Get, GetOutput, GetParams};
pub use list::{List, ListOutput, ListParams, ListedObject};
pub use put::{Put, PutParams, StoredObject};
