//! How a cluster's archiving stands: what the server says of itself, held against what the archive has. Pure.
//!
//! The server's own counters are not enough: a command that is killed or exits above 125 counts as no failure at all
//! (facts 2.1.3), and one that only says it archived is believed. Lag counts from the first position that is not in
//! the archive: on a quiet night nothing waits, however old the last segment is (facts 2.10.15). Start with [`judge`].

mod figure;
mod judge;
mod server;

pub use figure::{ArchivingStatus, Figures};
pub use judge::{Lacking, Observed, Unheard, Waiting, judge};
pub use server::{Counters, Ready, Room, ServerSide};

#[cfg(test)]
mod tests;
