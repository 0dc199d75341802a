//! How an object of another program was made: found out by its bytes.

use std::io;

use tokio::io::AsyncReadExt as _;

use super::cipher::is_known_beginning;
use super::{Encoding, TransferError, Unpacking};
use crate::action::{ByteStream, Compressed, Encrypted, Kdf, ObjectKey, ReadStore, Secrets};
use crate::language::inventory::{CompressionFormat, Encryption, OpensslEnc, OpensslKdf};

/// How many first bytes tell what something is.
const HEAD_BYTES: u64 = 1024;
/// PBKDF2's iterations where nothing says them: ours, and openssl's own.
const ITERATIONS: [u32; 2] = [600_000, 10_000];

/// Recognises what others have stored in one store, with its keys.
#[derive(Clone, Copy)]
pub struct Recognition<'a> {
    /// The store.
    pub store: &'a dyn ReadStore,
    /// The keys of its settings.
    pub keys: Option<&'a Encryption>,
    /// The secrets they name.
    pub secrets: &'a dyn Secrets,
}

impl Recognition<'_> {
    /// Finds out how an object was made, by its first bytes before and after decryption.
    ///
    /// # Errors
    /// Fails when the store does, and when none of the keys fits.
    pub async fn encoding(&self, key: &ObjectKey) -> Result<Encoding, TransferError> {
        let head = first(self.store.get(key).await?).await.map_err(|error| unread(key, error))?;
        let ways = self.ways(&head);
        if ways.is_empty() {
            return Ok(Encoding { compression: compression(&head), encryption: None });
        }
        let mut failed = None;
        for way in ways {
            let encoding = Encoding { compression: None, encryption: Some(way) };
            match self.beginning(key, &encoding).await {
                Ok(plain) => return Ok(Encoding { compression: compression(&plain), ..encoding }),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| wrong_key(key, "no way to do it is known")))
    }

    /// The first plain bytes, if a key fits.
    async fn beginning(&self, key: &ObjectKey, encoding: &Encoding) -> Result<Vec<u8>, TransferError> {
        let unpacking = Unpacking::of(encoding, self.keys, self.secrets)?;
        let stored = self.store.get(key).await?;
        let plain = first(unpacking.open_foreign(stored, None)).await.map_err(|error| unread(key, error))?;
        // This format takes any password: only what comes out tells.
        if matches!(encoding.encryption, Some(Encrypted::OpensslEnc { .. })) && !is_known_beginning(&plain) {
            let what = "what comes out is neither a dump, an archive nor WAL; the password, the `kdf`, the `digest` and \
                        the `iterations` must be those it was made with";
            return Err(wrong_key(key, what));
        }
        Ok(plain)
    }

    /// The ways in which something that begins so may be encrypted; none for what is not.
    fn ways(&self, head: &[u8]) -> Vec<Encrypted> {
        let none = Encryption::default();
        let keys = self.keys.unwrap_or(&none);
        if let Some(rest) = head.strip_prefix(b"age-encryption.org/v1\n") {
            return vec![match rest.starts_with(b"-> scrypt ") {
                true => Encrypted::AgePassphrase,
                false => Encrypted::Age { recipients: Vec::new() },
            }];
        }
        if head.starts_with(b"Salted__") {
            let earlier = keys.earlier.iter().filter_map(|earlier| earlier.openssl.as_ref());
            let mut kdfs: Vec<Kdf> = Vec::new();
            for kdf in keys.openssl.iter().chain(earlier).flat_map(derivations) {
                if !kdfs.contains(&kdf) {
                    kdfs.push(kdf);
                }
            }
            // Without any settings reading says which ones are missing.
            if kdfs.is_empty() {
                kdfs = derivations(&OpensslEnc::default());
            }
            return kdfs
                .into_iter()
                .map(|kdf| Encrypted::OpensslEnc { cipher: "aes-256-cbc".to_owned(), kdf })
                .collect();
        }
        // Session keys of OpenPGP, for a password or a public key; a custom dump begins with `PGDMP`.
        let is_gpg = matches!(head.first(), Some(0x8c | 0x85 | 0xc3 | 0xc1)) || head.starts_with(b"-----BEGIN PGP");
        if is_gpg {
            return vec![Encrypted::GpgSymmetric { cipher: "AES256".to_owned() }];
        }
        Vec::new()
    }
}

fn unread(key: &ObjectKey, error: io::Error) -> TransferError {
    TransferError::of_reading(key.as_str(), error)
}

fn wrong_key(key: &ObjectKey, what: &str) -> TransferError {
    TransferError::WrongKey { object: key.to_string(), what: what.to_owned() }
}

fn derivations(openssl: &OpensslEnc) -> Vec<Kdf> {
    let digest = openssl.digest;
    match (openssl.kdf, openssl.iterations) {
        (OpensslKdf::Legacy, _) => vec![Kdf::BytesToKey { digest }],
        (OpensslKdf::Pbkdf2, Some(iterations)) => vec![Kdf::Pbkdf2 { digest, iterations }],
        (OpensslKdf::Pbkdf2, None) => {
            ITERATIONS.into_iter().map(|iterations| Kdf::Pbkdf2 { digest, iterations }).collect()
        }
    }
}

fn compression(head: &[u8]) -> Option<Compressed> {
    let format = match head {
        [0x1f, 0x8b, ..] => CompressionFormat::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => CompressionFormat::Zstd,
        [0x04, 0x22, 0x4d, 0x18, ..] => CompressionFormat::Lz4,
        _ => return None,
    };
    Some(Compressed { format, level: None })
}

async fn first(body: ByteStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    body.take(HEAD_BYTES).read_to_end(&mut head).await?;
    Ok(head)
}
