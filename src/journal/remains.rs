//! What is known of a run whose plan cannot be read: by its journal, which the ledger's digest of that plan still anchors.

use std::collections::BTreeSet;
use std::path::Path;

use super::amendment;
use super::chain::Chain;
use super::file::JOURNAL_FILE;
use super::ledger::LedgerContent;
use super::reader::{self, History};
use crate::base::RunId;
use crate::event::{EventKind, RunHeader};

/// What is known of a run whose plan cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remains {
    /// It is over, and no attempt of any step began.
    Untouched,
    /// It held these locks, and no others.
    Held(BTreeSet<String>),
    /// Its journal tells neither, or does not hold against the ledger.
    Unknown,
}

impl Remains {
    pub(super) fn of(run: &RunId, dir: &Path, ledger: &LedgerContent) -> Self {
        Self::read(run, dir, ledger).unwrap_or(Self::Unknown)
    }

    fn read(run: &RunId, dir: &Path, ledger: &LedgerContent) -> Option<Self> {
        let bytes = std::fs::read(dir.join(JOURNAL_FILE)).ok()?;
        let History { events, chain, .. } =
            reader::scan(&bytes, Chain::start(run.clone(), ledger.started(run)?)).ok()?;
        let is_over = match ledger.finished(run) {
            Some((_, head)) if head != chain.head() => return None,
            found => found.is_some(),
        };
        let began = events.iter().any(|event| matches!(event.kind, EventKind::AttemptStarted { .. }));
        // The journal of one that is not over may have lost its last lines where the plan was lost.
        if is_over && !began {
            return Some(Self::Untouched);
        }
        let EventKind::RunStarted(header) = &events.first()?.kind else { return None };
        let RunHeader { locks, .. } = header.as_ref();
        amendment::locks(dir, &events, locks.as_ref()?).map(Self::Held)
    }
}
