//! What is wrong with something a person wrote: code, place, excerpt, help; all of a file at once.
//!
//! A [`Diagnostic`] is data. Rendering stands in `render`, the table of codes in `code`.

mod code;
mod data;
mod render;
mod source;

pub use code::{Code, Severity};
pub use data::{explain, find_code, near_code, to_json};
pub use render::{Look, RenderStyle, one_line, render};
pub use source::{ByteSpan, Place, SourceFile, SourceId, Sources};

/// One finding about something a person wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The stable code; `runbook explain CODE` tells more.
    pub code: Code,
    /// Error or warning; usually [`Code::severity`].
    pub severity: Severity,
    /// One fact, a lower-case fragment with values in backticks.
    pub message: String,
    /// The places, the first one primary; empty when nothing can be pointed at.
    pub labels: Vec<Label>,
    /// What to do next.
    pub help: Option<String>,
}

/// A place in a source file with a few words about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub place: Place,
    /// What stands there; empty for the primary place of a one-place diagnostic.
    pub text: String,
}

impl Diagnostic {
    /// Starts a diagnostic with the code's own severity and no place.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, severity: code.severity(), message: message.into(), labels: Vec::new(), help: None }
    }

    /// Makes it a warning whatever the code says: for what is surely wrong, and yet may stop nobody who restores.
    #[must_use]
    pub fn as_warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Adds a place; the first one is primary.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.labels.push(Label { place, text: String::new() });
        self
    }

    /// Adds a place with words.
    #[must_use]
    pub fn label(mut self, place: Place, text: impl Into<String>) -> Self {
        self.labels.push(Label { place, text: text.into() });
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says "did you mean" when a known name is near `wrong`, else lists the known names.
    #[must_use]
    pub fn suggest<'a>(self, wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let near = known
            .iter()
            .map(|name| (strsim::damerau_levenshtein(wrong, name), *name))
            .filter(|(distance, name)| *distance <= 1.max(wrong.len().max(name.len()) / 3))
            .min();
        match near {
            Some((_, name)) => self.help(format!("did you mean `{name}`?")),
            None if known.is_empty() => self,
            None => {
                let list: Vec<String> = known.iter().take(30).map(|name| format!("`{name}`")).collect();
                self.help(format!("known: {}", list.join(", ")))
            }
        }
    }
}

/// A list of findings, in the order they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Adds a finding.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Adds all findings of another list.
    pub fn extend(&mut self, other: Diagnostics) {
        self.0.extend(other.0);
    }

    /// Joins two lists in the order of the texts; findings without a place come first.
    #[must_use]
    pub fn and(mut self, other: Diagnostics) -> Self {
        self.extend(other);
        self.0.sort_by_key(|diagnostic| diagnostic.labels.first().map(|label| label.place));
        self
    }

    /// Tells whether any finding is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.iter().any(|d| d.severity == Severity::Error)
    }

    /// Gives the findings in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// Tells whether there is no finding.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts the findings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<T: IntoIterator<Item = Diagnostic>>(iter: T) -> Self {
        Self(iter.into_iter().collect())
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
