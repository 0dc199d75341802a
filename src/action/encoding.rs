//! How the stored bytes of an object were made of the plain ones: all that a reader must know, and no key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Digest;
use crate::language::inventory::{CompressionFormat, OpensslDigest};

/// First compressed, then encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Encoding {
    /// How it was compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compressed>,
    /// How it was encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encrypted>,
}

impl Encoding {
    /// Whether the stored bytes are the plain ones.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// How an object was compressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Compressed {
    /// The format.
    pub format: CompressionFormat,
    /// The level, where the format has levels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<i32>,
}

/// How an object was encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "format", rename_all = "snake_case")]
pub enum Encrypted {
    /// age, to public keys.
    Age {
        /// The public keys, `age1…`.
        recipients: Vec<String>,
    },
    /// age, by a passphrase.
    AgePassphrase,
    /// `openssl enc`.
    OpensslEnc {
        /// The cipher as openssl names it: `aes-256-cbc`.
        cipher: String,
        /// How the key was derived from the password.
        kdf: Kdf,
    },
    /// `gpg --symmetric`.
    GpgSymmetric {
        /// The cipher as gpg names it: `AES256`.
        cipher: String,
    },
}

/// How a key was derived from a password; such a file does not say it itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Kdf {
    /// PBKDF2 (`-pbkdf2 -iter N -md D`).
    Pbkdf2 {
        /// The digest.
        digest: OpensslDigest,
        /// The iterations.
        iterations: u32,
    },
    /// `EVP_BytesToKey` with one iteration (`-md D`).
    BytesToKey {
        /// The digest.
        digest: OpensslDigest,
    },
}

/// What is noted of the plain bytes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plain {
    /// Their number.
    pub size_bytes: u64,
    /// Their SHA-256; not taken where the content proves itself, as the archives of a base backup do by the server's
    /// own manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub sha256: Option<Digest>,
}

impl Plain {
    /// Tells whether these can be the same bytes: digests count where both were taken.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.size_bytes == other.size_bytes && self.sha256.zip(other.sha256).is_none_or(|(own, other)| own == other)
    }

    /// Gives the facts; `None` where no digest was taken.
    #[must_use]
    pub fn facts(&self) -> Option<PlainFacts> {
        self.sha256.map(|sha256| PlainFacts { size_bytes: self.size_bytes, sha256 })
    }
}

impl From<PlainFacts> for Plain {
    fn from(facts: PlainFacts) -> Self {
        Self { size_bytes: facts.size_bytes, sha256: Some(facts.sha256) }
    }
}

/// The plain bytes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlainFacts {
    /// Their number.
    pub size_bytes: u64,
    /// Their SHA-256.
    #[schemars(with = "String")]
    pub sha256: Digest,
}
