//! What is asked of the history.

use std::collections::BTreeMap;

use rusqlite::params;

use super::{Index, IndexError};
use crate::base::{StepId, Timestamp};
use crate::event::Outcome;
use crate::journal::summary::RunSummary;

/// How many runs a forecast looks back.
const SAMPLED_RUNS: i64 = 200;

/// Which runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Those of this runbook.
    pub name: Option<String>,
    /// Those that ended so.
    pub outcome: Option<Outcome>,
    /// Those started at this time or later.
    pub since: Option<Timestamp>,
    /// At most so many, newest first.
    pub limit: Option<usize>,
}

/// What one step of a past run took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepSample {
    /// In milliseconds.
    pub elapsed_ms: u64,
    /// How much it moved, where it told.
    pub bytes: Option<u64>,
}

impl Index {
    /// Lists runs, newest first. Whether an unfinished one is live is looked up now.
    ///
    /// # Errors
    /// Fails when SQLite does.
    pub fn list(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, IndexError> {
        let outcome = filter.outcome.and_then(|outcome| serde_json::to_value(outcome).ok());
        let outcome = outcome.as_ref().and_then(|outcome| outcome.as_str());
        let limit = filter.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let mut statement = self.database.connection.prepare(
            "SELECT summary FROM runs
             WHERE (?1 IS NULL OR name = ?1) AND (?2 IS NULL OR outcome = ?2) AND (?3 IS NULL OR started_us >= ?3)
             ORDER BY id DESC LIMIT ?4",
        )?;
        let since = filter.since.map(Timestamp::as_microsecond);
        let rows = statement.query_map(params![filter.name, outcome, since, limit], |row| row.get::<_, String>(0))?;
        rows.map(|row| self.summary(&row?)).collect()
    }

    /// Lists the runs that build on an earlier one, or undo it, newest first.
    ///
    /// # Errors
    /// Fails when SQLite does.
    pub fn built_on_others(&self) -> Result<Vec<RunSummary>, IndexError> {
        let asked = "SELECT summary FROM runs WHERE origin IS NOT NULL ORDER BY id DESC";
        let mut statement = self.database.connection.prepare(asked)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|row| self.summary(&row?)).collect()
    }

    fn summary(&self, text: &str) -> Result<RunSummary, IndexError> {
        let mut summary: RunSummary = serde_json::from_str(text).map_err(|_| rusqlite::Error::InvalidQuery)?;
        summary.look_whether_live(&self.runs.dir(&summary.id));
        Ok(summary)
    }

    /// Gives what the steps that succeeded took in past successful runs of a runbook, newest run first, those about one
    /// database where one is named: another one is of another size. The newest two hundred runs count.
    ///
    /// # Errors
    /// Fails when SQLite does.
    pub fn samples(&self, name: &str, subject: Option<&str>) -> Result<Vec<BTreeMap<StepId, StepSample>>, IndexError> {
        let mut statement = self.database.connection.prepare(
            "SELECT chosen.id, step, elapsed_ms, bytes FROM
               (SELECT id FROM runs WHERE name = ?1 AND exit_code IN (0, 5, 16) AND (?3 IS NULL OR subject = ?3)
                ORDER BY id DESC LIMIT ?2) AS chosen
             LEFT JOIN steps ON run = chosen.id AND status = 'succeeded' AND elapsed_ms IS NOT NULL
             ORDER BY chosen.id DESC, step",
        )?;
        let mut rows = statement.query(params![name, SAMPLED_RUNS, subject])?;
        let mut runs: Vec<BTreeMap<StepId, StepSample>> = Vec::new();
        let mut last = None;
        while let Some(row) = rows.next()? {
            let run: String = row.get(0)?;
            if last.as_ref() != Some(&run) {
                runs.push(BTreeMap::new());
                last = Some(run);
            }
            let (step, elapsed_ms): (Option<String>, Option<i64>) = (row.get(1)?, row.get(2)?);
            let bytes = row.get::<_, Option<i64>>(3)?.map(i64::unsigned_abs);
            let step = step.and_then(|step| step.parse::<StepId>().ok());
            if let (Some(run), Some(step), Some(elapsed_ms)) = (runs.last_mut(), step, elapsed_ms) {
                run.insert(step, StepSample { elapsed_ms: elapsed_ms.unsigned_abs(), bytes });
            }
        }
        Ok(runs)
    }
}
