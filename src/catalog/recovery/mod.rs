//! What can be recovered: the one model of base backups, archived WAL and timelines. Pure.
//!
//! Whoever asks hands in what was read: the backups' facts, the listings of the WAL and the history files. [`Archive`]
//! answers for one backup: how far it reaches along a timeline ([`Archive::reach`]), which timeline a goal means
//! ([`Archive::timeline`]), which way leads there ([`Archive::way`]). [`lanes`] answers for all of them: the intervals
//! that can be recovered, and the gaps between them with their reasons. [`choose`] finds the backup for a goal.
//!
//! Positions come first; times are read from the WAL at the edges, by whoever may read (ADR 10). The rules are those
//! of PostgreSQL's manual, "Continuous Archiving and Point-in-Time Recovery", and of `xlogrecovery.c`.

mod absence;
mod archive;
mod backup;
mod beside;
mod choice;
mod goal;
mod hole;
mod lane;
mod latest;
mod lost_history;
mod path;
mod refusal;
mod timeline;
mod way;

pub use absence::Requirement;
pub use archive::{Archive, Branch, Condition, LastCommit, Part, Segment, Unread};
pub use backup::{Base, BaseBackup, TablespaceSize, base_backups, weak_increments};
pub use beside::Beside;
pub use choice::{Choice, PassedOver, choose};
pub use goal::{Edge, Goal, without_epoch};
pub use hole::{Fault, Hole, Reach};
pub use lane::{Gap, Interval, Lane, Opening, is_of_use, lanes};
pub use path::Path;
pub use refusal::Refusal;
pub use way::{Seen, Settled, Way};

#[cfg(test)]
mod tests;
