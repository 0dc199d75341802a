//! The stores of a cluster: its WAL archive and its backups, as they are read.

pub(crate) mod archive;
pub(crate) mod archiver;
pub(crate) mod archiving_config;
pub(crate) mod handover;
pub(crate) mod inflow;
pub(crate) mod other_history;
pub(crate) mod readable;
pub(crate) mod target;
pub(crate) mod tenant;
