//! What is known of an object, read and written as a file beside it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::folder::write_whole;
use crate::base::{Digest, digest::Hasher};
use crate::store::sidecar::{Known, decode, encode, hidden_name};

/// The kind of the hidden file that is an object's next content.
pub(super) const CLAIM: &str = "tmp";

/// The hidden names beside the object at `path`.
pub(super) fn hidden(path: &Path, kind: &str) -> PathBuf {
    path.with_file_name(hidden_name(&path.file_name().unwrap_or_default().to_string_lossy(), kind))
}

/// Writes, durably, what is known of the object at `path`. The caller holds the key's lock.
pub(super) fn write(path: &Path, contents: Vec<Known>) -> io::Result<()> {
    write_whole(&hidden(path, "meta"), &hidden(path, "mtmp"), &encode(contents)?)
}

/// Tells what is known of the object at `path`, which exists; `None` when nothing is.
pub(super) fn read(path: &Path) -> io::Result<Option<Known>> {
    let bytes = match std::fs::read(hidden(path, "meta")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut contents = decode(&bytes)?;
    if contents.len() > 1 {
        let digest = digest_of(path)?;
        contents.retain(|known| known.sha256 == digest);
    }
    Ok(contents.pop())
}

/// Digests a whole file.
pub(super) fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}
