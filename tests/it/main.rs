//! The one integration binary.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod architecture;
mod diagnostics;
mod pgformat;
mod prop_language;
mod supervisor;
mod support;
