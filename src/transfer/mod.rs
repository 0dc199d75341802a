//! Bytes on their way into a store and back: one streaming pass, compressed and encrypted as the
//! store's settings say, every byte digested before and after.
//!
//! ```text
//! upload    source ─► digest ─► compress ─► encrypt ─► digest ─► store
//! download  store ─► digest ─► decrypt ─► decompress ─► digest ─► target, published only when all agree
//! ```
//!
//! Memory is bounded whatever the size: the stages are threads (compression as many as there are cores) with a few
//! blocks between them (`flow`, `lanes`), whose buffers are used again (`pool`). Start with [`Packing`] (how new objects are made), [`Unpacking`] (how one
//! object is read), and the two journeys [`upload`] and [`download`]; a segment of WAL goes [`AtOnce`]. This room knows no kind of store,
//! only the contract; it does not know the catalog either: [`Encoding`] travels in the manifest.

mod at_once;
mod broken;
mod cipher;
mod compression;
mod delivery;
mod error;
mod flow;
mod intake;
mod journey;
mod keys;
mod lanes;
mod meter;
mod packing;
mod recognition;
mod tally;
mod thread;
mod unpacking;

pub use at_once::AtOnce;
pub use cipher::is_known_beginning;
pub use error::TransferError;
pub use journey::{Expected, Passed, Progress, Uploaded, Watch, download, upload};
pub use keys::{has_password, public_keys};
pub use meter::{Bottleneck, Stage};
pub use packing::{Packed, Packing, Sealed};
pub use recognition::Recognition;
pub use unpacking::Unpacking;

pub use crate::action::{Encoding, Plain, PlainFacts};
