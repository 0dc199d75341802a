//! Logical dumps of databases, and their restore beside the live ones.

pub(crate) mod dump;
pub(crate) mod restore_dump;
pub(crate) mod scratch_server;
pub(crate) mod swap_back;
