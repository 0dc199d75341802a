//! A bucket of Google Cloud Storage or a container of Azure Blob Storage as a store.
//!
//! Small bodies are one request; larger ones are sent as parts, several at once, each as large as the body
//! turns out to need. What must not replace anything is sent under a hidden name first and copied, inside the store,
//! onto a name that is free. Start with [`ObjectStorage`]; `upload` holds the two ways of storing.

mod client;
mod fault;
mod metadata;
mod parts;
mod pending;
mod store;
mod upload;

pub(super) use client::Provider;
pub use store::ObjectStorage;
