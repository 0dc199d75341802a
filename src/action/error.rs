//! The error of an attempt or a check.

use std::error::Error;

use crate::event::{ErrorClass, ErrorInfo};

/// Why an attempt or a check failed: class, fact, causes, advice. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .info.message)]
pub struct ActionError {
    info: Box<ErrorInfo>,
    subject: Subject,
}

/// What an error speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// The attempt.
    Attempt,
    /// Stored bytes that are not what was stored, whoever reads them.
    Damage,
}

impl ActionError {
    /// An error for which trying again may help.
    #[must_use]
    pub fn retryable(message: impl Into<String>) -> Self {
        ErrorInfo::new(ErrorClass::Retryable, message).into()
    }

    /// An error for which trying again cannot help.
    #[must_use]
    pub fn fatal(message: impl Into<String>) -> Self {
        ErrorInfo::new(ErrorClass::Fatal, message).into()
    }

    /// The attempt was told to end.
    #[must_use]
    pub fn cancelled(message: impl Into<String>) -> Self {
        ErrorInfo::new(ErrorClass::Cancelled, message).into()
    }

    /// The effect may or may not have happened.
    #[must_use]
    pub fn unknown(message: impl Into<String>) -> Self {
        ErrorInfo::new(ErrorClass::Unknown, message).into()
    }

    /// Says that what was stored is damaged: a fact about those bytes, for whoever keeps it.
    #[must_use]
    pub fn of_damage(mut self) -> Self {
        self.subject = Subject::Damage;
        self
    }

    /// Whether it says that what was stored is damaged.
    #[must_use]
    pub fn is_of_damage(&self) -> bool {
        self.subject == Subject::Damage
    }

    /// Adds what caused it, with the whole chain below.
    #[must_use]
    pub fn because(mut self, cause: &(dyn Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            let text = error.to_string();
            if self.info.causes.last() != Some(&text) {
                self.info.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.info.help = Some(help.into());
        self
    }

    /// Adds how a process ended.
    #[must_use]
    pub fn process(mut self, exit_code: Option<i32>, output_tail: Vec<String>) -> Self {
        self.info.exit_code = exit_code;
        self.info.output_tail = output_tail;
        self
    }

    /// Tells the error with what caused it, behind a colon each.
    #[must_use]
    pub fn in_full(&self) -> String {
        self.info.causes.iter().fold(self.to_string(), |told, cause| format!("{told}: {cause}"))
    }

    /// Gives the error as the journal keeps it.
    #[must_use]
    pub fn info(&self) -> &ErrorInfo {
        &self.info
    }

    /// Gives the error as the journal keeps it.
    #[must_use]
    pub fn into_info(self) -> ErrorInfo {
        *self.info
    }
}

impl From<ErrorInfo> for ActionError {
    fn from(info: ErrorInfo) -> Self {
        Self { info: Box::new(info), subject: Subject::Attempt }
    }
}
