//! Which of several keys fits an object, found out by its beginning: a stream is read only once.

use std::io::{self, Cursor, Read, Write};

use super::{Source, decrypt};
use crate::base::Digest;
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
/// age says itself whether a key fits. Of `openssl enc` and gpg a wrong password is known by what comes out: it does
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
    let mut best = (first, Fit::No);
    for opener in &ring.openers {
        let fit = clue.fit(opener, &head);
        if fit > best.1 {
            best = (opener, fit);
        }
    }
    decrypt(best.0, &mut Cursor::new(head).chain(from), to)
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
