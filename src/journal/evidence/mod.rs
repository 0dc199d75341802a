//! The evidence of a run: one file that somebody who was not there can verify, offline and without this machine.
//!
//! A bundle is a tar in one zstd frame. Every member lies below `evidence-<run>/`, sorted by name, with the time of
//! the run's end and without owner; `manifest.json` comes last and names the digest of each, `manifest.json.sig`
//! signs it. The same run gives the same bytes. [`write()`] makes one, [`verify()`] holds one against itself.

mod document;
mod gather;
mod manifest;
mod readme;
mod tarball;
mod verify;

pub use gather::{EvidenceError, Extra, Finality, write};
pub use manifest::{Manifest, Member};
pub use verify::{Fault, Limits, Verified, verify};

/// The manifest's name inside a bundle.
pub const MANIFEST: &str = "manifest.json";
/// The name of its signature.
pub const MANIFEST_SIGNATURE: &str = "manifest.json.sig";
/// The lines of the ledger that name the run.
const LEDGER: &str = "ledger.jsonl";
