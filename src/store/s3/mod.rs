//! Buckets of S3, of AWS and of servers that speak its protocol.
//!
//! Start with [`S3Store`]; `put` and `multipart` are the way in, `download` and `chunk` the way out. What a server
//! takes is found out at the first use and kept in `connect::Connection` for the rest of the process. Settings of
//! the bucket itself (lifecycle, policies …) stand in `admin`.

mod abort;
mod address;
mod admin;
mod chunk;
mod compare;
mod connect;
mod copy;
mod download;
mod dress;
mod error;
mod flight;
mod head;
mod header;
mod list;
mod lock;
mod manner;
mod multipart;
mod orphan;
mod part;
mod patience;
mod put;
mod region;
mod resume;
mod retrieval;
mod session;
mod store;
mod version;

pub use store::S3Store;
