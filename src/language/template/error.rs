//! Why a template cannot be rendered.

use std::ops::Range;

/// Why a template cannot be read or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// What kind of fault it is.
    pub kind: TemplateErrorKind,
    /// One fact, a lower-case fragment.
    pub message: String,
    /// Which bytes of the template text, where known.
    pub range: Option<Range<usize>>,
    /// JSON pointer of the faulty text in the value that was rendered; empty for a single text.
    pub pointer: String,
    /// What to do next.
    pub help: Option<String>,
}

/// The kinds of template faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TemplateErrorKind {
    /// Not well-formed, or an unknown filter, test or function.
    Syntax,
    /// A name or attribute that does not exist.
    Undefined,
    /// A null, list or mapping inside a text.
    NotText,
    /// A secret was changed, compared or measured instead of being passed on whole.
    Secret,
    /// `steps[…]`: what is read must be known before anything runs.
    Indexed,
    /// Out of fuel, too deep, or too large a result.
    Budget,
    /// An operation failed, such as a division by zero.
    Failed,
}

impl TemplateError {
    pub(super) fn new(kind: TemplateErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), range: None, pointer: String::new(), help: None }
    }

    pub(super) fn help(mut self, help: &str) -> Self {
        self.help = Some(help.to_owned());
        self
    }

    pub(super) fn under(mut self, pointer: &str) -> Self {
        self.pointer = pointer.to_owned();
        self
    }

    pub(super) fn from_engine(error: &minijinja::Error, offset: usize) -> Self {
        use minijinja::ErrorKind as Engine;
        let kind = match error.kind() {
            Engine::SyntaxError | Engine::UnknownFilter | Engine::UnknownTest | Engine::UnknownFunction => {
                TemplateErrorKind::Syntax
            }
            Engine::UndefinedError => TemplateErrorKind::Undefined,
            Engine::OutOfFuel | Engine::WriteFailure => TemplateErrorKind::Budget,
            _ => TemplateErrorKind::Failed,
        };
        let detail = error.detail().unwrap_or_default();
        let (kind, message) = match (detail.strip_prefix(NOT_TEXT), detail.strip_prefix(SECRET)) {
            (Some(rest), _) => (TemplateErrorKind::NotText, rest.to_owned()),
            (None, Some(rest)) => (TemplateErrorKind::Secret, rest.to_owned()),
            (None, None) => (kind, words(error)),
        };
        let range = error.range().map(|range| range.start + offset..range.end + offset);
        Self { range, help: help_of(kind), ..Self::new(kind, message) }
    }
}

/// Marks errors of our own formatter on their way through the engine.
pub(super) const NOT_TEXT: &str = "\u{1}text:";
/// Marks errors of our own filters about secrets on their way through the engine.
pub(super) const SECRET: &str = "\u{1}secret:";

fn words(error: &minijinja::Error) -> String {
    match (error.kind(), error.detail()) {
        (minijinja::ErrorKind::OutOfFuel, _) => "the template does more work than any real one".to_owned(),
        (minijinja::ErrorKind::WriteFailure, _) => "the result is larger than 1 MiB".to_owned(),
        (minijinja::ErrorKind::UndefinedError, None) => "the value is undefined".to_owned(),
        (_, Some(detail)) if detail.contains("end of variable block") && detail.contains("end of input") => {
            "the `{{` is never closed".to_owned()
        }
        (_, Some(detail)) => detail.to_owned(),
        (kind, None) => kind.to_string(),
    }
}

fn help_of(kind: TemplateErrorKind) -> Option<String> {
    let text = match kind {
        TemplateErrorKind::NotText => {
            "give a text: `|default('...')` for a null, `|join(', ')` or `|tojson` for a list"
        }
        TemplateErrorKind::Secret => "pass the secret on whole, as `{{ secrets.name }}`",
        TemplateErrorKind::Syntax
        | TemplateErrorKind::Undefined
        | TemplateErrorKind::Indexed
        | TemplateErrorKind::Budget
        | TemplateErrorKind::Failed => return None,
    };
    Some(text.to_owned())
}
