//! What brings a run on that has not ended.

use serde::Serialize;

use super::{Failure, operate, superseded};
use crate::base::RunId;
use crate::journal::{RunDir, RunStatus, Runs, Verb};
use crate::plan::BoundPlan;
use crate::state::RunState;

/// What brings a run on that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Onward {
    /// Its engine goes on with it.
    Follow,
    /// It waits for a person's answer.
    Answer,
    /// Nobody drives it: it is resumed.
    Resume,
    /// What a person answered or ordered is kept until it is resumed.
    Kept,
    /// A person ordered its end, which is carried out when it is resumed.
    End,
    /// A later run has begun to replace the same data, for all that is known: it is never gone on with.
    Overtaken {
        /// The later run.
        by: RunId,
        /// Whether it is known what that one replaces; else its plan cannot be read.
        is_known: bool,
        /// What ends it.
        cancel: String,
    },
}

impl Onward {
    /// Tells it of a run that has not ended.
    ///
    /// # Errors
    /// Fails when the folders of the runs cannot be read.
    pub fn of(
        runs: &Runs,
        dir: &RunDir,
        (plan, state, status): (&BoundPlan, &RunState, &RunStatus),
    ) -> Result<Self, Failure> {
        if *status == RunStatus::Live {
            return Ok(Self::Follow);
        }
        if let Some(by) = superseded::overtaken_by(runs, dir, plan)? {
            let is_known = runs.dir(&by).plan().is_ok();
            return Ok(Self::Overtaken {
                by,
                is_known,
                cancel: plan.with_reason(format!("runbook cancel {}", plan.run)),
            });
        }
        let kept = operate::kept(dir, state)?;
        Ok(match *status {
            _ if kept.iter().any(|verb| matches!(verb, Verb::Cancel { .. })) => Self::End,
            _ if !kept.is_empty() => Self::Kept,
            RunStatus::Suspended => Self::Answer,
            _ => Self::Resume,
        })
    }
}
