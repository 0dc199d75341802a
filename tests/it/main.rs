
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
#![allow(clippy::unwrap_used, reason = "tests")]
//! The integration tests, one binary.
//! The one integration binary.
mod architecture;
mod pgformat;
mod supervisor;
mod support;
