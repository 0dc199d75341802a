//! The head of a finished run: what stands for all of it, signed.
//!
//! `head.json` names the plan, the last event and the end of the ledger; `head.json.sig` is its signature. They are
//! written once, after the run has ended, when a key is configured.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::audit::{Problem, ProblemKind, RunAudit};
use super::durable;
use super::ledger::{Ledger, LedgerContent, LedgerError};
use super::run::RunDir;
use super::signature::{self, AllowedSigners, SignKey, SignatureError, Signer};
use crate::base::{Digest, EventSeq, RunId, Timestamp};
use crate::event::{Event, EventKind, Outcome};

/// The head's name inside a run's folder.
pub const HEAD_FILE: &str = "head.json";
/// The name of its signature.
pub const HEAD_SIGNATURE_FILE: &str = "head.json.sig";

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version of this format.
    pub format: u32,
    /// The run.
    pub run: RunId,
    /// SHA-256 of its `plan.json`.
    pub plan: Digest,
    /// The number of its last event.
    pub seq: EventSeq,
    /// The hash of its last event, which stands for all before it.
    pub head: Digest,
    /// How it ended.
    pub outcome: Outcome,
    /// When.
    pub ended_at: Timestamp,
    /// The number of lines in the ledger when this was written.
    pub ledger_lines: u64,
    /// The hash of the last of them.
    pub ledger_head: Digest,
}

/// Whether and by whom a head is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "signature", rename_all = "snake_case")]
pub enum Signed {
    /// There is no signature.
    No,
    /// By somebody who is trusted.
    By {
        /// Who.
        principal: String,
    },
    /// By a key that nobody vouches for.
    UnknownKey {
        /// The key.
        fingerprint: String,
    },
    /// There is one, and it does not hold.
    Broken,
}

/// A head cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The run has not ended.
    #[error("run `{0}` has not ended")]
    NotAnEnd(RunId),
    /// The key cannot sign.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The files cannot be written.
    #[error("`{}` cannot be written", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Head {
    /// Signs the head of a run that ended with this event. A signed head is left as it is.
    ///
    /// # Errors
    /// Fails when the run has not ended, the key cannot sign, or a file cannot be written.
    pub fn sign(dir: &RunDir, last: &Event, ledger: &Ledger, key: &SignKey) -> Result<(), HeadError> {
        if dir.path().join(HEAD_SIGNATURE_FILE).exists() {
            return Ok(());
        }
        let EventKind::RunFinished { outcome, .. } = &last.kind else {
            return Err(HeadError::NotAnEnd(last.run.clone()));
        };
        let failed = |name: &str| {
            let path = dir.path().join(name);
            move |source| HeadError::File { path, source }
        };
        let plan =
            std::fs::read(dir.path().join(super::reader::PLAN_FILE)).map_err(failed(super::reader::PLAN_FILE))?;
        let (ledger_lines, ledger_head) = ledger.tip()?;
        let head = Self {
            format: 1,
            run: last.run.clone(),
            plan: Digest::of(&plan),
            seq: last.seq,
            head: last.hash,
            outcome: *outcome,
            ended_at: last.at,
            ledger_lines,
            ledger_head,
        };
        let mut text = serde_json::to_vec_pretty(&head).map_err(|error| failed(HEAD_FILE)(error.into()))?;
        text.push(b'\n');
        let signature = key.sign(&text)?;
        durable::put_file(&dir.path().join(HEAD_FILE), &text).map_err(failed(HEAD_FILE))?;
        let name = HEAD_SIGNATURE_FILE;
        durable::put_file(&dir.path().join(name), signature.as_bytes()).map_err(failed(name))
    }

    /// Holds the head against what the journal says; gives what does not fit.
    #[must_use]
    pub fn contradictions(&self, found: &RunAudit) -> Vec<String> {
        let mut faults = Vec::new();
        let mut hold = |fits: bool, what: &str| {
            if !fits {
                faults.push(format!("`{HEAD_FILE}` names another {what} than the run has"));
            }
        };
        hold(self.run == found.run, "run");
        hold(Some(self.plan) == found.plan, "plan");
        hold((self.seq.0, Some(self.head)) == (found.events, found.head), "last event");
        hold(Some(self.outcome) == found.outcome, "outcome");
        faults
    }
}

/// Verifies the signed head in a run's folder; problems go into the audit.
pub(super) fn verify(dir: &RunDir, signers: &AllowedSigners, ledger: Option<&LedgerContent>, audit: &mut RunAudit) {
    let read = |name: &str| std::fs::read(dir.path().join(name)).ok();
    let (text, signature) = match (read(HEAD_FILE), read(HEAD_SIGNATURE_FILE)) {
        (Some(text), Some(signature)) => (text, signature),
        // Written first: an engine that died in between leaves a head without signature, which proves nothing yet.
        (Some(_), None) | (None, None) => return,
        (None, Some(_)) => {
            audit.signed = Signed::Broken;
            return audit.problems.push(problem(format!("`{HEAD_FILE}` is missing beside its signature")));
        }
    };
    let verdict = signature::verify(&text, &String::from_utf8_lossy(&signature), signers);
    audit.signed = match verdict {
        Ok(Signer::Known { principal }) => Signed::By { principal },
        Ok(Signer::Unknown { fingerprint }) => Signed::UnknownKey { fingerprint },
        Err(what) => {
            audit.problems.push(problem(format!("`{HEAD_SIGNATURE_FILE}`: {what}")));
            Signed::Broken
        }
    };
    let head: Head = match serde_json::from_slice(&text) {
        Ok(head) => head,
        Err(error) => return audit.problems.push(problem(format!("`{HEAD_FILE}` cannot be read: {error}"))),
    };
    audit.problems.extend(head.contradictions(audit).into_iter().map(problem));
    if let Some(ledger) = ledger
        && ledger.hash_of(head.ledger_lines) != Some(head.ledger_head)
    {
        let message = format!("the ledger has no line {} with the hash that `{HEAD_FILE}` names", head.ledger_lines);
        audit.problems.push(Problem { kind: ProblemKind::Ledger, message, help: None });
    }
}

fn problem(message: String) -> Problem {
    Problem { kind: ProblemKind::Signature, message, help: None }
}
