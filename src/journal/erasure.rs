//! The erasure ledger: what must be forgotten, also by backups that are restored later.
//!
//! `erasure.jsonl` stands beside the ledger of runs and is chained like it: `hash` is the last member of each line
//! and covers the line without it, `prev` is the hash of the line before. It holds keyed hashes and never an
//! identifier: without the key nobody can tell whom a line is about. Lines are only ever added.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chain::{check_hash, seal, whole_line_prefix};
use super::durable;
use crate::base::secret::SecretText;
use crate::base::{Digest, Timestamp, clock};

/// The erasure ledger's name below the state root.
pub const ERASURE_FILE: &str = "erasure.jsonl";

/// What the id of a key is the keyed hash of.
const KEY_ID: &[u8] = b"runbook erasure key";

/// The shortest key that is taken.
const SHORTEST_KEY: usize = 32;

/// The erasure ledger of one state root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureLedger {
    path: PathBuf,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErasureLine {
    /// The version of this format: 1.
    pub format: u32,
    /// Gapless, from 1.
    pub n: u64,
    /// When it was written.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The hash of the line before; of nothing for the first.
    #[schemars(with = "String")]
    pub prev: Digest,
    /// Who asked for it.
    pub by: String,
    /// What must be forgotten.
    pub forget: Forget,
}

/// What must be forgotten: rows whose column has a value with this keyed hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forget {
    /// HMAC-SHA256 of the value's text in UTF-8, as 64 hex digits.
    pub subject: String,
    /// The first 16 hex digits of the HMAC of `runbook erasure key`: tells one key from another.
    pub key_id: String,
    /// The database of the inventory.
    pub database: String,
    /// The table, with its schema when it is not `public`.
    pub table: String,
    /// The column.
    pub column: String,
    /// Why, without anything that tells who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A ledger as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureContent {
    /// The lines that can be read, in order.
    pub lines: Vec<ErasureLine>,
    /// What does not hold, with the line's number in the file.
    pub problems: Vec<(u64, String)>,
    /// The hash of the last line.
    pub head: Digest,
}

/// The erasure ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// A file operation failed.
    #[error("the erasure ledger `{}` cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// What is there does not hold together: nothing is added to it.
    #[error("line {line} of the erasure ledger does not hold: {what}")]
    Broken {
        /// The line.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// The key could be guessed.
    #[error("the key has {0} bytes; at least 32 are needed")]
    ShortKey(usize),
}

/// What hashes subjects. Never in `Debug`.
pub struct ErasureKey(Hmac<sha2::Sha256>);

impl ErasureKey {
    /// Takes a key of at least 32 bytes.
    ///
    /// # Errors
    /// Fails for a shorter one.
    pub fn new(secret: &SecretText) -> Result<Self, ErasureError> {
        let key = secret.reveal().as_bytes();
        let long = Some(key).filter(|key| key.len() >= SHORTEST_KEY).and_then(|key| Hmac::new_from_slice(key).ok());
        long.map(Self).ok_or(ErasureError::ShortKey(key.len()))
    }

    /// The keyed hash of a value.
    #[must_use]
    pub fn subject(&self, value: &str) -> String {
        self.hash(value.as_bytes())
    }

    /// What tells this key from another one.
    #[must_use]
    pub fn id(&self) -> String {
        self.hash(KEY_ID).get(..16).unwrap_or_default().to_owned()
    }

    fn hash(&self, bytes: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(bytes);
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for ErasureKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ErasureKey(***)")
    }
}

impl ErasureLedger {
    /// The erasure ledger below a state root.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { path: root.join(ERASURE_FILE) }
    }

    /// Adds a line, durably. The same thing to forget again is no second line.
    ///
    /// # Errors
    /// Fails when the file cannot be written, or when what is there does not hold together.
    pub fn add(&self, by: &str, forget: Forget) -> Result<ErasureLine, ErasureError> {
        let failed = |source| self.failed(source);
        let mut file = durable::open_file(&self.path).map_err(failed)?;
        file.lock().map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let (whole, open) = whole_part(&bytes);
        let content = ErasureContent::scan(whole);
        if let Some((line, what)) = content.problems.first().cloned() {
            return Err(ErasureError::Broken { line, what });
        }
        if let Some(known) = content.lines.iter().find(|line| line.forget == forget) {
            return Ok(known.clone());
        }
        let n = content.lines.last().map_or(0, |line| line.n) + 1;
        let line = ErasureLine { format: 1, n, at: clock::now(), prev: content.head, by: by.to_owned(), forget };
        let mut write = || {
            // A torn line was never durable, and one that only lacks its newline gets it.
            file.set_len(whole.len() as u64)?;
            if open {
                file.write_all(b"\n")?;
            }
            file.write_all(&seal(serde_json::to_vec(&line)?).0)?;
            file.sync_all()?;
            durable::sync_dir(self.path.parent().unwrap_or(Path::new("/")))
        };
        write().map_err(failed)?;
        Ok(line)
    }

    /// Reads and verifies the ledger; a missing one is empty. Modifies nothing.
    ///
    /// # Errors
    /// Fails when the file cannot be read. What does not hold together is content, not an error.
    pub fn read(&self) -> Result<ErasureContent, ErasureError> {
        Ok(ErasureContent::scan(whole_part(&self.bytes()?).0))
    }

    /// Reads the file as it is; a missing one is empty.
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    pub fn bytes(&self) -> Result<Vec<u8>, ErasureError> {
        match std::fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(|source| self.failed(source)),
        }
    }

    fn failed(&self, source: io::Error) -> ErasureError {
        ErasureError::File { path: self.path.clone(), source }
    }
}

/// The bytes that count, and whether the last line only lacks its newline.
fn whole_part(bytes: &[u8]) -> (&[u8], bool) {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    match whole_line_prefix(&bytes[end..]) {
        Some(_) => (bytes, true),
        None => (&bytes[..end], false),
    }
}

impl ErasureContent {
    /// Reads the bytes of a ledger.
    #[must_use]
    pub fn scan(bytes: &[u8]) -> Self {
        let mut content = Self { lines: Vec::new(), problems: Vec::new(), head: Digest::of(b"") };
        for (index, line) in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
            content.take(index as u64 + 1, line);
        }
        content
    }

    fn take(&mut self, number: u64, text: &[u8]) {
        #[derive(Deserialize)]
        struct Hashed {
            hash: Digest,
            #[serde(flatten)]
            line: ErasureLine,
        }
        if let Err(broken) = check_hash(text) {
            self.problems.push((number, broken.to_string()));
        }
        let Ok(Hashed { hash, line }) = serde_json::from_slice(text) else {
            self.problems.push((number, "the line cannot be read".to_owned()));
            self.head = Digest::of(text);
            return;
        };
        if line.prev != self.head || line.n != self.lines.last().map_or(0, |line| line.n) + 1 {
            self.problems.push((number, "the line does not follow the one before it".to_owned()));
        }
        self.head = hash;
        self.lines.push(line);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

    use super::{ERASURE_FILE, ErasureError, ErasureKey, ErasureLedger, Forget};
    use crate::base::secret::SecretText;

    fn key() -> ErasureKey {
        ErasureKey::new(&SecretText::new("k".repeat(32))).unwrap()
    }

    fn forget(value: &str) -> Forget {
        let (database, table, column) = ("orders".to_owned(), "users".to_owned(), "email".to_owned());
        Forget { subject: key().subject(value), key_id: key().id(), database, table, column, reason: None }
    }

    #[test]
    fn lines_are_chained_said_once_and_hold_no_identifier() {
        let root = tempfile::tempdir().unwrap();
        let ledger = ErasureLedger::below(root.path());
        let first = ledger.add("ann", forget("bob@example.org")).unwrap();
        assert_eq!(ledger.add("ann", forget("bob@example.org")).unwrap(), first, "once is enough");
        assert_eq!(ledger.add("ann", forget("eve@example.org")).unwrap().n, 2);
        let content = ledger.read().unwrap();
        assert!(content.problems.is_empty(), "{:?}", content.problems);
        assert!(!String::from_utf8(ledger.bytes().unwrap()).unwrap().contains("example.org"));
    }

    #[test]
    fn an_altered_line_is_named_and_nothing_is_added_after_it() {
        let root = tempfile::tempdir().unwrap();
        let ledger = ErasureLedger::below(root.path());
        ledger.add("ann", forget("bob")).unwrap();
        let path = root.path().join(ERASURE_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"users\"", "\"other\"")).unwrap();
        assert_eq!(ledger.read().unwrap().problems.len(), 1);
        assert!(matches!(ledger.add("ann", forget("eve")), Err(ErasureError::Broken { line: 1, .. })));
    }

    #[test]
    fn a_torn_line_is_cut_and_a_missing_newline_is_added() {
        let root = tempfile::tempdir().unwrap();
        let ledger = ErasureLedger::below(root.path());
        ledger.add("ann", forget("bob")).unwrap();
        let path = root.path().join(ERASURE_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        for tail in ["", "\n{\"format\":1,\"n\":2,"] {
            std::fs::write(&path, format!("{}{tail}", text.trim_end())).unwrap();
            ledger.add("ann", forget("eve")).unwrap();
            let content = ledger.read().unwrap();
            assert!(content.problems.is_empty() && content.lines.len() == 2, "{content:?}");
        }
    }

    #[test]
    fn a_short_key_is_refused_and_the_hash_is_that_of_rfc_4231() {
        assert!(matches!(ErasureKey::new(&SecretText::new("k".repeat(31))), Err(ErasureError::ShortKey(31))));
        let long = ErasureKey(super::KeyInit::new_from_slice(b"Jefe").unwrap());
        let known = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(long.subject("what do ya want for nothing?"), known);
    }
}
