//! What is known of an object beside its bytes: digest, size, metadata.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::write_whole;
use crate::base::{Digest, digest::Hasher};

const FORMAT: u32 = 1;

/// What is known of one content of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// SHA-256 of the bytes as stored.
    pub(super) sha256: Digest,
    /// Their number.
    pub(super) size_bytes: u64,
    /// What was given when they were put.
    pub(super) metadata: BTreeMap<String, String>,
}

/// The file beside an object. While an object is being replaced it tells of the old and the new
/// content, so that a crash between the two renames leaves neither without its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sidecar {
    format: u32,
    contents: Vec<Known>,
}

/// The hidden names beside the object at `path`.
pub(super) fn hidden(path: &Path, kind: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{}{kind}-{name}", super::RESERVED_PREFIX))
}

/// Writes, durably, what is known of the object at `path`. The caller holds the key's lock.
pub(super) fn write(path: &Path, contents: Vec<Known>) -> io::Result<()> {
    let text = serde_json::to_vec(&Sidecar { format: FORMAT, contents })?;
    write_whole(&hidden(path, "meta"), &hidden(path, "mtmp"), &text)
}

/// Tells what is known of the object at `path`, which exists; `None` when nothing is.
pub(super) fn read(path: &Path) -> io::Result<Option<Known>> {
    let bytes = match std::fs::read(hidden(path, "meta")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let sidecar: Sidecar =
        serde_json::from_slice(&bytes).map_err(|error| damaged(format!("its metadata is damaged: {error}")))?;
    if sidecar.format != FORMAT {
        return Err(damaged(format!("its metadata has format {}, known is {FORMAT}", sidecar.format)));
    }
    let mut contents = sidecar.contents;
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
