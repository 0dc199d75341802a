//! Errors as the journal keeps them: a chain of texts, a class and advice.

use serde::{Deserialize, Serialize};

/// What an error means for the attempt that raised it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Trying again may help.
    Retryable,
    /// Trying again cannot help.
    Fatal,
    /// The attempt ended because it was told to.
    Cancelled,
    /// The attempt ran longer than its timeout and was ended.
    Timeout,
    /// The effect may or may not have happened: never retried unless idempotent.
    Unknown,
}

/// An error with what caused it, free of secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ErrorInfo {
    /// What it means.
    pub class: ErrorClass,
    /// The outermost fact.
    pub message: String,
    /// Each cause below it, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The exit code of a process, where one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The last lines the process wrote, where one ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output_tail: Vec<String>,
}

impl ErrorInfo {
    /// An error of one fact.
    #[must_use]
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            causes: Vec::new(),
            help: None,
            exit_code: None,
            output_tail: Vec::new(),
        }
    }

    /// Says what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
