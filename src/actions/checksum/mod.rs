//! Checksums of files in a sidecar that `sha256sum -c` reads.

mod sidecar;
mod verify;
mod write;

pub(in crate::actions) use sidecar::{Entry, parse_sidecar};
pub use verify::{Verify, VerifyOutput, VerifyParams};
pub use write::{Write, WriteOutput, WriteParams};
