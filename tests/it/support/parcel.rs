//! Packs and unpacks whole bodies with settings and keys of its own.

use std::collections::BTreeMap;
use std::io;

use age::secrecy::ExposeSecret;
use runbook::action::{ActionError, ByteStream, PlainFacts, Secrets};
use runbook::base::Digest;
use runbook::base::secret::SecretText;
use runbook::language::inventory::{
    Compression, CompressionFormat, Encryption, GpgSymmetric, OpensslDigest, OpensslEnc, OpensslKdf, Recipient,
    StoreEntry,
};
use runbook::transfer::{Encoding, Expected, Packing, Unpacking};
use tokio::io::AsyncReadExt;

/// Secrets by name.
#[derive(Clone, Default)]
pub struct Safe(pub BTreeMap<String, String>);

impl Secrets for Safe {
    fn get(&self, name: &str) -> Result<SecretText, ActionError> {
        let value = self.0.get(name).cloned();
        value.map(SecretText::new).ok_or_else(|| ActionError::fatal(format!("no secret `{name}`")))
    }
}

impl Safe {
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// A pair of age keys: (identity, recipient).
pub fn age_keys() -> (String, String) {
    let identity = age::x25519::Identity::generate();
    (identity.to_string().expose_secret().to_owned(), identity.to_public().to_string())
}

/// An object as it lies in a store.
#[derive(Clone)]
pub struct Parcel {
    pub stored: Vec<u8>,
    pub encoding: Encoding,
    pub expected: Expected,
}

pub fn facts(bytes: &[u8]) -> PlainFacts {
    PlainFacts { size_bytes: bytes.len() as u64, sha256: Digest::of(bytes) }
}

pub fn body(bytes: &[u8]) -> ByteStream {
    Box::new(io::Cursor::new(bytes.to_vec()))
}

pub async fn pack(entry: &StoreEntry, safe: &Safe, plain: &[u8]) -> Parcel {
    let packing = Packing::of(entry, safe).unwrap();
    let (mut sealed, packed) = packing.seal(body(plain)).split();
    assert!(packed().is_none(), "nothing is known before it was read");
    let mut stored = Vec::new();
    sealed.read_to_end(&mut stored).await.unwrap();
    let packed = packed().unwrap();
    let stored_facts = PlainFacts { size_bytes: packed.stored_size_bytes, sha256: packed.stored_sha256 };
    assert_eq!((packed.plain, stored_facts), (facts(plain).into(), facts(&stored)));
    let expected = Expected { stored: stored_facts, plain: packed.plain };
    Parcel { stored, encoding: packing.encoding().clone(), expected }
}

/// Everything that was read, and how it ended.
pub async fn unpack(entry: &StoreEntry, safe: &Safe, parcel: &Parcel) -> io::Result<Vec<u8>> {
    let unpacking = Unpacking::of(&parcel.encoding, entry.encryption.as_ref(), safe).unwrap();
    let mut plain = Vec::new();
    unpacking.open(body(&parcel.stored), parcel.expected).read_to_end(&mut plain).await.map(|_| plain)
}

pub fn compressed(format: CompressionFormat) -> StoreEntry {
    StoreEntry { compression: Some(Compression { format, level: None }), ..StoreEntry::default() }
}

/// The ways to encrypt, with the keys to read.
pub fn locks() -> (Safe, Vec<(&'static str, Encryption)>) {
    let ((identity, recipient), (_, offline)) = (age_keys(), age_keys());
    let safe = Safe::default().with("identity", &identity).with("word", "correct horse battery staple\n");
    let openssl = |kdf, digest, iterations| Encryption {
        openssl: Some(OpensslEnc { password: "word".to_owned(), kdf, digest, iterations }),
        ..Encryption::default()
    };
    let all = vec![
        ("age", to_recipients(&[&recipient, &offline])),
        ("age passphrase", Encryption { passphrase: Some("word".to_owned()), ..Encryption::default() }),
        ("openssl pbkdf2", openssl(OpensslKdf::Pbkdf2, OpensslDigest::Sha256, None)),
        ("openssl pbkdf2 10000 md5", openssl(OpensslKdf::Pbkdf2, OpensslDigest::Md5, Some(10_000))),
        ("openssl legacy", openssl(OpensslKdf::Legacy, OpensslDigest::Sha256, None)),
        ("openssl legacy md5", openssl(OpensslKdf::Legacy, OpensslDigest::Md5, None)),
        ("gpg", Encryption { gpg: Some(GpgSymmetric { passphrase: "word".to_owned() }), ..Encryption::default() }),
    ];
    (safe, all)
}

pub fn to_recipients(keys: &[&str]) -> Encryption {
    let recipients = keys.iter().map(|key| Recipient::Key((*key).to_owned())).collect();
    Encryption { recipients, identities: vec!["identity".to_owned()], ..Encryption::default() }
}

/// Bytes that compress a little, the same for the same seed.
pub fn content(size_bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(size_bytes + 8);
    while bytes.len() < size_bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = if state.is_multiple_of(3) { 0x2020_2020_2020_2020 } else { state };
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(size_bytes);
    bytes
}
