//! `postgres.configure_archiving`: has a server archive its WAL through `runbook wal push`, and proves that it does.
//!
//! `change` says purely what differs from what is wanted; `apply` changes it, only that, with `ALTER SYSTEM`; `place`
//! writes what the server's command needs; `trial` proves the whole as the server's own archiver runs it.

mod action;
mod apply;
mod change;
mod folder;
mod follower;
mod place;
mod trial;
mod want;

pub use action::{
    ArchivingMode, ConfigureArchiving, ConfigureArchivingOutput, ConfigureArchivingParams, Foreign, Restart,
};
pub use change::SettingChange;
pub use want::CheckpointTuning;
