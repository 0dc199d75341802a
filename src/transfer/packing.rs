//! How new objects are made.

use std::sync::{Arc, OnceLock};

use super::stream::Digesting;
use super::{Encoding, PlainFacts, TransferError};
use crate::action::{ByteStream, Secrets};
use crate::base::Digest;
use crate::language::inventory::{CompressionFormat, StoreEntry};

/// How new objects of one store are compressed and encrypted, with the keys at hand.
#[derive(Clone)]
pub struct Packing {
    encoding: Encoding,
}

/// The stored bytes of an object on their way.
pub struct Sealed {
    /// The stored bytes.
    pub body: ByteStream,
    facts: Arc<OnceLock<Packed>>,
}

/// What an object has become, known when its body has been read to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// The plain bytes.
    pub plain: PlainFacts,
    /// The number of stored bytes.
    pub stored_size_bytes: u64,
    /// Their SHA-256.
    pub stored_sha256: Digest,
}

impl Packing {
    /// Objects that are stored as they are.
    #[must_use]
    pub fn plain() -> Self {
        Self { encoding: Encoding::default() }
    }

    /// Packs as the store's settings say. Fetches the secrets that writing needs; public keys need none.
    ///
    /// # Errors
    /// Fails when a secret cannot be had or a key makes no sense.
    pub fn of(entry: &StoreEntry, _secrets: &dyn Secrets) -> Result<Self, TransferError> {
        let compresses = entry.compression.as_ref().is_some_and(|to| to.format != CompressionFormat::None);
        if compresses || entry.encryption.is_some() {
            return Err(TransferError::Settings("compression and encryption are not built yet".to_owned()));
        }
        Ok(Self::plain())
    }

    /// What a reader must know.
    #[must_use]
    pub fn encoding(&self) -> &Encoding {
        &self.encoding
    }

    /// What is appended to the name of a packed object: `.zst.age`; empty when it is stored as it is.
    #[must_use]
    pub fn suffix(&self) -> String {
        String::new()
    }

    /// Packs a body. Work is done while the result is read.
    #[must_use]
    pub fn seal(&self, source: ByteStream) -> Sealed {
        let facts = Arc::new(OnceLock::new());
        let told = Arc::clone(&facts);
        let body = Digesting::new(source, move |plain: PlainFacts| {
            let packed = Packed { plain, stored_size_bytes: plain.size_bytes, stored_sha256: plain.sha256 };
            // Told once: the stream ends once.
            let _ = told.set(packed);
        });
        Sealed { body: Box::new(body), facts }
    }
}

impl Sealed {
    /// Splits the body from the teller of what it has become: `None` until the body was read to its end.
    pub fn split(self) -> (ByteStream, impl Fn() -> Option<Packed> + Send + Sync + use<>) {
        let facts = self.facts;
        (self.body, move || facts.get().copied())
    }
}
