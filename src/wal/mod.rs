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
//! Both may do more than they are asked while the server waits: `push_batch` pushes what waits behind a segment, `prefetch`
//! fetches what the server will ask for next. What they did ahead is kept in a `spool`, on which nothing depends.
//!
//! Steps that rescue WAL use [`push_everywhere`], those that read it [`read_file`]; [`contiguity`] proves that
//! nothing is missing on a path, and [`CommitTimes`] reads when what was committed. [`outlook`] plans a recovery by what a
//! store holds; where its replay ends, [`replay_end`] decides for that and for the recovery itself. [`ForeignArchive`] reads WAL that another program archived, where it lies.

mod absence;
mod acks;
mod ahead;
pub mod archiving_status;
mod backlog;
mod beginning;
pub mod catalog_rows;
pub mod change_search;
mod command;
mod commit_times;
mod config;
mod contiguity;
mod data_folders;
mod database_drop;
mod error;
mod fetch;
mod foreign;
mod half_dropped;
mod identity;
mod initial;
mod invocation;
mod last_failure;
mod missing_copies;
mod name_conflict;
pub mod outlook;
mod packed;
mod preference;
mod preferred_store;
mod prefetch;
mod prefetch_cache;
mod push;
mod push_batch;
mod relfilenode;
mod repair;
mod replay_end;
mod rescue;
mod spool;
mod spread;
mod staged_file;
mod standing;
mod store_gaps;
mod target_store;
mod unfinished;

pub use absence::{Absence, Archive};
pub use ahead::Ahead;
pub use backlog::{Backlog, Pressure};
pub use beginning::Beginning;
pub use command::main;
pub use commit_times::{CommitTimes, LossBegin, LostBeside, Stop, UnarchivedSegments};
pub use config::differing_keys;
pub(crate) use config::encrypts_otherwise;
pub use config::{Config, Location, Otherwise};
pub use contiguity::{Contiguity, contiguity};
pub(crate) use data_folders::DataFolders;
pub use error::WalError;
pub use foreign::{ForeignArchive, ForeignFolder, foreign_wal_file};
pub use identity::Identity;
pub use invocation::Invocation;
pub use last_failure::{LastFailure, last_failure};
pub use missing_copies::owed;
pub use name_conflict::{Copied, NameConflict};
pub use packed::{Keys, Loaded, Plainly, Source, read_file};
pub use preference::{load_first, read_first, read_first_into, unpack_first};
pub use push::{Destination, Pushed, push_file};
pub use repair::{Repaired, repair};
pub use replay_end::{Asked, ReplayEnd, replay_end};
pub use rescue::{RescuedSegment, read_rescued};
pub use spread::{Missed, bring_over, push_everywhere};
pub use standing::{Standing, standings};
pub use store_gaps::{Lack, LackedFile, Since, lacks};
