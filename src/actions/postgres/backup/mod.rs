//! Base backups: taken in one pass, verified on the way, brought into every store, and read back.

pub(crate) mod bad_page;
pub(crate) mod base_backup;
pub(crate) mod base_backup_by_hand;
pub(crate) mod collect;
pub(crate) mod copies;
pub(crate) mod delivery;
pub(crate) mod duplicate;
pub(crate) mod fan_out;
pub(crate) mod increment;
pub(crate) mod inspection;
pub(crate) mod last_wal;
pub(crate) mod linked;
pub(crate) mod omission;
pub(crate) mod outside;
pub(crate) mod own_wal;
pub(crate) mod replication;
pub(crate) mod tar_verifier;
pub(crate) mod tar_walk;
pub(crate) mod tee;
pub(crate) mod uploads;
pub(crate) mod wal_proof;
