//! The error of an attempt or a check.

use std::error::Error;

use crate::event::{ErrorClass, ErrorInfo};

/// Why an attempt or a check failed: class, fact, causes, advice. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.message)]
pub struct ActionError(Box<ErrorInfo>);

impl ActionError {
    /// An error for which trying again may help.
    #[must_use]
    pub fn retryable(message: impl Into<String>) -> Self {
        Self(Box::new(ErrorInfo::new(ErrorClass::Retryable, message)))
    }

    /// An error for which trying again cannot help.
    #[must_use]
    pub fn fatal(message: impl Into<String>) -> Self {
        Self(Box::new(ErrorInfo::new(ErrorClass::Fatal, message)))
    }

    /// The attempt was told to end.
    #[must_use]
    pub fn cancelled(message: impl Into<String>) -> Self {
        Self(Box::new(ErrorInfo::new(ErrorClass::Cancelled, message)))
    }

    /// The effect may or may not have happened.
    #[must_use]
    pub fn unknown(message: impl Into<String>) -> Self {
        Self(Box::new(ErrorInfo::new(ErrorClass::Unknown, message)))
    }

    /// Adds what caused it, with the whole chain below.
    #[must_use]
    pub fn because(mut self, cause: &(dyn Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            let text = error.to_string();
            if self.0.causes.last() != Some(&text) {
                self.0.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Adds how a process ended.
    #[must_use]
    pub fn process(mut self, exit_code: Option<i32>, output_tail: Vec<String>) -> Self {
        self.0.exit_code = exit_code;
        self.0.output_tail = output_tail;
        self
    }

    /// Tells the error with what caused it, behind a colon each.
    #[must_use]
    pub fn in_full(&self) -> String {
        self.0.causes.iter().fold(self.to_string(), |told, cause| format!("{told}: {cause}"))
    }

    /// Gives the error as the journal keeps it.
    #[must_use]
    pub fn info(&self) -> &ErrorInfo {
        &self.0
    }

    /// Gives the error as the journal keeps it.
    #[must_use]
    pub fn into_info(self) -> ErrorInfo {
        *self.0
    }
}

impl From<ErrorInfo> for ActionError {
    fn from(info: ErrorInfo) -> Self {
        Self(Box::new(info))
    }
}
