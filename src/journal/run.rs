//! One run's folder: `plan.json`, `journal.jsonl`, `attempts/`, `blobs/`, `control/`, `lock`. Self-contained and copyable.

use std::path::{Path, PathBuf};

use super::file::JOURNAL_FILE;
use super::guard::{self, Driver, RunLock, Taken};
use super::reader::{self, History, Opened, PLAN_FILE};
use super::{Ledger, LedgerError, Remains, RunsError, amendment, durable};
use crate::base::{Attempt, Digest, RunId, StepId};
use crate::event::RunHeader;
use crate::plan::BoundPlan;
use crate::port::JournalError;

/// The folder of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    id: RunId,
    path: PathBuf,
}

impl RunDir {
    pub(crate) fn new(id: RunId, path: PathBuf) -> Self {
        Self { id, path }
    }

    /// Takes a folder that may have been copied from elsewhere: its plan says which run it is.
    ///
    /// # Errors
    /// Fails when the folder holds no plan.
    pub fn at(path: PathBuf) -> Result<Self, JournalError> {
        let id = reader::chain_of(&path)?.run().clone();
        Ok(Self { id, path })
    }

    /// The run.
    #[must_use]
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that verbs for the live run are put into.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.path.join("control")
    }

    /// The folder of contents kept by their digest.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }

    /// The folder of an attempt. Its supervisor creates it.
    #[must_use]
    pub fn attempt(&self, step: &StepId, attempt: Attempt) -> PathBuf {
        self.attempts().join(step.folder()).join(attempt.to_string())
    }

    /// The folder of all attempts.
    #[must_use]
    pub fn attempts(&self) -> PathBuf {
        self.path.join("attempts")
    }

    /// What became of notifications, one line each.
    #[must_use]
    pub fn notifications(&self) -> PathBuf {
        self.path.join("notifications.jsonl")
    }

    /// Where the HTML report is put.
    #[must_use]
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// Reads the frozen plan with its digest: the one of the start, or the one the run was last amended to.
    ///
    /// # Errors
    /// Fails when it cannot be read or is of a version this one does not know.
    pub fn plan(&self) -> Result<(BoundPlan, Digest), JournalError> {
        amendment::current(&self.path)
    }

    /// The digest of the plan that the run was started with, to which its journal is anchored.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub fn first_plan(&self) -> Result<Digest, JournalError> {
        amendment::first(&self.path)
    }

    /// Puts another plan into the folder, durably, and gives its file and digest. It counts once a `PlanAmended`
    /// names it.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn amend(&self, plan: &BoundPlan, _proof: &RunLock) -> Result<(String, Digest), JournalError> {
        amendment::put(&self.path, plan)
    }

    /// What was known when the run started, from the first line of its journal alone, which is not verified.
    #[must_use]
    pub fn header(&self) -> Option<RunHeader> {
        reader::header(&self.path)
    }

    /// Tells whether not even the first line of the journal became durable: nothing was begun.
    #[must_use]
    pub fn never_began(&self) -> bool {
        std::fs::read(self.path.join(JOURNAL_FILE)).is_ok_and(|bytes| !bytes.contains(&b'\n'))
    }

    /// Tells what is known of the run where its plan cannot be read.
    ///
    /// # Errors
    /// Fails when the ledger cannot be read.
    pub fn remains(&self, ledger: &Ledger) -> Result<Remains, LedgerError> {
        Ok(Remains::of(&self.id, &self.path, &ledger.read()?))
    }

    /// Reads and verifies the journal. Modifies nothing.
    ///
    /// # Errors
    /// Fails when it cannot be read or does not hold together.
    pub fn read(&self) -> Result<History, JournalError> {
        reader::read(&self.path)
    }

    /// Opens the run's journal for the engine that goes on. The lock proves that no other one does.
    ///
    /// # Errors
    /// As [`reader::open_for_resume`].
    pub fn resume_journal(&self, _proof: &RunLock) -> Result<Opened, JournalError> {
        reader::open_for_resume(&self.path)
    }

    /// Takes the run, so that no other engine drives it.
    ///
    /// # Errors
    /// Fails with the driver when the run is live.
    pub fn lock(&self) -> Result<RunLock, RunsError> {
        match RunLock::take(&self.path) {
            Ok(Taken::Ours(lock)) => Ok(lock),
            Ok(Taken::Held(driver)) => {
                Err(RunsError::Live { run: self.id.clone(), pid: driver.map_or(0, |driver| driver.pid) })
            }
            Err(source) => Err(RunsError::File { path: self.path.join(guard::LOCK_FILE), source }),
        }
    }

    /// Tells whether an engine drives the run now.
    ///
    /// # Errors
    /// Fails when the lock file cannot be looked at.
    pub fn is_live(&self) -> Result<bool, RunsError> {
        let lock = self.path.join(guard::LOCK_FILE);
        guard::is_driven(&self.path).map_err(|source| RunsError::File { path: lock, source })
    }

    /// Names the process that drives the run, or drove it when it died.
    #[must_use]
    pub fn driver(&self) -> Option<Driver> {
        guard::driver(&self.path)
    }

    /// Creates the folder with everything but the journal and the lock, durably.
    pub(crate) fn create(&self, plan: &[u8]) -> std::io::Result<()> {
        durable::create_dir(&self.path)?;
        for dir in [self.attempts(), self.blobs(), self.control(), self.control().join("done")] {
            durable::create_dir(&dir)?;
        }
        durable::put_file(&self.path.join(PLAN_FILE), plan)
    }
}
