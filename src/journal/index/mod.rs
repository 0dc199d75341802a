//! The index of the history: what lists and forecasts ask of many runs, in one SQLite file beside `runs/`.
//!
//! It is a cache and nothing else. The journals are the truth: the index is made on demand, brought up to date by
//! the length and the time of change of each journal, thrown away when it is damaged or of another version, and
//! kept in memory where nothing can be written. Nobody decides anything about a run by it, and no run waits for it.

mod database;
mod entry;
mod query;

pub use query::{RunFilter, Samples};

use super::runs::{Runs, RunsError};
use database::Database;

/// The index's name below the state root.
pub const INDEX_FILE: &str = "index.sqlite";

/// The index of one state root, as of the moment it was opened.
#[derive(Debug)]
pub struct Index {
    runs: Runs,
    database: Database,
}

/// The history cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The folder of runs cannot be read.
    #[error(transparent)]
    Runs(#[from] RunsError),
    /// SQLite fails even in memory.
    #[error("the history cannot be asked")]
    Sqlite(#[from] rusqlite::Error),
}

impl Index {
    /// Opens the index and brings it up to date. A file that cannot be used is replaced, or done without.
    ///
    /// # Errors
    /// Fails when the folder of runs cannot be read, or SQLite has no memory.
    pub fn open(runs: &Runs) -> Result<Self, IndexError> {
        let file = runs.root().join(INDEX_FILE);
        if let Ok(mut database) = Database::at(&file)
            && let Ok(()) = database.refresh(runs)
        {
            return Ok(Self { runs: runs.clone(), database });
        }
        // Another process may still use what is removed here: it keeps its own copy, and loses nothing of worth.
        if Database::is_damaged(&file) && std::fs::remove_file(&file).is_ok() {
            let fresh = Database::at(&file).and_then(|mut database| database.refresh(runs).map(|()| database));
            if let Ok(database) = fresh {
                return Ok(Self { runs: runs.clone(), database });
            }
        }
        let mut database = Database::in_memory(&file)?;
        database.refresh(runs)?;
        Ok(Self { runs: runs.clone(), database })
    }
}

#[cfg(test)]
mod tests;
