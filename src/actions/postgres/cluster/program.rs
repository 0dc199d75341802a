//! How a program of PostgreSQL's that did not end by itself is told.

use crate::action::{ActionError, HostError};

/// A program that was not seen to end by itself.
pub(crate) fn failed(program: &str, error: &HostError) -> ActionError {
    match error {
        HostError::Cancelled { .. } => ActionError::cancelled(format!("`{program}` was cancelled")).because(error),
        HostError::File { .. } | HostError::Spawn { .. } | HostError::Timeout { .. } | HostError::Lost { .. } => {
            ActionError::retryable(format!("`{program}` failed")).because(error)
        }
    }
}
