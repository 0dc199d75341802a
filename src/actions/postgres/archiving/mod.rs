//! `postgres.configure_archiving`: has a server archive its WAL through `runbook wal push`, and proves that it does.
//!
//! `change` says purely what differs from what is wanted; `apply` changes it, only that, with `ALTER SYSTEM`; `place`
//! writes what the server's command needs, for a recovered one as well (`renewal`); `trial` proves the whole as the server's own archiver runs it; `work` is all of it in
//! one attempt.

mod action;
mod apply;
mod change;
mod folder;
mod follower;
mod params;
mod place;
mod renewal;
mod rewrite;
mod trial;
mod want;
mod work;

pub use action::ConfigureArchiving;
pub use change::SettingChange;
pub use params::{ArchivingMode, ConfigureArchivingOutput, ConfigureArchivingParams, Foreign, Restart};
pub(crate) use renewal::{foretold, renew};
pub use want::CheckpointTuning;
