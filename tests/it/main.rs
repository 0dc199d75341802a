//! The one integration binary.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod action_process;
mod action_service;
mod architecture;
mod compat;
mod damage;
mod pgformat;
mod supervisor;
mod support;
