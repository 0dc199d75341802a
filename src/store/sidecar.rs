//! What a folder of objects holds beside them, on this machine and on others: hidden names, and the file
//! that knows an object's digest and metadata.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::access::Access;
use crate::action::ObjectKey;
use crate::base::Digest;

/// Every name of the store's own begins with this; keys may not.
pub const RESERVED_PREFIX: &str = ".rb-";
/// The file that makes a folder a store: an unmounted folder lacks it, so "absent" is never said of one.
pub const MARKER: &str = ".rb-store";
/// What it says.
pub(super) const MARKER_TEXT: &[u8] = b"{\"format\":1,\"what\":\"a store of runbook; every object is a plain file\"}\n";
/// How deep folders are followed.
pub(super) const MAX_DEPTH: usize = 64;

const MAX_NAME_BYTES: usize = 240;
const FORMAT: u32 = 1;

/// Says that a place is no store, and what makes one; a folder that is there is not told to be absent.
pub(super) fn no_store(place: &str, is_there: bool, access: Access) -> String {
    let fact = match is_there {
        true => format!("the folder {place} is there and holds no store: its disk is not mounted"),
        false => format!("there is no store in {place}: it is not mounted"),
    };
    let init = match access {
        Access::ReadWrite => ", and `runbook backups init` makes one",
        Access::ReadOnly => "",
    };
    format!(
        "{fact}, or nothing was ever stored there{init}; what another program stores is read with `read_only: true`"
    )
}

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

impl Known {
    /// What a head tells as metadata: what was given, and the digest in any case.
    pub(super) fn told(self) -> BTreeMap<String, String> {
        let mut metadata = self.metadata;
        metadata.entry("sha256".to_owned()).or_insert_with(|| self.sha256.to_string());
        metadata
    }
}

/// The text of the file beside an object.
pub(super) fn encode(contents: Vec<Known>) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&Sidecar { format: FORMAT, contents })?)
}

/// Reads the text of the file beside an object.
pub(super) fn decode(bytes: &[u8]) -> io::Result<Vec<Known>> {
    let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let sidecar: Sidecar =
        serde_json::from_slice(bytes).map_err(|error| damaged(format!("its metadata is damaged: {error}")))?;
    if sidecar.format != FORMAT {
        return Err(damaged(format!("its metadata has format {}, known is {FORMAT}", sidecar.format)));
    }
    Ok(sidecar.contents)
}

/// The hidden name of a kind beside the file `name`.
pub(super) fn hidden_name(name: &str, kind: &str) -> String {
    format!("{RESERVED_PREFIX}{kind}-{name}")
}

/// Tells why a key cannot be the name of a file in a store; `None` when it can.
pub(super) fn unfit(key: &ObjectKey) -> Option<String> {
    let bad = |part: &str| part.starts_with(RESERVED_PREFIX) || part.len() > MAX_NAME_BYTES;
    key.as_str().split('/').any(bad).then(|| {
        format!(
            "the key `{key}` has a part that begins with `{RESERVED_PREFIX}` or is longer than {MAX_NAME_BYTES} bytes"
        )
    })
}
