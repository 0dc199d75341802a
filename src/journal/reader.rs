//! Reads a run's journal back and holds every line against the chain.
//!
//! What a journal may end in, and what follows:
//!
//! | tail | verdict |
//! |---|---|
//! | nothing after the last newline | clean |
//! | a whole line with the right hash, its newline missing | kept |
//! | a whole line with the right hash followed by foreign bytes | corrupt |
//! | anything after the end of the run | corrupt |
//! | any other bytes without newline: a torn write, never durable | cut, with an event |
//!
//! A complete line with a wrong hash is corrupt wherever it stands. [`read`] never modifies anything.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Deserialize;

use super::chain::{Broken, Chain};
use super::file::{FileJournal, JOURNAL_FILE};
use crate::base::seal::whole_line_prefix;
use crate::base::{Digest, EventSeq, RunId, clock};
use crate::event::{Event, EventKind, RunHeader};
use crate::port::{Journal as _, JournalError};

/// The plan's name inside a run's folder.
pub const PLAN_FILE: &str = "plan.json";

/// A journal as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// The events, verified.
    pub events: Vec<Event>,
    /// The end of the chain.
    pub chain: Chain,
    /// How the file ends.
    pub tail: Tail,
    /// Number of bytes that belong to `events`.
    pub valid_bytes: u64,
}

/// How a journal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// In a newline, or the file is empty.
    Clean,
    /// In a whole line without its newline. The line counts.
    Unterminated,
    /// In part of a line, which does not count.
    Torn {
        /// Its length.
        bytes: u64,
    },
}

/// A journal that a new engine continues.
#[derive(Debug)]
pub struct Opened {
    /// The events, durable; a cut of the tail is the last of them.
    pub events: Vec<Event>,
    /// The journal, which continues them.
    pub journal: FileJournal,
    /// Number of bytes of a torn line that were cut.
    pub cut: Option<u64>,
}

/// Reads and verifies the journal in a run's folder. Modifies nothing.
///
/// # Errors
/// Fails when a file cannot be read, or the journal does not hold together or belongs to another plan.
pub fn read(dir: &Path) -> Result<History, JournalError> {
    let chain = chain_of(dir)?;
    let path = dir.join(JOURNAL_FILE);
    let bytes = std::fs::read(&path).map_err(|source| JournalError::Read { path, source })?;
    scan(&bytes, chain)
}

/// Gives what the first line of a journal says, unverified; `None` when there is no such line.
#[must_use]
pub fn header(dir: &Path) -> Option<RunHeader> {
    let mut line = Vec::new();
    let mut file = io::BufReader::new(std::fs::File::open(dir.join(JOURNAL_FILE)).ok()?);
    io::BufRead::read_until(&mut file, b'\n', &mut line).ok()?;
    let event: Event = serde_json::from_slice(&line).ok()?;
    if let EventKind::RunStarted(header) = event.kind { Some(*header) } else { None }
}

/// Reads the journal in a run's folder and opens it for the engine that goes on.
///
/// The caller holds the run's lock. A torn tail is cut and a [`EventKind::TailCut`] appended; everything
/// returned is durable, also what an earlier engine had written and not yet synced. Idempotent.
///
/// # Errors
/// Fails when the journal cannot be read or written, does not hold together or belongs to another plan.
pub fn open_for_resume(dir: &Path) -> Result<Opened, JournalError> {
    let chain = chain_of(dir)?;
    let run = chain.run().clone();
    let path = dir.join(JOURNAL_FILE);
    let unwritable = |source| JournalError::Write { run: run.clone(), source };
    let mut file = OpenOptions::new().read(true).append(true).open(&path).map_err(unwritable)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|source| JournalError::Read { path, source })?;
    let History { mut events, chain, tail, valid_bytes } = scan(&bytes, chain)?;
    let mended = match tail {
        Tail::Clean => Ok(()),
        Tail::Unterminated => io::Write::write_all(&mut file, b"\n"),
        Tail::Torn { .. } => file.set_len(valid_bytes),
    };
    mended.and_then(|()| file.sync_all()).map_err(unwritable)?;
    let mut journal = FileJournal::over(file, chain).map_err(unwritable)?;
    let cut = match tail {
        Tail::Torn { bytes } => Some(bytes),
        Tail::Clean | Tail::Unterminated => None,
    };
    // A journal whose very first line was torn has no run to note it in; its caller learns of `cut`.
    if let (Some(bytes), false) = (cut, events.is_empty()) {
        events.extend(journal.append(clock::now(), vec![EventKind::TailCut { bytes }])?);
        journal.sync()?;
    }
    Ok(Opened { events, journal, cut })
}

/// Verifies the bytes of a journal from the end of `chain` on.
///
/// # Errors
/// Fails at the first line that does not hold.
pub fn scan(bytes: &[u8], mut chain: Chain) -> Result<History, JournalError> {
    let mut events = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let event = chain.verify(&rest[..end]).map_err(|broken| corrupt(&chain, broken))?;
        events.push(event);
        rest = &rest[end + 1..];
    }
    let tail = judge_tail(rest, &mut chain, &mut events)?;
    let torn = match tail {
        Tail::Torn { bytes } => bytes,
        Tail::Clean | Tail::Unterminated => 0,
    };
    Ok(History { events, chain, tail, valid_bytes: bytes.len() as u64 - torn })
}

fn judge_tail(rest: &[u8], chain: &mut Chain, events: &mut Vec<Event>) -> Result<Tail, JournalError> {
    if rest.is_empty() {
        return Ok(Tail::Clean);
    }
    if let Some(Event { kind: EventKind::RunFinished { .. }, .. }) = events.last() {
        return Err(named(chain, format!("{} bytes follow the end of the run", rest.len())));
    }
    match whole_line_prefix(rest) {
        Some(end) if end == rest.len() => {
            let event = chain.verify(rest).map_err(|broken| corrupt(chain, broken))?;
            events.push(event);
            Ok(Tail::Unterminated)
        }
        Some(end) => Err(named(chain, format!("{} foreign bytes follow a whole line", rest.len() - end))),
        None => Ok(Tail::Torn { bytes: rest.len() as u64 }),
    }
}

#[derive(Deserialize)]
struct PlanIdentity {
    run: String,
}

/// Gives the empty chain of the run in a folder: its id and the digest of its plan.
///
/// # Errors
/// Fails when `plan.json` cannot be read or names no run.
pub fn chain_of(dir: &Path) -> Result<Chain, JournalError> {
    let path = dir.join(PLAN_FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) => return Err(JournalError::Read { path, source }),
    };
    let bad = |what: String| JournalError::Plan { path: path.clone(), what };
    let identity: PlanIdentity = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    let run: RunId = identity.run.parse().map_err(|error: crate::base::id::ParseIdError| bad(error.to_string()))?;
    Ok(Chain::start(run, Digest::of(&bytes)))
}

fn corrupt(chain: &Chain, broken: Broken) -> JournalError {
    match broken {
        Broken::WrongPrev { expected, found } if chain.seq() == EventSeq(0) => {
            JournalError::OtherPlan { run: chain.run().clone(), expected, found }
        }
        other => named(chain, other.to_string()),
    }
}

fn named(chain: &Chain, what: String) -> JournalError {
    JournalError::Corrupt { run: chain.run().clone(), seq: chain.seq().next(), what }
}

#[cfg(test)]
mod tests;
