//! `runbook wal push` and `runbook wal fetch`: PostgreSQL's `archive_command` and `restore_command`.
//!
//! ```text
//! archive_command = '/usr/bin/runbook wal push --config /etc/runbook/wal.yaml %p'
//! restore_command = '/usr/bin/runbook wal fetch --config /etc/runbook/wal.yaml %f %p'
//! ```
//!
//! [`main`] is called before the command line is parsed, inside `catch_unwind`, and needs no environment.
//! Its exit codes are a contract with the server, because a server that is told "absent" (1) when it was
//! only an error opens without the newest transactions, and one that sees a code above 125 from its
//! archiver does not count the failure:
//!
//! | | push | fetch |
//! |---|---|---|
//! | 0 | stored durably, or the same content was there | delivered and verified |
//! | 1 | every failure | authoritatively absent; with `standby.signal` also a failure that may pass |
//! | 126 | never | everything else |
//!
//! Both may do more than they are asked while the server waits: `company` pushes what waits behind a segment, `prefetch`
//! fetches what the server will ask for next. What they did ahead is kept in a `spool`, on which nothing depends.
//!
//! Steps that rescue WAL use [`push_everywhere`], those that read it [`read_file`]; [`contiguity`] proves that
//! nothing is missing on a path, and [`Almanac`] reads when what was committed. [`outlook`] plans a recovery by what a
//! store holds. [`ForeignArchive`] reads WAL that another program archived, where it lies.

mod absence;
mod acks;
mod ahead;
mod almanac;
mod backlog;
mod balance;
mod command;
mod company;
mod config;
mod contiguity;
mod counterpart;
mod debt;
mod demolition;
mod depot;
mod error;
mod favourite;
mod fetch;
mod foreign;
mod identity;
mod initial;
mod invocation;
mod landing;
pub mod outlook;
mod packed;
mod preference;
mod prefetch;
mod push;
mod repair;
mod rescue;
mod spool;
mod spread;
pub mod standing;
mod stock;
mod succession;
pub mod trace;
mod unfinished;

pub use absence::{Absence, Archive};
pub use ahead::Ahead;
pub use almanac::{Almanac, Stop};
pub use backlog::{Backlog, Pressure};
pub use balance::{Lack, LackedFile, Since, lacks};
pub use command::main;
pub use config::{Config, Location};
pub use contiguity::{Contiguity, contiguity};
pub use counterpart::{Copied, Counterpart};
pub use debt::owed;
pub use error::WalError;
pub use foreign::{ForeignArchive, ForeignFolder, foreign_wal_file};
pub use identity::Identity;
pub use invocation::Invocation;
pub use packed::{Keys, Loaded, Plainly, Source, read_file};
pub use preference::{load_first, read_first, read_first_into, unpack_first};
pub use push::{Destination, Pushed, push_file};
pub use repair::{Repaired, repair};
pub use rescue::{RescuedSegment, read_rescued};
pub use spread::{Missed, bring_over, push_everywhere};
