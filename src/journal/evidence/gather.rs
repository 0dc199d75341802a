//! Makes the bundle of a run.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use super::manifest::{FORMAT, Manifest, Member};
use super::readme::readme;
use super::tarball::{self, Writer};
use super::{LEDGER, MANIFEST, MANIFEST_SIGNATURE, document};
use crate::base::{Digest, RunId};
use crate::event::{Event, Outcome};
use crate::journal::file::JOURNAL_FILE;
use crate::journal::ledger::LedgerContent;
use crate::journal::run::RunDir;
use crate::journal::runs::{Runs, RunsError};
use crate::journal::ship::{ShipError, final_files};
use crate::journal::signature::{SignKey, SignatureError};
use crate::plan::BoundPlan;
use crate::port::JournalError;
use crate::state::{IllegalEvent, RunState};

/// No single file of a run is taken into a bundle when it is larger; it is named instead.
pub(super) const LARGEST_MEMBER: u64 = 256 << 20;

/// How hard the bundle is compressed.
const LEVEL: i32 = 3;

/// A member that another room makes, such as the report.
pub struct Extra {
    /// Its name.
    pub name: &'static str,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Whether the run has to have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finality {
    /// It has.
    Finished,
    /// It need not; the bundle says so.
    MayGoOn,
}

/// No bundle can be made.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// An engine drives the run.
    #[error("run `{0}` is live")]
    Live(RunId),
    /// The run has not ended.
    #[error("run `{0}` has not ended")]
    Unfinished(RunId),
    /// The run has no event.
    #[error("run `{0}` has not begun")]
    Empty(RunId),
    /// The journal or plan does not hold together.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The events tell no possible run.
    #[error("the journal does not tell a possible run")]
    Fold(#[from] IllegalEvent),
    /// The history cannot be read.
    #[error(transparent)]
    Runs(#[from] RunsError),
    /// A file of the run cannot be read.
    #[error("a file of the run cannot be read")]
    Files(#[from] ShipError),
    /// The manifest cannot be signed.
    #[error("the manifest cannot be signed")]
    Signature(#[from] SignatureError),
    /// A file cannot be read or the bundle not be written.
    #[error("`{}` cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Collects members before they are written in order.
struct Gathering {
    members: BTreeMap<String, Vec<u8>>,
    left_out: BTreeMap<String, u64>,
}

/// Writes the bundle of a run into `out`: every member, then the manifest, then its signature.
///
/// `extras` makes members of the plan and the folded state.
///
/// # Errors
/// Fails when the run is live, has not ended where it has to, does not hold together, or cannot be read or written.
pub fn write(
    (runs, dir): (&Runs, &RunDir),
    finality: Finality,
    key: Option<&SignKey>,
    extras: &dyn Fn(&BoundPlan, &RunState) -> Vec<Extra>,
    out: &mut dyn Write,
) -> Result<Manifest, EvidenceError> {
    if dir.is_live()? {
        return Err(EvidenceError::Live(dir.id().clone()));
    }
    let (plan, _) = dir.plan()?;
    let digest = dir.first_plan()?;
    let history = dir.read()?;
    let last = history.events.last().ok_or_else(|| EvidenceError::Empty(dir.id().clone()))?;
    let state = RunState::fold(&history.events)?;
    let outcome = state.finished.as_ref().map(|(outcome, ..)| *outcome);
    if outcome.is_none() && finality == Finality::Finished {
        return Err(EvidenceError::Unfinished(dir.id().clone()));
    }
    let mut gathering = Gathering { members: BTreeMap::new(), left_out: BTreeMap::new() };
    gathering.files(dir, history.valid_bytes)?;
    gathering.definition(&plan);
    gathering.documents(&plan, &history.events, &state);
    let ledger = runs.ledger().bytes().map_err(RunsError::from)?;
    gathering.members.insert(LEDGER.to_owned(), ledger_lines(&ledger, dir.id()));
    for extra in extras(&plan, &state) {
        gathering.members.insert(extra.name.to_owned(), extra.bytes);
    }
    let mut manifest = claims(&plan, digest, (last, outcome));
    gathering.members.insert("README.txt".to_owned(), readme(&manifest).into_bytes());
    manifest.left_out = gathering.left_out;
    manifest.members = gathering.members.iter().map(|(name, bytes)| (name.clone(), Member::of(bytes))).collect();
    pack(&manifest, &gathering.members, key, out)?;
    Ok(manifest)
}

fn claims(plan: &BoundPlan, digest: Digest, (last, outcome): (&Event, Option<Outcome>)) -> Manifest {
    Manifest {
        format: FORMAT,
        run: last.run.clone(),
        name: plan.name.clone(),
        outcome,
        finished: outcome.is_some(),
        at: last.at,
        plan: digest,
        seq: last.seq,
        head: last.hash,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        left_out: BTreeMap::new(),
        members: BTreeMap::new(),
    }
}

impl Member {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { size_bytes: bytes.len() as u64, sha256: Digest::of(bytes) }
    }
}

impl Gathering {
    /// Takes the run's own files. Of the journal only what is durable counts.
    fn files(&mut self, dir: &RunDir, journal_bytes: u64) -> Result<(), EvidenceError> {
        for (name, path) in final_files(dir.path())? {
            let failed = |source| EvidenceError::File { path: path.clone(), source };
            let size = std::fs::metadata(&path).map_err(failed)?.len();
            let fits = tarball::fits(&format!("evidence-{}/{name}", dir.id()));
            if name == "report.html" || name == MANIFEST {
                continue;
            }
            if !fits || (size > LARGEST_MEMBER && name != JOURNAL_FILE) {
                self.left_out.insert(name, size);
                continue;
            }
            let mut bytes = std::fs::read(&path).map_err(failed)?;
            if name == JOURNAL_FILE {
                bytes.truncate(usize::try_from(journal_bytes).unwrap_or(usize::MAX));
            }
            self.members.insert(name, bytes);
        }
        Ok(())
    }

    /// The files that the plan was made of. Their names may be paths of another machine: only the last part is kept.
    fn definition(&mut self, plan: &BoundPlan) {
        for (at, source) in plan.sources.iter().enumerate() {
            let name = source.name.rsplit('/').next().unwrap_or_default();
            let name: String =
                name.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(64).collect();
            self.members.insert(format!("definition/{at:02}-{name}"), source.text.clone().into_bytes());
        }
    }

    fn documents(&mut self, plan: &BoundPlan, events: &[Event], state: &RunState) {
        for (name, value) in document::derive(plan, events, state) {
            self.members.insert(name.to_owned(), format!("{value:#}\n").into_bytes());
        }
    }
}

/// The lines of the ledger that name the run, as they stand there.
fn ledger_lines(bytes: &[u8], run: &RunId) -> Vec<u8> {
    let names = |line: &&[u8]| {
        let content = LedgerContent::scan(line);
        content.started(run).is_some() || content.finished(run).is_some()
    };
    let text = String::from_utf8_lossy(bytes);
    let lines = text.split_inclusive('\n').filter(|line| line.contains(run.as_str())).map(str::as_bytes);
    lines.filter(names).collect::<Vec<_>>().concat()
}

fn pack(
    manifest: &Manifest,
    members: &BTreeMap<String, Vec<u8>>,
    key: Option<&SignKey>,
    out: &mut dyn Write,
) -> Result<(), EvidenceError> {
    let failed = |source: io::Error| EvidenceError::File { path: PathBuf::from("the bundle"), source };
    let text = manifest.text().map_err(|error| failed(error.into()))?;
    let signature = key.map(|key| key.sign(&text)).transpose()?;
    let seconds = u64::try_from(manifest.at.as_second()).unwrap_or_default();
    let folder = format!("evidence-{}", manifest.run);
    let mut zstd = zstd::Encoder::new(out, LEVEL).map_err(failed)?;
    zstd.include_checksum(true).map_err(failed)?;
    let mut tar = Writer::new(zstd, seconds);
    for (name, bytes) in members {
        tar.member(&format!("{folder}/{name}"), bytes).map_err(failed)?;
    }
    tar.member(&format!("{folder}/{MANIFEST}"), &text).map_err(failed)?;
    if let Some(signature) = signature {
        tar.member(&format!("{folder}/{MANIFEST_SIGNATURE}"), signature.as_bytes()).map_err(failed)?;
    }
    tar.finish().and_then(zstd::Encoder::finish).and_then(Write::flush).map_err(failed)
}
