//! The file of the erasure ledger: what must be forgotten, also by backups that are restored later.
//!
//! `erasure.jsonl` stands beside the ledger of runs. What a line says, and how lines hold together, is
//! [`crate::action`]'s: a restore reads them, too. Lines are only ever added.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::durable;
use crate::action::{ActionError, ErasureContent, ErasureLine, Erasures, Forget, whole_part};
use crate::base::clock;
use crate::base::seal::seal;

/// The erasure ledger's name below the state root.
pub const ERASURE_FILE: &str = "erasure.jsonl";

/// The erasure ledger of one state root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureLedger {
    path: PathBuf,
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
}

impl ErasureLedger {
    /// The erasure ledger below a state root.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { path: root.join(ERASURE_FILE) }
    }

    /// Adds a line, durably. The same thing once more is a second line: when it was last said matters, since whoever came
    /// back after the line is not erased by it.
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

    /// Goes on with lines that others wrote, durably: `ledger` is this one and more.
    ///
    /// # Errors
    /// Fails when the file cannot be written, or when it is no beginning of `ledger`.
    pub fn go_on(&self, ledger: &[u8]) -> Result<(), ErasureError> {
        let failed = |source| self.failed(source);
        let mut file = durable::open_file(&self.path).map_err(failed)?;
        file.lock().map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let (whole, _) = whole_part(&bytes);
        let Some(more) = ledger.strip_prefix(whole) else {
            return Err(failed(io::Error::other("somebody else has written to it since it was read; try again")));
        };
        let mut write = || {
            file.set_len(whole.len() as u64)?;
            file.write_all(more)?;
            file.sync_all()?;
            durable::sync_dir(self.path.parent().unwrap_or(Path::new("/")))
        };
        write().map_err(failed)
    }

    /// Reads and verifies the ledger; a missing one is empty. Modifies nothing.
    ///
    /// # Errors
    /// Fails when the file cannot be read. What does not hold together is content, not an error.
    pub fn read(&self) -> Result<ErasureContent, ErasureError> {
        Ok(ErasureContent::scan(&self.bytes()?))
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

impl Erasures for ErasureLedger {
    fn bytes(&self) -> Result<Vec<u8>, ActionError> {
        self.bytes().map_err(|error| ActionError::fatal("the erasure ledger cannot be read").because(&error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

    use super::{ERASURE_FILE, ErasureError, ErasureLedger, Forget};
    use crate::action::{ErasureKey, Treatment, Word};
    use crate::base::secret::SecretText;

    fn key() -> ErasureKey {
        ErasureKey::new(&SecretText::new("k".repeat(32))).unwrap()
    }

    fn forget(value: &str) -> Forget {
        let (database, table, column) = ("orders".to_owned(), "users".to_owned(), "email".to_owned());
        let (subject, key_id) = (key().subject(value), key().id());
        let (treatment, word, dbname, reason) = (Treatment::Delete, Word::Forget, None, None);
        Forget { subject, key_id, database, dbname, table, column, word, treatment, reason }
    }

    #[test]
    fn lines_are_chained_counted_once_and_hold_no_identifier() {
        let root = tempfile::tempdir().unwrap();
        let ledger = ErasureLedger::below(root.path());
        ledger.add("ann", forget("bob@example.org")).unwrap();
        ledger.add("ann", forget("bob@example.org")).unwrap();
        ledger.add("ann", forget("eve@example.org")).unwrap();
        let lift = Forget { word: Word::Lift, ..forget("eve@example.org") };
        assert_eq!(ledger.add("ann", lift).unwrap().n, 4);
        let content = ledger.read().unwrap();
        assert!(content.problems.is_empty(), "{:?}", content.problems);
        let counts: Vec<u64> = content.in_force().iter().map(|line| line.n).collect();
        assert_eq!(counts, [2], "the newest of two that say the same; what was lifted is nobody's");
        assert_eq!(ledger.add("ann", forget("eve@example.org")).unwrap().n, 5);
        assert_eq!(ledger.read().unwrap().in_force().len(), 2, "and again after that");
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
}
