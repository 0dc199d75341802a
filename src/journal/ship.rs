//! Copies runs and ledger into a store: the machine with the journal may be the one that burns.
//!
//! ```text
//! runbook-audit/objects/<sha256>                          each file's content, once
//! runbook-audit/runs/<run>.json                           names the files of a finished run; written last
//! runbook-audit/ledger/<first line>/<from>-<to>-<hash>    lines of the ledger, appended segment by segment
//! runbook-audit/erasure/<number>-<digest>                 lines of the erasure ledger, one by one
//! ```
//!
//! Nothing is ever replaced. Everything written is read back and its digest compared before the next thing relies
//! on it. What the store has already is compared with what is here: a run or ledger that differs is named.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use super::erasure::{ERASURE_FILE, ErasureLedger};
use super::file::JOURNAL_FILE;
use super::ledger::{LedgerContent, LedgerError};
use super::reader::PLAN_FILE;
use super::run::RunDir;
use super::runs::{Runs, RunsError};
use super::summary::{RunStatus, RunSummary};
use crate::action::{
    ObjectKey, ParseObjectKeyError, PutOptions, SHIPPED, Store, StoreError, holds_all, shipped_chains,
};
use crate::base::digest::Hasher;
use crate::base::{Digest, RunId};

/// Everything shipped lies below this prefix.
pub const SHIP_PREFIX: &str = "runbook-audit";

/// No description of a run in a store is larger.
const LARGEST_DESCRIPTION: u64 = 64 << 20;

/// The files of a shipped run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippedRun {
    /// The version of this format.
    pub format: u32,
    /// The run.
    pub run: RunId,
    /// Each file's path in the run's folder, and the digest its content is kept by.
    pub files: BTreeMap<String, Digest>,
}

/// What was shipped, and what differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Shipped {
    /// Runs shipped now.
    pub runs: Vec<RunId>,
    /// How many the store had already.
    pub had: usize,
    /// How many have not ended yet and wait.
    pub unfinished: usize,
    /// Lines of the ledger shipped now.
    pub ledger_lines: u64,
    /// What is here otherwise than in the store.
    pub differing: Vec<String>,
}

/// Nothing more can be shipped.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was written reads back otherwise.
    #[error("`{0}` reads back from the store with another digest")]
    ReadBack(ObjectKey),
    /// A file's name cannot be one in a store.
    #[error(transparent)]
    Key(#[from] ParseObjectKeyError),
    /// A file here cannot be read.
    #[error("`{}` cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The history here cannot be read.
    #[error(transparent)]
    Runs(#[from] RunsError),
    /// The erasure ledger that was shipped cannot be read.
    #[error("{0}")]
    Erasures(String),
    /// The ledger here cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Ships runs into one store.
pub struct Shipper<'a> {
    runs: &'a Runs,
    store: &'a dyn Store,
    shipped: Shipped,
}

impl<'a> Shipper<'a> {
    /// Prepares; nothing is read yet.
    #[must_use]
    pub fn new(runs: &'a Runs, store: &'a dyn Store) -> Self {
        Self { runs, store, shipped: Shipped::default() }
    }

    /// Ships the ended ones of these runs that the store lacks, then the ledger. Idempotent.
    ///
    /// # Errors
    /// Fails at the first thing that cannot be read, written or read back; trying again goes on from there.
    pub async fn ship(mut self, ids: &[RunId]) -> Result<Shipped, ShipError> {
        let listed = self.store.list(&format!("{SHIP_PREFIX}/runs/")).await?;
        let there: BTreeSet<String> = listed.into_iter().map(|facts| facts.key.as_str().to_owned()).collect();
        for id in ids {
            let dir = self.runs.dir(id);
            let key = run_key(id)?;
            if there.contains(key.as_str()) {
                self.compare(&dir, &key).await?;
            } else if matches!(RunSummary::of(&dir).status, RunStatus::Finished { .. }) {
                self.ship_run(&dir, &key).await?;
            } else {
                self.shipped.unfinished += 1;
            }
        }
        self.ship_ledger().await?;
        self.ship_erasures().await?;
        Ok(self.shipped)
    }

    /// A shipped run must still be what it was: its plan and journal, which never change after the end.
    async fn compare(&mut self, dir: &RunDir, key: &ObjectKey) -> Result<(), ShipError> {
        self.shipped.had += 1;
        let mut text = Vec::new();
        let body = self.store.get(key).await?;
        body.take(LARGEST_DESCRIPTION).read_to_end(&mut text).await.map_err(|source| unread(key, source))?;
        let Ok(there) = serde_json::from_slice::<ShippedRun>(&text) else {
            self.shipped.differing.push(format!("`{key}` in the store cannot be read"));
            return Ok(());
        };
        for name in [PLAN_FILE, JOURNAL_FILE] {
            let path = dir.path().join(name);
            let bytes = std::fs::read(&path).map_err(|source| ShipError::File { path, source })?;
            if there.files.get(name) != Some(&Digest::of(&bytes)) {
                self.shipped.differing.push(format!("`{name}` of run `{}` is not the one that was shipped", dir.id()));
            }
        }
        Ok(())
    }

    async fn ship_run(&mut self, dir: &RunDir, key: &ObjectKey) -> Result<(), ShipError> {
        let mut files = BTreeMap::new();
        for (name, path) in final_files(dir.path())? {
            let bytes = std::fs::read(&path).map_err(|source| ShipError::File { path, source })?;
            let digest = Digest::of(&bytes);
            self.put(&format!("{SHIP_PREFIX}/objects/{digest}").parse()?, bytes).await?;
            files.insert(name, digest);
        }
        let description = ShippedRun { format: 1, run: dir.id().clone(), files };
        let text = serde_json::to_vec_pretty(&description)
            .map_err(|error| ShipError::File { path: dir.path().to_owned(), source: error.into() })?;
        self.put(key, text).await?;
        self.shipped.runs.push(dir.id().clone());
        Ok(())
    }

    /// Ships the lines after the last segment that the store has.
    async fn ship_ledger(&mut self) -> Result<(), ShipError> {
        let bytes = self.runs.ledger().bytes()?;
        let whole = &bytes[..bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)];
        let content = LedgerContent::scan(whole);
        let (Some(first), Some(last)) = (content.lines.first(), content.lines.last()) else { return Ok(()) };
        let folder = format!("{SHIP_PREFIX}/ledger/{}", content.hash_of(first.n).unwrap_or_default());
        let listed = self.store.list(&format!("{folder}/")).await?;
        let newest = listed.iter().filter_map(|facts| segment(facts.key.as_str())).max();
        let from = match newest {
            None => first.n,
            Some((to, head)) if content.hash_of(to).map(|hash| hash.short()).as_deref() == Some(head) => to + 1,
            Some((to, _)) => {
                let what = format!("line {to} of the ledger is not the one that was shipped, or it is gone");
                self.shipped.differing.push(what);
                return Ok(());
            }
        };
        if from > last.n {
            return Ok(());
        }
        let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        let Some(at) = lines.len().checked_sub((last.n - from + 1) as usize) else { return Ok(()) };
        let key = format!("{folder}/{from:08}-{:08}-{}", last.n, content.head.short());
        self.put(&key.parse()?, lines[at..].concat()).await?;
        self.shipped.ledger_lines = last.n - from + 1;
        Ok(())
    }

    /// Ships each line of the erasure ledger that the store lacks, under its number and hash.
    async fn ship_erasures(&mut self) -> Result<(), ShipError> {
        let ledger = ErasureLedger::below(self.runs.root());
        let bytes = ledger
            .bytes()
            .map_err(|error| ShipError::File { path: PathBuf::from(ERASURE_FILE), source: io::Error::other(error) })?;
        let listed = self.store.list(SHIPPED).await?;
        let there: BTreeSet<&str> = listed.iter().map(|facts| facts.key.as_str()).collect();
        let lines = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let keyed = |(index, line): (usize, &[u8])| {
            (format!("{SHIPPED}{:08}-{}", index + 1, Digest::of(line).short()), line.to_vec())
        };
        let here: BTreeMap<String, Vec<u8>> = lines.enumerate().map(keyed).collect();
        // Lines that are not here may be those of another machine: nothing is put beside them that contradicts them.
        if there.iter().any(|key| !here.contains_key(*key)) {
            let chains = shipped_chains(self.store).await.map_err(|error| ShipError::Erasures(error.to_string()))?;
            if !chains.iter().all(|chain| holds_all(&bytes, chain)) {
                let what = "lines of the erasure ledger were shipped that are not here, and none was added to them: \
                            `runbook backups erase-ledger merge` brings them in";
                self.shipped.differing.push(what.to_owned());
                return Ok(());
            }
        }
        for (key, line) in here {
            if !there.contains(key.as_str()) {
                self.put(&key.parse()?, line).await?;
            }
        }
        Ok(())
    }

    /// Puts an object unless it is there, and reads it back.
    async fn put(&self, key: &ObjectKey, bytes: Vec<u8>) -> Result<(), ShipError> {
        let digest = Digest::of(&bytes);
        let options = PutOptions { if_absent: true, ..PutOptions::default() };
        self.store.put(key, Box::new(io::Cursor::new(bytes)), options).await?;
        let mut body = self.store.get(key).await?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = body.read(&mut buffer).await.map_err(|source| unread(key, source))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
        }
        if hasher.finish() == digest { Ok(()) } else { Err(ShipError::ReadBack(key.clone())) }
    }
}

fn run_key(id: &RunId) -> Result<ObjectKey, ParseObjectKeyError> {
    format!("{SHIP_PREFIX}/runs/{id}.json").parse()
}

fn unread(key: &ObjectKey, source: io::Error) -> ShipError {
    ShipError::File { path: PathBuf::from(key.as_str()), source }
}

/// Reads the last line's number and hash from a segment's key.
fn segment(key: &str) -> Option<(u64, &str)> {
    let mut parts = key.rsplit('/').next()?.splitn(3, '-');
    let (_, to, head) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    Some((to, head))
}

/// The files of an ended run that do not change any more, by their path in its folder, sorted.
///
/// # Errors
/// Fails when a folder cannot be read.
pub(super) fn final_files(folder: &Path) -> Result<BTreeMap<String, PathBuf>, ShipError> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let failed = |source| ShipError::File { path: next.clone(), source };
        for entry in std::fs::read_dir(&next).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let path = entry.path();
            let Some(name) = path.strip_prefix(folder).ok().and_then(Path::to_str).map(str::to_owned) else { continue };
            let passing = ["control", "lock"].contains(&name.as_str()) || name.ends_with(".part");
            if passing {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                files.insert(name, path);
            }
        }
    }
    Ok(files)
}
