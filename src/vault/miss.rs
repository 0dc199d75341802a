//! Why a source has no value: it is not there at all, or it is there and cannot be asked.

use crate::action::ActionError;

/// A source did not answer.
#[derive(Debug)]
pub(super) enum Miss {
    /// It is not there: the variable is not set, the file does not exist, there is no terminal. Nothing to tell
    /// where another source answers.
    Absent(ActionError),
    /// It is there and failed. Told also where another source answers.
    Failed(ActionError),
}

impl Miss {
    pub(super) fn absent(message: impl Into<String>) -> Self {
        Self::Absent(ActionError::fatal(message))
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(ActionError::fatal(message))
    }

    /// What is there and may answer later.
    pub(super) fn unreached(message: impl Into<String>) -> Self {
        Self::Failed(ActionError::retryable(message))
    }

    pub(super) fn because(self, cause: &(dyn std::error::Error + 'static)) -> Self {
        self.map(|error| error.because(cause))
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        self.map(|error| error.help(help))
    }

    fn map(self, change: impl FnOnce(ActionError) -> ActionError) -> Self {
        match self {
            Self::Absent(error) => Self::Absent(change(error)),
            Self::Failed(error) => Self::Failed(change(error)),
        }
    }

    pub(super) fn into_error(self) -> ActionError {
        match self {
            Self::Absent(error) | Self::Failed(error) => error,
        }
    }
}
