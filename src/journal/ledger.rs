//! The ledger beside `runs/`: each run anchored at its start and at its end, so that a removed or exchanged run shows.
//!
//! `ledger.jsonl` is chained like a journal: `hash` is the last member and covers the line without it, `prev`
//! is the hash of the line before. Appending needs nothing but the last line: a ledger with damage further up
//! still takes new anchors in a disaster, and [`Ledger::read`] keeps naming the damage. What it cannot show
//! alone is the removal of its own last lines together with their runs; a copy elsewhere can.

mod order;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::durable;
use crate::base::seal::{check_hash, seal, whole_line_prefix};
use crate::base::{Digest, EventSeq, RunId, Timestamp, clock};
use crate::event::{Event, EventKind, Outcome};

pub use order::RunOrder;

/// The ledger's name below the state root.
pub const LEDGER_FILE: &str = "ledger.jsonl";

/// The ledger of one state root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    path: PathBuf,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerLine {
    /// Gapless, from 1.
    pub n: u64,
    /// When it was written.
    pub at: Timestamp,
    /// The hash of the line before; of nothing for the first.
    pub prev: Digest,
    /// What it anchors.
    pub anchor: Anchor,
}

/// What a line anchors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Anchor {
    /// A run was created.
    Started {
        /// The run.
        run: RunId,
        /// The digest of its `plan.json`.
        plan: Digest,
    },
    /// A run is over.
    Finished {
        /// The run.
        run: RunId,
        /// The number of its last event.
        seq: EventSeq,
        /// The hash of its last event.
        head: Digest,
        /// How it ended.
        outcome: Outcome,
    },
    /// Written by a newer version.
    #[serde(other)]
    Unknown,
}

/// A ledger as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerContent {
    /// The lines that can be read, in order.
    pub lines: Vec<LedgerLine>,
    /// What does not hold, with the line's number in the file.
    pub problems: Vec<(u64, String)>,
    /// The hash of the last line.
    pub head: Digest,
    /// The number the next line gets.
    next: u64,
    tail: LedgerTail,
}

/// What stands after the last newline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LedgerTail {
    Clean,
    /// A line that only lacks its newline.
    Open,
    /// A torn write, never durable.
    Torn {
        bytes: usize,
    },
}

/// Whether an anchor was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchored {
    /// It is there now.
    Written,
    /// It was there already.
    AlreadyThere,
}

/// The ledger cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A file operation failed.
    #[error("the ledger `{}` cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The event is not the end of a run.
    #[error("event {seq} of run `{run}` is not the end of the run")]
    NotAnEnd {
        /// The run.
        run: RunId,
        /// The event.
        seq: EventSeq,
    },
}

impl Ledger {
    /// The ledger below a state root.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { path: root.join(LEDGER_FILE) }
    }

    /// Anchors the start of a run, durably. Idempotent.
    ///
    /// # Errors
    /// Fails when the ledger cannot be written.
    pub fn start(&self, run: &RunId, plan: Digest) -> Result<Anchored, LedgerError> {
        self.append(Anchor::Started { run: run.clone(), plan })
    }

    /// Anchors the end of a run by its last event, durably. Idempotent: a resume completes a missing line.
    ///
    /// # Errors
    /// Fails when the event is not the end of a run or the ledger cannot be written.
    pub fn finish(&self, last: &Event) -> Result<Anchored, LedgerError> {
        match last.kind {
            EventKind::RunFinished { outcome, .. } => {
                self.append(Anchor::Finished { run: last.run.clone(), seq: last.seq, head: last.hash, outcome })
            }
            _ => Err(LedgerError::NotAnEnd { run: last.run.clone(), seq: last.seq }),
        }
    }

    /// Reads and verifies the ledger; a missing one is empty. Modifies nothing.
    ///
    /// # Errors
    /// Fails when the file cannot be read. What does not hold together is content, not an error.
    pub fn read(&self) -> Result<LedgerContent, LedgerError> {
        let bytes = self.bytes()?;
        Ok(LedgerContent::scan(&bytes))
    }

    /// Gives the number of lines and the hash of the last one, without verifying those before it.
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    pub fn tip(&self) -> Result<(u64, Digest), LedgerError> {
        let tip = Tip::of(&self.bytes()?);
        Ok((tip.next - 1, tip.head))
    }

    /// Reads the file as it is; a missing one is empty.
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    pub fn bytes(&self) -> Result<Vec<u8>, LedgerError> {
        let read = || match File::open(&self.path) {
            Ok(mut file) => {
                file.lock_shared()?;
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                Ok(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        read().map_err(|source| self.failed(source))
    }

    fn append(&self, anchor: Anchor) -> Result<Anchored, LedgerError> {
        self.append_locked(anchor).map_err(|source| self.failed(source))
    }

    fn append_locked(&self, anchor: Anchor) -> io::Result<Anchored> {
        let mut file = durable::open_file(&self.path)?;
        file.lock()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if names(&bytes, &anchor) {
            file.sync_all()?;
            return Ok(Anchored::AlreadyThere);
        }
        let tip = Tip::of(&bytes);
        match tip.tail {
            LedgerTail::Clean => {}
            LedgerTail::Open => file.write_all(b"\n")?,
            LedgerTail::Torn { bytes: torn } => file.set_len((bytes.len() - torn) as u64)?,
        }
        let line = LedgerLine { n: tip.next, at: clock::now(), prev: tip.head, anchor };
        file.write_all(&seal(serde_json::to_vec(&line)?).0)?;
        file.sync_all()?;
        durable::sync_dir(self.path.parent().unwrap_or(Path::new("/")))?;
        Ok(Anchored::Written)
    }

    fn failed(&self, source: io::Error) -> LedgerError {
        LedgerError::File { path: self.path.clone(), source }
    }
}

/// Where the next line goes: all that appending needs, however long the ledger is.
struct Tip {
    next: u64,
    head: Digest,
    tail: LedgerTail,
}

impl Tip {
    fn of(bytes: &[u8]) -> Self {
        let (counted, tail) = cut_tail(bytes);
        let last = counted.strip_suffix(b"\n").unwrap_or(counted);
        let last = &last[last.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)..];
        match read_line(last) {
            Some((line, hash)) => Self { next: line.n.saturating_add(1), head: hash, tail },
            // What an unreadable last line is numbered, only the lines before it tell.
            None => {
                let LedgerContent { next, head, tail, .. } = LedgerContent::scan(bytes);
                Self { next, head, tail }
            }
        }
    }
}

/// Tells whether an anchor stands in the ledger, by reading only the lines that name its run.
fn names(bytes: &[u8], anchor: &Anchor) -> bool {
    let (Anchor::Started { run, .. } | Anchor::Finished { run, .. }) = anchor else { return false };
    let text = String::from_utf8_lossy(bytes);
    text.match_indices(run.as_str()).any(|(at, _)| {
        let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
        read_line(text[start..end].as_bytes()).is_some_and(|(line, _)| line.anchor == *anchor)
    })
}

fn read_line(line: &[u8]) -> Option<(LedgerLine, Digest)> {
    #[derive(Deserialize)]
    struct Hashed {
        hash: Digest,
    }
    let line_of = serde_json::from_slice(line).ok()?;
    serde_json::from_slice(line).ok().map(|Hashed { hash }| (line_of, hash))
}

/// Gives the bytes that count, and what stands after them.
fn cut_tail(bytes: &[u8]) -> (&[u8], LedgerTail) {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let rest = &bytes[end..];
    match (rest.is_empty(), whole_line_prefix(rest)) {
        (true, _) => (bytes, LedgerTail::Clean),
        (false, Some(_)) => (bytes, LedgerTail::Open),
        (false, None) => (&bytes[..end], LedgerTail::Torn { bytes: rest.len() }),
    }
}

impl Anchor {
    /// The run whose end it anchors.
    #[must_use]
    pub fn finished_run(&self) -> Option<&RunId> {
        match self {
            Self::Finished { run, .. } => Some(run),
            Self::Started { .. } | Self::Unknown => None,
        }
    }
}

impl LedgerContent {
    /// Reads the bytes of a ledger. A torn last line counts as never written.
    #[must_use]
    pub fn scan(bytes: &[u8]) -> Self {
        let (counted, tail) = cut_tail(bytes);
        let mut content = Self { lines: Vec::new(), problems: Vec::new(), head: Digest::of(b""), next: 1, tail };
        for (index, line) in counted.split_inclusive(|byte| *byte == b'\n').enumerate() {
            content.take(index as u64 + 1, line.strip_suffix(b"\n").unwrap_or(line));
        }
        content
    }

    fn take(&mut self, number: u64, line: &[u8]) {
        if let Err(broken) = check_hash(line) {
            self.problems.push((number, broken.to_string()));
        }
        let Some((entry, hash)) = read_line(line) else {
            self.problems.push((number, "the line cannot be read".to_owned()));
            (self.head, self.next) = (Digest::of(line), self.next.saturating_add(1));
            return;
        };
        if entry.prev != self.head || entry.n != self.next {
            self.problems.push((number, "the line does not follow the one before it: lines are missing".to_owned()));
        }
        (self.head, self.next) = (hash, entry.n.saturating_add(1));
        self.lines.push(entry);
    }

    /// Gives the hash of the line with a number.
    #[must_use]
    pub fn hash_of(&self, n: u64) -> Option<Digest> {
        let at = self.lines.iter().position(|line| line.n == n)?;
        Some(self.lines.get(at + 1).map_or(self.head, |next| next.prev))
    }

    /// Gives what anchors the start of a run: the digest of its plan.
    #[must_use]
    pub fn started(&self, id: &RunId) -> Option<Digest> {
        self.lines.iter().find_map(|line| match &line.anchor {
            Anchor::Started { run, plan } if run == id => Some(*plan),
            Anchor::Started { .. } | Anchor::Finished { .. } | Anchor::Unknown => None,
        })
    }

    /// Gives what anchors the end of a run: the number and hash of its last event.
    #[must_use]
    pub fn finished(&self, id: &RunId) -> Option<(EventSeq, Digest)> {
        self.lines.iter().find_map(|line| match &line.anchor {
            Anchor::Finished { run, seq, head, .. } if run == id => Some((*seq, *head)),
            Anchor::Started { .. } | Anchor::Finished { .. } | Anchor::Unknown => None,
        })
    }
}

#[cfg(test)]
mod tests;
