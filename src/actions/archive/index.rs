//! The list of an archive's files, for those who want to compare a tree with it later (no `tar -t | wc -l`).

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::action::{ActionError, ReadFiles};
use crate::base::Digest;

const FORMAT: u32 = 1;
const LIMIT_BYTES: u64 = 1 << 30;

/// Every regular file of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    format: u32,
    files: Vec<IndexedFile>,
}

/// One regular file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IndexedFile {
    /// Its path below the root.
    pub(super) path: String,
    /// Its size.
    pub(super) size_bytes: u64,
    /// SHA-256 of its bytes.
    pub(super) sha256: Digest,
    /// Its permission bits, in octal.
    pub(super) mode: String,
}

impl Index {
    pub(super) fn new(files: Vec<IndexedFile>) -> Self {
        Self { format: FORMAT, files }
    }

    pub(super) fn text(&self) -> Result<Vec<u8>, ActionError> {
        let text = serde_json::to_vec_pretty(self);
        text.map_err(|error| ActionError::fatal("the index cannot be written").because(&error))
    }

    pub(super) fn load(files: &dyn ReadFiles, path: &Path) -> Result<Self, ActionError> {
        let shown = path.display();
        let bytes =
            files.read(path, LIMIT_BYTES).map_err(|error| ActionError::fatal(error.to_string()).because(&error))?;
        let damaged = |error| ActionError::fatal(format!("`{shown}` is no index of an archive")).because(&error);
        let index: Self = serde_json::from_slice(&bytes).map_err(damaged)?;
        match index.format {
            FORMAT => Ok(index),
            other => Err(ActionError::fatal(format!("`{shown}` has format {other}, known is {FORMAT}"))),
        }
    }

    /// Names the first differences between the index and the files that an archive held.
    pub(super) fn differences(&self, found: &[IndexedFile]) -> Vec<String> {
        let by_path = |files: &[IndexedFile]| -> BTreeMap<String, IndexedFile> {
            files.iter().map(|file| (file.path.clone(), file.clone())).collect()
        };
        let (wanted, found) = (by_path(&self.files), by_path(found));
        let missing =
            wanted.keys().filter(|path| !found.contains_key(*path)).map(|path| format!("`{path}` is missing"));
        let other = found.iter().filter_map(|(path, file)| match wanted.get(path) {
            None => Some(format!("`{path}` is not in the index")),
            Some(known) if known != file => Some(format!("`{path}` differs")),
            Some(_) => None,
        });
        missing.chain(other).collect()
    }
}
