//! What the index keeps of one run: a fold of its journal.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

use serde_json::Value;

use crate::base::{Digest, RunId, StepId, Timestamp};
use crate::event::{Event, EventKind, Figures};
use crate::journal::file::JOURNAL_FILE;
use crate::journal::run::RunDir;
use crate::journal::summary::{RunStatus, RunSummary};

/// By what a journal is known to be the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) journal_bytes: i64,
    /// Nanoseconds of the time of change, folded into one number.
    pub(super) journal_changed: i64,
}

impl Mark {
    /// A journal that cannot be looked at has a mark that no journal has.
    pub(super) fn of(dir: &RunDir) -> Self {
        match std::fs::metadata(dir.path().join(JOURNAL_FILE)) {
            Ok(facts) => Self {
                journal_bytes: i64::try_from(facts.len()).unwrap_or(i64::MAX),
                journal_changed: facts.mtime().wrapping_mul(1_000_000_000).wrapping_add(facts.mtime_nsec()),
            },
            Err(_) => Self { journal_bytes: -1, journal_changed: -1 },
        }
    }
}

/// One run.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) mark: Mark,
    /// As the journal alone tells it: whether the run is live is asked each time.
    pub(super) summary: RunSummary,
    pub(super) head: Option<Digest>,
    pub(super) origin: Option<RunId>,
    /// The database that its plan is about.
    pub(super) subject: Option<String>,
    pub(super) ended_at: Option<Timestamp>,
    pub(super) outcome: Option<String>,
    pub(super) exit_code: Option<u8>,
    pub(super) figures: Option<Box<Figures>>,
    pub(super) steps: BTreeMap<StepId, StepFact>,
}

/// One step of it.
#[derive(Debug, Default)]
pub(super) struct StepFact {
    pub(super) status: &'static str,
    pub(super) attempts: u32,
    pub(super) elapsed_ms: Option<u64>,
    pub(super) bytes: Option<u64>,
}

impl Entry {
    /// Reads a run. A damaged one is an entry too, so that it is listed as such.
    pub(super) fn read(dir: &RunDir, mark: Mark) -> Self {
        match dir.read() {
            Ok(history) => {
                let subject = dir.plan().ok().and_then(|(plan, _)| Some(plan.subject()?.to_owned()));
                Self { subject, ..Self::fold(mark, RunSummary::settled(dir, &history.events), &history.events) }
            }
            Err(error) => Self::fold(mark, RunSummary::empty(dir.id(), RunStatus::unknown(&error)), &[]),
        }
    }

    fn fold(mark: Mark, summary: RunSummary, events: &[Event]) -> Self {
        let mut entry = Self {
            mark,
            summary,
            head: events.last().map(|event| event.hash),
            origin: None,
            subject: None,
            ended_at: None,
            outcome: None,
            exit_code: None,
            figures: None,
            steps: BTreeMap::new(),
        };
        for event in events {
            entry.apply(event);
        }
        entry
    }

    fn apply(&mut self, event: &Event) {
        if let EventKind::RunStarted(header) = &event.kind {
            self.origin = header.origin.as_ref().map(|origin| origin.run.clone());
        } else if let EventKind::RunFinished { outcome, exit_code, figures } = &event.kind {
            self.ended_at = Some(event.at);
            self.outcome = serde_json::to_value(outcome).ok().and_then(|value| Some(value.as_str()?.to_owned()));
            self.exit_code = Some(*exit_code);
            self.figures = Some(figures.clone());
        } else if let EventKind::AttemptStarted { step, attempt, .. } = &event.kind {
            let fact = self.steps.entry(step.clone()).or_default();
            (fact.status, fact.attempts) = ("running", attempt.0);
        } else if let EventKind::StepSucceeded { step, elapsed_ms, output, .. } = &event.kind {
            let fact = self.steps.entry(step.clone()).or_default();
            (fact.status, fact.elapsed_ms, fact.bytes) = ("succeeded", Some(*elapsed_ms), bytes_of(output));
        } else {
            self.end_otherwise(&event.kind);
        }
    }

    fn end_otherwise(&mut self, kind: &EventKind) {
        let (step, status, elapsed_ms) = if let EventKind::StepFailed { step, elapsed_ms, .. } = kind {
            (step, "failed", Some(*elapsed_ms))
        } else if let EventKind::StepUnknown { step, .. } = kind {
            (step, "unknown", None)
        } else if let EventKind::StepSkipped { step, .. } = kind {
            (step, "skipped", None)
        } else if let EventKind::StepCancelled { step, .. } = kind {
            (step, "cancelled", None)
        } else {
            return;
        };
        let fact = self.steps.entry(step.clone()).or_default();
        (fact.status, fact.elapsed_ms) = (status, elapsed_ms);
    }
}

/// How much a step moved or replayed, where its outputs say so.
#[must_use]
pub fn bytes_of(output: &Value) -> Option<u64> {
    ["size_bytes", "bytes", "total_bytes", "replayed_bytes"].iter().find_map(|name| output.get(name)?.as_u64())
}
