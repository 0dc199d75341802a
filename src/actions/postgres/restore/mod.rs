//! A backup laid beside the live data, and the swap that puts it in its place. Nothing of the live data changes before the swap.

pub(crate) mod combine;
pub(crate) mod configured;
pub(crate) mod context;
pub(crate) mod dismantled;
pub(crate) mod existing;
pub(crate) mod extract;
pub(crate) mod fetching;
pub(crate) mod flushed;
pub(crate) mod freezing;
pub(crate) mod leftover;
pub(crate) mod marker;
pub(crate) mod neighbours;
pub(crate) mod obstacle;
pub(crate) mod old;
pub(crate) mod recovery_target;
pub(crate) mod restore_base;
pub(crate) mod restore_base_by_hand;
pub(crate) mod segment_cache;
pub(crate) mod shape;
pub(crate) mod space;
pub(crate) mod spare;
pub(crate) mod stage;
pub(crate) mod swap;
pub(crate) mod verify_backup;
