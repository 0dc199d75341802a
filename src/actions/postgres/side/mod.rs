//! Side instances: restored clusters and dumps that cannot touch the one they were taken from.

pub(crate) mod record;
pub(crate) mod side_dump;
pub(crate) mod side_instance;
pub(crate) mod side_instance_by_hand;
