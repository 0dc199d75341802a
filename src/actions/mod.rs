//! The actions that runbooks can use, one family per module.

pub mod postgres;
