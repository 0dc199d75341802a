//! What tests start and remove again.

pub mod postgres;
pub mod recorded;
