//! The integration tests, one binary.
#![allow(clippy::unwrap_used, reason = "tests")]

mod supervisor;
