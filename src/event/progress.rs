//! Progress: lossy, shown, never stored.

use crate::base::{Attempt, StepId};

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Progress {
    /// Work done of a total, in `unit` (`bytes`, `segments`, `rows` …).
    Units {
        /// Done so far.
        done: u64,
        /// The whole, where it is known.
        total: Option<u64>,
        /// What is counted.
        unit: &'static str,
    },
    /// A line the process wrote, already redacted.
    Output {
        /// The text without its newline.
        line: String,
        /// Whether it came from standard error.
        stderr: bool,
    },
    /// A few words about what is being done now.
    Doing {
        /// The words.
        text: String,
    },
}

/// Progress of one attempt of one step.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ProgressUpdate {
    /// The step.
    pub step: StepId,
    /// Its attempt.
    pub attempt: Attempt,
    /// How far it is.
    pub progress: Progress,
}
