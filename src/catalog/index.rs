//! What listings have read before, kept on this machine so that they need not read it again.
//!
//! An entry counts only while the store's own listing shows the same object: its etag, else its size and time.
//! The file can be deleted at any time; one that cannot be read is an empty one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::action::ObjectFacts;
use crate::base::Digest;

/// The largest index that is read.
const LIMIT: u64 = 256 << 20;

/// What was read of one store.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: BTreeMap<String, Entry>,
    is_changed: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    mark: String,
    sha256: Digest,
    text: String,
}

/// What tells one content of an object from another, as far as a listing knows.
fn mark(facts: &ObjectFacts) -> String {
    match &facts.etag {
        Some(etag) => format!("etag {etag}"),
        None => format!("{} bytes at {}", facts.size_bytes, facts.modified_at),
    }
}

impl Index {
    /// Opens the index of the store at `url` in a folder, which need not exist.
    #[must_use]
    pub fn open(folder: &Path, url: &str) -> Self {
        let path = folder.join(format!("{}.json", Digest::of(url.as_bytes())));
        let by_key = read(&path).unwrap_or_default();
        Self { path, entries: Mutex::new(Entries { by_key, is_changed: false }) }
    }

    /// Whether nothing of the store was ever read, or nothing is there any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).by_key.is_empty()
    }

    /// Gives what was read of this very object.
    pub(super) fn get(&self, facts: &ObjectFacts) -> Option<Vec<u8>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.by_key.get(facts.key.as_str()).filter(|entry| entry.mark == mark(facts))?;
        let text = entry.text.clone().into_bytes();
        (Digest::of(&text) == entry.sha256).then_some(text)
    }

    /// Keeps what was read.
    pub(super) fn keep(&self, facts: &ObjectFacts, text: &[u8]) {
        let Ok(text) = String::from_utf8(text.to_vec()) else { return };
        let entry = Entry { mark: mark(facts), sha256: Digest::of(text.as_bytes()), text };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.by_key.insert(facts.key.to_string(), entry);
        entries.is_changed = true;
    }

    /// Forgets what begins with `prefix` and is not there any more.
    pub(super) fn forget_others(&self, prefix: &str, there: &BTreeSet<&str>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let before = entries.by_key.len();
        entries.by_key.retain(|key, _| !key.starts_with(prefix) || there.contains(key.as_str()));
        entries.is_changed |= entries.by_key.len() != before;
    }

    /// Writes the index, if anything changed. Not durable: it can always be made again.
    ///
    /// # Errors
    /// Fails when the folder cannot be written.
    pub fn save(&self) -> io::Result<()> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(folder) = self.path.parent().filter(|_| entries.is_changed) else { return Ok(()) };
        std::fs::create_dir_all(folder)?;
        let mut staged = tempfile::NamedTempFile::new_in(folder)?;
        staged.write_all(&serde_json::to_vec(&entries.by_key)?)?;
        staged.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

fn read(path: &Path) -> Option<BTreeMap<String, Entry>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(LIMIT).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}
