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

/// What past runs of a runbook took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples {
    /// How many runs were measured.
    pub runs: usize,
    /// The durations of each step that succeeded, in milliseconds, newest run first.
    pub steps: BTreeMap<StepId, Vec<u64>>,
    /// The same with the bytes it moved, where the step told them.
    pub sized: BTreeMap<StepId, Vec<(u64, u64)>>,
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

    /// Gives what the steps of past successful runs of a runbook took; the newest two hundred runs count.
    ///
    /// # Errors
    /// Fails when SQLite does.
    pub fn samples(&self, name: &str) -> Result<Samples, IndexError> {
        let mut samples = Samples::default();
        let chosen = "SELECT id FROM runs WHERE name = ?1 AND exit_code IN (0, 5, 16) ORDER BY id DESC LIMIT ?2";
        let count = format!("SELECT count(*) FROM ({chosen})");
        let counted =
            self.database.connection.query_row(&count, params![name, SAMPLED_RUNS], |row| row.get::<_, u32>(0))?;
        samples.runs = counted as usize;
        let mut statement = self.database.connection.prepare(&format!(
            "SELECT step, elapsed_ms, bytes FROM steps
             WHERE run IN ({chosen}) AND status = 'succeeded' AND elapsed_ms IS NOT NULL ORDER BY run DESC"
        ))?;
        let rows = statement.query_map(params![name, SAMPLED_RUNS], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?))
        })?;
        for row in rows {
            let (step, elapsed_ms, bytes) = row?;
            let Ok(step) = step.parse::<StepId>() else { continue };
            let elapsed_ms = elapsed_ms.unsigned_abs();
            if let Some(bytes) = bytes.map(i64::unsigned_abs) {
                samples.sized.entry(step.clone()).or_default().push((bytes, elapsed_ms));
            }
            samples.steps.entry(step).or_default().push(elapsed_ms);
        }
        Ok(samples)
    }
}
