//! Reads an object of another program: how it was compressed and encrypted is found out by its bytes.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio_util::io::SyncIoBridge;

use super::super::failure::transfer_failed;
use crate::action::{
    ActionError, ByteStream, Compressed, Encoding, Encrypted, Kdf, ObjectKey, PlainFacts, ReadStore, Secrets,
};
use crate::actions::store::store_failed;
use crate::base::digest::Hasher;
use crate::language::inventory::{CompressionFormat, Encryption, OpensslEnc, OpensslKdf};
use crate::transfer::{TransferError, Unpacking, is_known_beginning};

/// How many first bytes tell what something is.
const HEAD_BYTES: u64 = 1024;
/// PBKDF2's iterations where nothing says them: ours, and openssl's own.
const ITERATIONS: [u32; 2] = [600_000, 10_000];
const PIPE_BYTES: usize = 1 << 20;

/// Reads what others have stored in one store.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// The store.
    pub store: &'a dyn ReadStore,
    /// The keys of its settings.
    pub keys: Option<&'a Encryption>,
    /// The secrets they name.
    pub secrets: &'a dyn Secrets,
}

/// What reading an object to its end has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    /// The bytes as stored.
    pub(super) stored: PlainFacts,
    /// The bytes as read.
    pub(super) plain: PlainFacts,
    /// How the one became the other.
    pub(super) encoding: Encoding,
}

impl Reader<'_> {
    /// Reads an object to its end. `read` gets its plain bytes, and need not read them all.
    ///
    /// # Errors
    /// Fails when the store or `read` does, when it is damaged, and when none of the keys fits.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        key: &ObjectKey,
        read: impl FnOnce(&mut dyn Read) -> io::Result<T> + Send + 'static,
    ) -> Result<(Described, T), ActionError> {
        let encoding = self.encoding(key).await?;
        let tally = Tally::default();
        let body = Tallied { inner: self.store.get(key).await.map_err(store_failed)?, tally: tally.clone() };
        let unpacking = Unpacking::of(&encoding, self.keys, self.secrets).map_err(transfer_failed)?;
        let mut plain = unpacking.open_foreign(Box::new(body), None);
        let (mut ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let reading = tokio::task::spawn_blocking(move || {
            let mut counting = Counting { inner: SyncIoBridge::new(theirs), hasher: Hasher::default(), size_bytes: 0 };
            let value = read(&mut counting)?;
            io::copy(&mut counting, &mut io::sink())?;
            let facts = PlainFacts { size_bytes: counting.size_bytes, sha256: counting.hasher.finish() };
            Ok::<_, io::Error>((facts, value))
        });
        let copied = tokio::io::copy(&mut plain, &mut ours).await;
        drop(ours);
        let read = reading.await.map_err(|error| ActionError::fatal("the reader broke off").because(&error))?;
        if let Err(error) = copied
            && (read.is_ok() || error.kind() != io::ErrorKind::BrokenPipe)
        {
            return Err(transfer_failed(TransferError::of_reading(key.as_str(), error)));
        }
        let unusable = |error: io::Error| ActionError::fatal(format!("`{key}` cannot be used: {error}"));
        let (plain, value) = read.map_err(unusable)?;
        Ok((Described { stored: tally.facts(), plain, encoding }, value))
    }

    /// Reads a small object whole.
    ///
    /// # Errors
    /// Fails as [`Self::read`], and when it is longer than `limit_bytes`.
    pub(super) async fn small(&self, key: &ObjectKey, limit_bytes: u64) -> Result<(Described, Vec<u8>), ActionError> {
        let (described, bytes) = self
            .read(key, move |from| {
                let mut bytes = Vec::new();
                from.take(limit_bytes + 1).read_to_end(&mut bytes).map(|_| bytes)
            })
            .await?;
        if bytes.len() as u64 > limit_bytes {
            return Err(ActionError::fatal(format!("`{key}` is longer than {limit_bytes} bytes")));
        }
        Ok((described, bytes))
    }

    /// Finds out how an object was made, by its first bytes before and after decryption.
    async fn encoding(&self, key: &ObjectKey) -> Result<Encoding, ActionError> {
        let stored = self.store.get(key).await.map_err(store_failed)?;
        let head = first(stored).await.map_err(|error| unread(key, error))?;
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
        Err(failed.unwrap_or_else(|| ActionError::fatal(format!("`{key}` cannot be decrypted"))))
    }

    /// The first plain bytes, if a key fits.
    async fn beginning(&self, key: &ObjectKey, encoding: &Encoding) -> Result<Vec<u8>, ActionError> {
        let unpacking = Unpacking::of(encoding, self.keys, self.secrets).map_err(transfer_failed)?;
        let stored = self.store.get(key).await.map_err(store_failed)?;
        let plain = first(unpacking.open_foreign(stored, None)).await.map_err(|error| unread(key, error))?;
        // This format takes any password: only what comes out tells.
        if matches!(encoding.encryption, Some(Encrypted::OpensslEnc { .. })) && !is_known_beginning(&plain) {
            let fact = format!("`{key}` cannot be decrypted: what comes out is neither a dump, an archive nor WAL");
            let help = "give the password, the `kdf`, the `digest` and the `iterations` it was made with, under \
                        `encryption` of the store or its `earlier`";
            return Err(ActionError::fatal(fact).help(help));
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

fn unread(key: &ObjectKey, error: io::Error) -> ActionError {
    transfer_failed(TransferError::of_reading(key.as_str(), error))
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

/// What has passed of the stored bytes.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<(Hasher, u64)>>);

impl Tally {
    fn facts(&self) -> PlainFacts {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        PlainFacts { size_bytes: passed.1, sha256: std::mem::take(&mut passed.0).finish() }
    }
}

struct Tallied {
    inner: ByteStream,
    tally: Tally,
}

impl AsyncRead for Tallied {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let read = &buffer.filled()[before..];
        let mut passed = self.tally.0.lock().unwrap_or_else(PoisonError::into_inner);
        passed.0.update(read);
        passed.1 += read.len() as u64;
        drop(passed);
        Poll::Ready(Ok(()))
    }
}

/// Digests the plain bytes that pass.
struct Counting<R> {
    inner: R,
    hasher: Hasher,
    size_bytes: u64,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size_bytes += count as u64;
        Ok(count)
    }
}
