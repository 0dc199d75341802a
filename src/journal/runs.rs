//! The directory of all runs: `runs/<id>/` below the state root.

use std::io;
use std::path::{Path, PathBuf};

use super::durable;
use super::file::FileJournal;
use super::guard::RunLock;
use super::ledger::{Ledger, LedgerError, RunOrder};
use super::run::RunDir;
use super::summary::RunSummary;
use crate::base::{Digest, RunId};
use crate::plan::BoundPlan;
use crate::port::JournalError;

/// How many near misses an error names.
const SUGGESTIONS: usize = 3;

/// The history of all runs of one state root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runs {
    root: PathBuf,
}

/// A run that was just created: anchored in the ledger, without a first event.
#[derive(Debug)]
pub struct CreatedRun {
    /// Its folder.
    pub dir: RunDir,
    /// The digest of its `plan.json`.
    pub plan: Digest,
    /// Its journal, empty.
    pub journal: FileJournal,
    /// Its lock, held.
    pub lock: RunLock,
}

/// A run cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// No run begins with the text. Exit code 2.
    #[error("there is no run `{text}`")]
    Unknown {
        /// What was asked for.
        text: String,
        /// Runs that may be meant, newest first.
        suggestions: Vec<RunId>,
    },
    /// Several runs begin with the text. Exit code 2.
    #[error("`{text}` fits {} runs", matches.len())]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// The runs, newest first.
        matches: Vec<RunId>,
    },
    /// Another engine drives the run. Exit code 14.
    #[error("run `{run}` is driven by process {pid}")]
    Live {
        /// The run.
        run: RunId,
        /// The engine's process; 0 when it has not said so yet.
        pid: u32,
    },
    /// A file or folder cannot be used. Exit code 15.
    #[error("`{}` cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The ledger cannot be written. Exit code 15.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The run's journal or plan cannot be used. Exit code 15.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Runs {
    /// Opens the history below `root` and creates what is missing.
    ///
    /// A new root is private; below `/var/lib` its group may read. Everything in it inherits the group's share.
    ///
    /// # Errors
    /// Fails when a folder cannot be created.
    pub fn open(root: PathBuf) -> Result<Self, RunsError> {
        let runs = Self { root };
        runs.ensure().map_err(|source| RunsError::File { path: runs.root.clone(), source })?;
        Ok(runs)
    }

    fn ensure(&self) -> io::Result<()> {
        if !self.root.is_dir() {
            std::fs::create_dir_all(self.root.parent().unwrap_or(Path::new("/")))?;
            let mode = if self.root == Path::new(super::root::SYSTEM_ROOT) { 0o751 } else { 0o701 };
            // With its mode from the start: whoever is killed before the next line leaves one that servers can still pass.
            durable::ensure_dir_as(&self.root, mode)?;
            std::fs::set_permissions(&self.root, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        }
        durable::ensure_dir(&self.folder())
    }

    /// The state root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The ledger beside the runs.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Ledger::below(&self.root)
    }

    fn folder(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// The folder of a run, whether it exists or not.
    #[must_use]
    pub fn dir(&self, run: &RunId) -> RunDir {
        RunDir::new(run.clone(), self.folder().join(run.as_str()))
    }

    /// Creates the run of a plan: freezes the plan, takes the run's lock and anchors the run in the ledger.
    ///
    /// The folder appears by one rename, so that a run always has its plan and its journal.
    ///
    /// # Errors
    /// Fails when the run exists or something cannot be made durable; a run without a first event is left behind at most.
    pub fn create(&self, plan: &BoundPlan) -> Result<CreatedRun, RunsError> {
        let dir = self.dir(&plan.run);
        let failed = |source| RunsError::File { path: dir.path().to_owned(), source };
        let bytes = serde_json::to_vec_pretty(plan).map_err(|error| failed(error.into()))?;
        let digest = Digest::of(&bytes);
        if dir.path().exists() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        let staged = RunDir::new(plan.run.clone(), self.folder().join(format!(".new-{}", plan.run)));
        let (journal, lock) = match self.appear(&staged, &dir, (&bytes, digest)) {
            Ok(made) => made,
            Err(error) => {
                // On a full disk every try would leave another one; what cannot be removed only takes space.
                let _ = std::fs::remove_dir_all(staged.path());
                return Err(error);
            }
        };
        self.ledger().start(dir.id(), digest)?;
        Ok(CreatedRun { dir, plan: digest, journal, lock })
    }

    /// Makes a run's folder beside its place and moves it there.
    fn appear(
        &self,
        staged: &RunDir,
        dir: &RunDir,
        plan: (&[u8], Digest),
    ) -> Result<(FileJournal, RunLock), RunsError> {
        let failed = |source| RunsError::File { path: dir.path().to_owned(), source };
        staged.create(plan.0).map_err(failed)?;
        let journal = FileJournal::create(staged.path(), dir.id().clone(), plan.1)?;
        let lock = staged.lock()?;
        std::fs::rename(staged.path(), dir.path()).map_err(failed)?;
        durable::sync_dir(&self.folder()).and_then(|()| durable::sync_dir(&self.root)).map_err(failed)?;
        Ok((journal, lock))
    }

    /// The order in which the runs began and ended, by the ledger. Without one, their ids are all there is.
    #[must_use]
    pub fn order(&self) -> RunOrder {
        self.ledger().order().unwrap_or_default()
    }

    /// Names all runs, newest first: in the order in which they began, which a clock that was set back does not change.
    ///
    /// # Errors
    /// Fails when the folder cannot be read.
    pub fn ids(&self) -> Result<Vec<RunId>, RunsError> {
        let list = || {
            let mut ids = Vec::new();
            for entry in std::fs::read_dir(self.folder())? {
                let name = entry?.file_name();
                ids.extend(name.to_str().and_then(|name| name.parse::<RunId>().ok()));
            }
            Ok(ids)
        };
        let mut ids = list().map_err(|source| RunsError::File { path: self.folder(), source })?;
        self.order().sort_newest_first(&mut ids);
        Ok(ids)
    }

    /// Sums up all runs, newest first. A damaged run is listed as damaged and hides no other.
    ///
    /// # Errors
    /// Fails when the folder cannot be read.
    pub fn list(&self) -> Result<Vec<RunSummary>, RunsError> {
        Ok(self.ids()?.iter().map(|id| RunSummary::of(&self.dir(id))).collect())
    }

    /// Finds a run by its id, by a unique beginning of it, or `last` for the newest.
    ///
    /// # Errors
    /// Fails with suggestions when none or several fit.
    pub fn find(&self, text: &str) -> Result<RunDir, RunsError> {
        let ids = self.ids()?;
        if let Some(exact) = ids.iter().find(|id| id.as_str() == text) {
            return Ok(self.dir(exact));
        }
        if let ("last", Some(newest)) = (text, ids.first()) {
            return Ok(self.dir(newest));
        }
        let fits: Vec<&RunId> = ids.iter().filter(|id| !text.is_empty() && id.as_str().starts_with(text)).collect();
        match fits.as_slice() {
            [one] => Ok(self.dir(one)),
            [] => Err(RunsError::Unknown { text: text.to_owned(), suggestions: suggest(text, ids) }),
            several => {
                let matches = several.iter().map(|id| (*id).clone()).collect();
                Err(RunsError::Ambiguous { text: text.to_owned(), matches })
            }
        }
    }
}

/// Gives the runs nearest to what was typed; the random digits alone are enough to be near.
fn suggest(text: &str, mut ids: Vec<RunId>) -> Vec<RunId> {
    let distance = |id: &RunId| {
        let tail = id.as_str().rsplit('-').next().unwrap_or_default();
        strsim::osa_distance(text, id.as_str()).min(strsim::osa_distance(text, tail))
    };
    ids.sort_by_key(distance);
    ids.truncate(SUGGESTIONS);
    ids
}

#[cfg(test)]
mod tests;
