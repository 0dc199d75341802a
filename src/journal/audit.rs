//! The proof that nothing was changed: every journal against its plan and chain, every run against the ledger.
//!
//! An audit never fails half-way: what cannot be read is a problem like any other. Any problem is exit code 15.
//! It modifies nothing.

use serde::Serialize;

use super::amendment;
use super::chain::Chain;
use super::head::{self, Signed};
use super::ledger::{Anchor, LedgerContent};
use super::reader::{self, History, Tail};
use super::run::RunDir;
use super::runs::{Runs, RunsError};
use super::signature::AllowedSigners;
use crate::base::digest::Hasher;
use crate::base::{Digest, RunId};
use crate::event::{EventKind, Outcome};
use crate::port::JournalError;

/// What the audit of one run found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunAudit {
    /// The run.
    pub run: RunId,
    /// Number of events that hold.
    pub events: u64,
    /// The digest of its `plan.json`.
    pub plan: Option<Digest>,
    /// The hash of its last event.
    pub head: Option<Digest>,
    /// How it ended; absent while it has not.
    pub outcome: Option<Outcome>,
    /// Whether its head is signed.
    #[serde(flatten)]
    pub signed: Signed,
    /// What does not hold.
    pub problems: Vec<Problem>,
}

/// What the audit of a whole state root found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// Each run, newest first; a removed run stands here too.
    pub runs: Vec<RunAudit>,
    /// Number of lines in the ledger.
    pub ledger_lines: usize,
    /// The hash of its last line: what to keep elsewhere to notice that its end was removed.
    pub ledger_head: Digest,
    /// What does not hold in the ledger itself.
    pub ledger_problems: Vec<Problem>,
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What kind of thing.
    pub kind: ProblemKind,
    /// The fact.
    pub message: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// What kind of thing does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// Its files may not be read by who asks: nothing is known of them.
    Unread,
    /// The journal or the plan cannot be read or does not hold together.
    Journal,
    /// Events stand where none may.
    Order,
    /// A kept content does not have the digest it is kept by.
    Blob,
    /// The ledger knows a run that is not there.
    RunRemoved,
    /// The run is not what the ledger anchored.
    RunAltered,
    /// The ledger does not anchor the run's start.
    StartNotAnchored,
    /// The ledger does not anchor the run's end.
    EndNotAnchored,
    /// A line of the ledger is missing or was changed.
    Ledger,
    /// A signed head does not hold, or the run is not the one it names.
    Signature,
}

impl RunAudit {
    /// Whether everything holds.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether nothing can be told of it, since its files may not be read here.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.problems.iter().any(|problem| problem.kind == ProblemKind::Unread)
    }

    pub(super) fn empty(run: RunId) -> Self {
        Self { run, events: 0, plan: None, head: None, outcome: None, signed: Signed::No, problems: Vec::new() }
    }

    fn problem(&mut self, kind: ProblemKind, message: impl Into<String>) {
        self.problems.push(Problem { kind, message: message.into(), help: None });
    }

    fn helped(&mut self, message: &str, help: String) {
        self.problems.push(Problem {
            kind: ProblemKind::EndNotAnchored,
            message: message.to_owned(),
            help: Some(help),
        });
    }
}

impl AuditReport {
    /// Whether everything holds.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.ledger_problems.is_empty() && self.runs.iter().all(RunAudit::is_ok)
    }
}

/// Audits one run by itself, wherever its folder is.
#[must_use]
pub fn verify_run(dir: &RunDir) -> RunAudit {
    let mut audit = verify_files(dir);
    head::verify(dir, &AllowedSigners::default(), None, &mut audit);
    audit
}

fn verify_files(dir: &RunDir) -> RunAudit {
    let mut audit = RunAudit::empty(dir.id().clone());
    if let Some(what) = unread(dir) {
        let help = "ask as the user who owns the run: `ls -l` of its folder tells".to_owned();
        audit.problems.push(Problem { kind: ProblemKind::Unread, message: what, help: Some(help) });
        return audit;
    }
    match reader::chain_of(dir.path()) {
        Ok(chain) => verify_identity(dir, &chain, &mut audit),
        Err(error) => audit.problem(ProblemKind::Journal, chained(&error)),
    }
    match dir.read() {
        Ok(history) => {
            verify_history(&history, &mut audit);
            verify_amendments(dir, &history, &mut audit);
        }
        Err(error) => audit.problem(ProblemKind::Journal, chained(&error)),
    }
    verify_blobs(dir, &mut audit);
    audit.problems.dedup();
    audit
}

/// Audits one run by itself and against the ledger.
#[must_use]
pub fn verify_anchored(runs: &Runs, dir: &RunDir, signers: &AllowedSigners) -> RunAudit {
    match runs.ledger().read() {
        Ok(ledger) => verify_against(&ledger, (runs, signers), dir),
        Err(error) => {
            let mut audit = verify_run(dir);
            audit.problem(ProblemKind::Ledger, chained(&error));
            audit
        }
    }
}

/// Audits every run and the ledger.
///
/// # Errors
/// Fails when the list of runs or the ledger cannot be read at all.
pub fn verify_all(runs: &Runs, signers: &AllowedSigners) -> Result<AuditReport, RunsError> {
    let ids = runs.ids()?;
    let ledger = runs.ledger().read()?;
    let mut audits: Vec<RunAudit> =
        ids.iter().map(|id| verify_against(&ledger, (runs, signers), &runs.dir(id))).collect();
    audits.extend(removed(&ledger, runs));
    audits.sort_by(|one, other| other.run.cmp(&one.run));
    let ledger_problems = ledger.problems.iter().map(|(line, what)| Problem {
        kind: ProblemKind::Ledger,
        message: format!("line {line} of the ledger: {what}"),
        help: None,
    });
    Ok(AuditReport {
        runs: audits,
        ledger_lines: ledger.lines.len(),
        ledger_head: ledger.head,
        ledger_problems: ledger_problems.collect(),
    })
}

/// Says why nothing can be told of a run: who asks may not read its files.
fn unread(dir: &RunDir) -> Option<String> {
    dir.read().err().filter(JournalError::is_denied).map(|error| chained(&error))
}

fn verify_identity(dir: &RunDir, chain: &Chain, audit: &mut RunAudit) {
    audit.plan = Some(chain.plan());
    if chain.run() != dir.id() {
        let message = format!("the folder of run `{}` holds the plan of run `{}`", dir.id(), chain.run());
        audit.problem(ProblemKind::RunAltered, message);
    }
}

fn verify_history(history: &History, audit: &mut RunAudit) {
    audit.events = history.events.len() as u64;
    audit.head = history.events.last().map(|event| event.hash);
    let end = history.events.iter().position(|event| matches!(event.kind, EventKind::RunFinished { .. }));
    if let Some(end) = end {
        if end + 1 < history.events.len() {
            let message = format!("{} events follow the end of the run", history.events.len() - end - 1);
            audit.problem(ProblemKind::Order, message);
        }
        if let EventKind::RunFinished { outcome, .. } = &history.events[end].kind {
            audit.outcome = Some(*outcome);
        }
    }
    let starts = history.events.iter().filter(|event| matches!(event.kind, EventKind::RunStarted(_))).count();
    if starts > 1 {
        audit.problem(ProblemKind::Order, format!("the run starts {starts} times"));
    }
    match history.tail {
        // A live engine is just writing, or one died: nothing durable is concerned.
        Tail::Clean | Tail::Unterminated | Tail::Torn { .. } => {}
    }
}

/// Every plan that the run was amended to must still be the one its journal names.
fn verify_amendments(dir: &RunDir, history: &History, audit: &mut RunAudit) {
    for (file, digest) in amendment::amendments(&history.events) {
        match amendment::verify(dir.path(), file, digest) {
            Ok((plan, _)) if plan.run == *dir.id() => {}
            Ok((plan, _)) => {
                audit.problem(ProblemKind::RunAltered, format!("`{file}` is a plan of run `{}`", plan.run));
            }
            Err(error) => audit.problem(ProblemKind::RunAltered, chained(&error)),
        }
    }
}

fn verify_blobs(dir: &RunDir, audit: &mut RunAudit) {
    let entries = match std::fs::read_dir(dir.blobs()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => return audit.problem(ProblemKind::Blob, format!("`blobs` cannot be read: {error}")),
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(expected) = name.parse::<Digest>() else { continue };
        let digest = std::fs::File::open(entry.path()).and_then(|mut file| {
            let mut hasher = Hasher::default();
            std::io::copy(&mut file, &mut hasher).map(|_| hasher.finish())
        });
        match digest {
            Ok(found) if found == expected => {}
            Ok(_) => audit.problem(ProblemKind::Blob, format!("blob `{name}` has other content than its name says")),
            Err(error) => audit.problem(ProblemKind::Blob, format!("blob `{name}` cannot be read: {error}")),
        }
    }
}

/// Audits a run against a ledger that was read before the run was.
///
/// In that order a run that goes on meanwhile can only lack an anchor, so a lacking one is looked up again. An
/// engine anchors the end before it lets the run go: while it holds the run, the end may be missing.
fn verify_against(ledger: &LedgerContent, (runs, signers): (&Runs, &AllowedSigners), dir: &RunDir) -> RunAudit {
    let mut audit = verify_files(dir);
    if audit.is_unread() {
        return audit;
    }
    let lacks_start = audit.events > 0 && ledger.started(dir.id()).is_none();
    let lacks_end = audit.outcome.is_some() && ledger.finished(dir.id()).is_none();
    if !(lacks_start || lacks_end) {
        verify_anchors(ledger, dir, &mut audit);
        head::verify(dir, signers, Some(ledger), &mut audit);
        return audit;
    }
    let live = dir.is_live().unwrap_or(false);
    match runs.ledger().read() {
        Ok(fresh) => {
            verify_anchors(&fresh, dir, &mut audit);
            head::verify(dir, signers, Some(&fresh), &mut audit);
        }
        Err(error) => audit.problem(ProblemKind::Ledger, chained(&error)),
    }
    if live {
        audit.problems.retain(|problem| problem.kind != ProblemKind::EndNotAnchored);
    }
    audit
}

fn verify_anchors(ledger: &LedgerContent, dir: &RunDir, audit: &mut RunAudit) {
    let mut started = false;
    let mut finished = false;
    for line in &ledger.lines {
        match &line.anchor {
            Anchor::Started { run, plan } if run == dir.id() => {
                started = true;
                if audit.plan.is_some_and(|found| found != *plan) {
                    audit.problem(ProblemKind::RunAltered, "`plan.json` is not the one the ledger anchored");
                }
            }
            Anchor::Finished { run, seq, head, outcome } if run == dir.id() => {
                finished = true;
                let same = (audit.events, audit.head, audit.outcome) == (seq.0, Some(*head), Some(*outcome));
                if !same {
                    let message = format!("the journal does not end where the ledger anchored it: event {seq}, {head}");
                    audit.problem(ProblemKind::RunAltered, message);
                }
            }
            Anchor::Started { .. } | Anchor::Finished { .. } | Anchor::Unknown => {}
        }
    }
    if !started && audit.events > 0 {
        audit.problem(ProblemKind::StartNotAnchored, "the ledger does not know that the run started");
    }
    if !finished && audit.outcome.is_some() {
        let help = format!("`runbook resume {}` completes the ledger when the engine died at the very end", dir.id());
        audit.helped("the ledger does not know that the run ended", help);
    }
}

pub(super) fn removed(ledger: &LedgerContent, runs: &Runs) -> Vec<RunAudit> {
    let mut gone: Vec<RunAudit> = Vec::new();
    for line in &ledger.lines {
        let (Anchor::Started { run, .. } | Anchor::Finished { run, .. }) = &line.anchor else { continue };
        let named = gone.iter().any(|audit| audit.run == *run);
        if !named && !runs.dir(run).path().exists() {
            let mut audit = RunAudit::empty(run.clone());
            audit.problem(ProblemKind::RunRemoved, "the ledger knows the run, but its folder is gone");
            gone.push(audit);
        }
    }
    gone
}

pub(super) fn chained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
