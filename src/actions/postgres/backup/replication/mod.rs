//! The replication protocol, as far as a base backup needs it: one connection gives the data directory, every
//! tablespace, the WAL in between and the server's manifest, without a program of the server and without scratch space.
//!
//! Start with [`Feed`], the conversation of `BASE_BACKUP` (manual, "Streaming Replication Protocol", PostgreSQL 13 to
//! 18). [`Wire`] carries the messages; `login` proves who we are.

mod feed;
mod login;
mod message;
mod wire;

pub(crate) use feed::{Ended, Extent, Feed, Order, Piece};
pub(crate) use message::Complaint;
pub(crate) use wire::Wire;
