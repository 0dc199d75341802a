//! What tests start and remove again.

pub mod postgres;
