//! Backups by volume snapshots: the server is told before and after, its label is kept in the catalog, and a restore
//! puts both together again (manual, "Making a Base Backup Using the Low Level API").
//!
//! The catalog holds the label, never the data: that lies where the volume's own snapshots lie.

mod around;
mod moment;
mod restore;
mod tree;

pub use around::{AroundSnapshot, AroundSnapshotOutput, AroundSnapshotParams};
pub use restore::{RestoreSnapshot, RestoreSnapshotOutput, RestoreSnapshotParams};
