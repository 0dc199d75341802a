//! Lines that carry their own hash: a JSON object whose last member is `hash`, the SHA-256 of the line's bytes without
//! `,"hash":"…"`. Verification looks at bytes and never at a re-serialization. Nothing here does I/O.

use super::Digest;
use super::digest::Hasher;

const HASH_OPEN: &[u8] = b",\"hash\":\"";
const HASH_CLOSE: &[u8] = b"\"}";
const HEX_LEN: usize = 64;
/// The length of `,"hash":"…"}`.
const SUFFIX_LEN: usize = HASH_OPEN.len() + HEX_LEN + HASH_CLOSE.len();

/// A line is not what its hash says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokenSeal {
    /// The bytes do not end in a `hash` member.
    #[error("the line has no hash at its end")]
    Missing,
    /// The bytes were changed.
    #[error("the line's bytes do not have the hash it names")]
    Wrong,
}

/// Makes a line of a JSON object: adds its hash as the last member, and a newline.
#[must_use]
pub fn seal(mut object: Vec<u8>) -> (Vec<u8>, Digest) {
    let hash = Digest::of(&object);
    object.pop();
    object.extend_from_slice(HASH_OPEN);
    object.extend_from_slice(hash.to_string().as_bytes());
    object.extend_from_slice(HASH_CLOSE);
    object.push(b'\n');
    (object, hash)
}

/// Holds a line's bytes against the hash they end in. Exact to the byte: no second spelling passes.
///
/// # Errors
/// Fails when there is no hash or another one.
pub fn check_hash(line: &[u8]) -> Result<(), BrokenSeal> {
    let split = line.len().checked_sub(SUFFIX_LEN).ok_or(BrokenSeal::Missing)?;
    let (body, suffix) = line.split_at(split);
    let hex = suffix.strip_prefix(HASH_OPEN).and_then(|rest| rest.strip_suffix(HASH_CLOSE));
    let hex = hex.ok_or(BrokenSeal::Missing)?;
    let mut hasher = Hasher::default();
    hasher.update(body);
    hasher.update(b"}");
    if hasher.finish().to_string().as_bytes() == hex { Ok(()) } else { Err(BrokenSeal::Wrong) }
}

/// Gives the length of a whole line with the right hash that `bytes` begin with, if there is one. Linear in time.
#[must_use]
pub fn whole_line_prefix(bytes: &[u8]) -> Option<usize> {
    let mut hasher = Hasher::default();
    let mut hashed = 0;
    let marks = bytes.windows(HASH_OPEN.len()).enumerate().filter(|(_, window)| *window == HASH_OPEN);
    for (start, _) in marks {
        let suffix = bytes.get(start + HASH_OPEN.len()..start + SUFFIX_LEN)?;
        hasher.update(&bytes[hashed..start]);
        hashed = start;
        let mut whole = hasher.clone();
        whole.update(b"}");
        if suffix.strip_suffix(HASH_CLOSE) == Some(whole.finish().to_string().as_bytes()) {
            return Some(start + SUFFIX_LEN);
        }
    }
    None
}
