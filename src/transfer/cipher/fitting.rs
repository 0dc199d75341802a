//! Which of several keys fits an object, found out by its beginning: a stream is read only once.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek as _, Write};

use super::{Source, decrypt};
use crate::base::Digest;
use crate::base::digest::Hasher;
use crate::language::inventory::CompressionFormat;
use crate::transfer::keys::{Opener, Ring};

/// How much of an object is looked at.
const HEAD_BYTES: usize = 256 << 10;
/// Where `ustar` stands in a tar archive (pax(1)).
const TAR_MAGIC_AT: usize = 257;

/// What is known of the plain bytes.
#[derive(Clone, Copy)]
pub(in crate::transfer) struct Clue {
    /// How they are compressed.
    pub(in crate::transfer) format: CompressionFormat,
    /// The digest of what decompression gives.
    pub(in crate::transfer) plain: Option<Digest>,
}

/// Decrypts a stream to its end with the first key that fits its beginning. Where none does, with the first of all,
/// whose failure tells why.
///
/// age says itself whether a key fits. Where several passwords may, the digest of the plain bytes decides. Of `openssl enc` and gpg a wrong password is known by what comes out: it does
/// not begin as the compression of the object does, or, uncompressed, as nothing that is known. The digests around
/// the stream are the proof.
pub(in crate::transfer) fn decrypt_fitting(
    ring: &Ring,
    clue: Clue,
    from: &mut impl Source,
    to: &mut impl Write,
) -> io::Result<()> {
    let [first, others @ ..] = ring.openers.as_slice() else { return Err(io::Error::other("there is no key")) };
    if others.is_empty() {
        return decrypt(first, from, to);
    }
    let mut head = Vec::new();
    from.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    let fits: Vec<(&Opener, Fit)> = ring.openers.iter().map(|opener| (opener, clue.fit(opener, &head))).collect();
    let best = fits.iter().map(|(_, fit)| *fit).max().unwrap_or(Fit::No);
    let candidates: Vec<&Opener> =
        fits.into_iter().filter(|(_, fit)| *fit == best && best != Fit::No).map(|(opener, _)| opener).collect();
    let mut from = Cursor::new(head).chain(from);
    match (candidates.as_slice(), clue.plain) {
        (&[], _) => decrypt(first, &mut from, to),
        (&[only], _) | (&[only, ..], None) => decrypt(only, &mut from, to),
        (several, Some(plain)) if best < Fit::Likely && clue.format == CompressionFormat::None => {
            decrypt_twice(several, plain, &mut from, to)
        }
        (&[likely, ..], Some(_)) => decrypt(likely, &mut from, to),
    }
}

/// Decrypts what nothing but its digest tells the key of: with each key to its end, then with the one that gave the
/// right bytes. What is kept for it, in a file without a name, is what the store has: still encrypted.
fn decrypt_twice(candidates: &[&Opener], plain: Digest, from: &mut impl Source, to: &mut impl Write) -> io::Result<()> {
    let kept = |error: io::Error| {
        io::Error::new(error.kind(), format!("the object cannot be kept to find out which password fits: {error}"))
    };
    let mut file = tempfile::tempfile().map_err(kept)?;
    let mut buffer = vec![0; HEAD_BYTES];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count]).map_err(kept)?;
    }
    let again = |file: &File| -> io::Result<BufReader<File>> {
        let mut file = file.try_clone()?;
        file.rewind()?;
        Ok(BufReader::with_capacity(HEAD_BYTES, file))
    };
    let mut fits = candidates[0];
    for opener in candidates {
        let mut hasher = Hasher::default();
        if decrypt(opener, &mut again(&file)?, &mut hasher).is_ok() && hasher.finish() == plain {
            fits = opener;
            break;
        }
    }
    decrypt(fits, &mut again(&file)?, to)
}

/// How well a key fits; the better one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    No,
    Perhaps,
    Likely,
    Proven,
}

impl Clue {
    fn fit(self, opener: &Opener, head: &[u8]) -> Fit {
        let is_whole = head.len() < HEAD_BYTES;
        let mut plain = Vec::new();
        let ended = decrypt(opener, &mut Cursor::new(head), &mut plain);
        if is_whole && ended.is_ok() && self.plain == Some(Digest::of(&plain)) {
            return Fit::Proven;
        }
        if plain.is_empty() && ended.is_err() {
            return Fit::No;
        }
        match begins_as(self.format, &plain) {
            Some(true) => Fit::Likely,
            Some(false) => Fit::No,
            None if is_whole && ended.is_err() => Fit::No,
            None => Fit::Perhaps,
        }
    }
}

/// Whether bytes begin as their format does; `None` where the format says nothing.
fn begins_as(format: CompressionFormat, plain: &[u8]) -> Option<bool> {
    match format {
        CompressionFormat::Zstd => Some(plain.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])),
        CompressionFormat::Gzip => Some(plain.starts_with(&[0x1f, 0x8b, 0x08])),
        CompressionFormat::Lz4 => Some(plain.starts_with(&[0x04, 0x22, 0x4d, 0x18])),
        CompressionFormat::None => is_known_beginning(plain).then_some(true),
    }
}

/// Whether bytes begin as an archive, a dump, a WAL segment, a text, or something compressed.
#[must_use]
pub fn is_known_beginning(plain: &[u8]) -> bool {
    let formats = [CompressionFormat::Zstd, CompressionFormat::Gzip, CompressionFormat::Lz4];
    if formats.into_iter().any(|format| begins_as(format, plain) == Some(true)) {
        return true;
    }
    let is_tar = plain.get(TAR_MAGIC_AT..).is_some_and(|rest| rest.starts_with(b"ustar"));
    let is_wal = matches!(plain, [_, 0xd0 | 0xd1, flags, 0, ..] if *flags < 16);
    let text = plain.get(..plain.len().min(512)).unwrap_or_default();
    let is_text = |byte: &u8| *byte >= 0x20 || matches!(*byte, b'\n' | b'\r' | b'\t');
    is_tar || is_wal || plain.starts_with(b"PGDMP") || (!text.is_empty() && text.is_ascii() && text.iter().all(is_text))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{Clue, HEAD_BYTES, decrypt_fitting};
    use crate::action::{ActionError, Encrypted, Kdf, Secrets};
    use crate::base::Digest;
    use crate::base::secret::SecretText;
    use crate::language::inventory::{CompressionFormat, EarlierKeys, Encryption, OpensslDigest, OpensslEnc};
    use crate::transfer::cipher::encrypt;
    use crate::transfer::keys::{Lock, Ring};

    /// Each secret's value is its name.
    struct Named;

    impl Secrets for Named {
        fn get(&self, name: &str) -> Result<SecretText, ActionError> {
            Ok(SecretText::new(name.to_owned()))
        }
    }

    fn openssl(password: &str) -> OpensslEnc {
        OpensslEnc { password: password.to_owned(), iterations: Some(1), ..OpensslEnc::default() }
    }

    #[test]
    fn every_earlier_password_is_tried_on_a_large_object_of_which_only_the_digest_is_known() {
        let plain: Vec<u8> =
            (0..HEAD_BYTES * 3 + 5).map(|at| Digest::of(&at.to_be_bytes()).to_string().as_bytes()[7] ^ 0xa5).collect();
        let kdf = Kdf::Pbkdf2 { digest: OpensslDigest::default(), iterations: 1 };
        let lock = Lock::Openssl { password: SecretText::new("second".to_owned()), kdf: kdf.clone() };
        let mut stored = Vec::new();
        encrypt(&lock, &mut Cursor::new(&plain), &mut stored).expect("encrypts");
        let earlier = |password: &str| EarlierKeys { openssl: Some(openssl(password)), ..EarlierKeys::default() };
        let keys = Encryption {
            openssl: Some(openssl("today")),
            earlier: vec![earlier("first"), earlier("second"), earlier("third")],
            ..Encryption::default()
        };
        let how = Encrypted::OpensslEnc { cipher: "aes-256-cbc".to_owned(), kdf };
        let ring = Ring::of(&how, Some(&keys), &Named).expect("keys");
        let clue = Clue { format: CompressionFormat::None, plain: Some(Digest::of(&plain)) };
        let mut found = Vec::new();
        decrypt_fitting(&ring, clue, &mut Cursor::new(stored), &mut found).expect("decrypts");
        assert!(found == plain);
    }
}
