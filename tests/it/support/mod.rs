//! What tests start and remove again.

pub mod host;
pub mod postgres;
pub mod recorded;
