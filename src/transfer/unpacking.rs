//! How one object is read.

use super::{Encoding, PlainFacts, TransferError};
use crate::action::{ByteStream, Secrets};
use crate::language::inventory::Encryption;

use super::stream::Verifying;

/// How the plain bytes of one object are had back, with the keys at hand.
#[derive(Clone)]
pub struct Unpacking {
    _encoding: Encoding,
}

impl Unpacking {
    /// Reads as the manifest says, with the keys of the store's settings.
    ///
    /// # Errors
    /// Fails when no key can be had for what is encrypted.
    pub fn of(encoding: &Encoding, _keys: Option<&Encryption>, _secrets: &dyn Secrets) -> Result<Self, TransferError> {
        match encoding.is_plain() {
            true => Ok(Self { _encoding: encoding.clone() }),
            false => Err(TransferError::Settings("compression and encryption are not built yet".to_owned())),
        }
    }

    /// Gives the plain bytes. The stream ends well only when both sizes and both digests are as expected;
    /// else its last read is an error of kind `InvalidData` that says what differs. What was read before
    /// is not proven: publish nothing before the end.
    #[must_use]
    pub fn open(&self, stored: ByteStream, expected: super::Expected) -> ByteStream {
        let plain = PlainFacts { size_bytes: expected.stored.size_bytes, sha256: expected.stored.sha256 };
        Box::new(Verifying::new(stored, plain))
    }
}
