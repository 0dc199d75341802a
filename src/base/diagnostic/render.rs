//! Diagnostics for people: an underlined excerpt, the code and a help line.

use std::fmt;
use std::sync::Arc;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, ThemeCharacters, ThemeStyles};

use super::{Diagnostic, Diagnostics, Label, Severity, SourceFile, Sources};

/// How diagnostics are drawn. The caller knows the terminal; nothing here reads the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenderStyle {
    /// Characters and colours.
    pub look: Look,
    /// Columns available.
    pub width: usize,
}

/// Characters and colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// ASCII without colour: pipes, files, `NO_COLOR` on old terminals.
    Plain,
    /// Box drawing without colour.
    Unicode,
    /// Box drawing with colour.
    Colour,
}

/// Lines longer than this are named but not shown.
const LONGEST_LINE: usize = 500;

/// Draws all findings, errors and warnings as they come, separated by empty lines.
#[must_use]
pub fn render(diagnostics: &Diagnostics, sources: &Sources, style: RenderStyle) -> String {
    let handler = handler(style);
    let mut out = String::new();
    for diagnostic in diagnostics.iter() {
        if !out.is_empty() {
            out.push('\n');
        }
        let before = out.len();
        let is_drawn = Report::all(diagnostic, sources).iter().all(|report| {
            let drawn = handler.render_report(&mut out, report).is_ok();
            out.truncate(out.trim_end().len());
            out.push('\n');
            drawn
        });
        if !is_drawn {
            out.truncate(before);
            out.push_str(&one_line(diagnostic, sources));
        }
    }
    trimmed_lines(&out)
}

/// Writes a finding in one line: `file:line:column: error[RB0102]: message`.
#[must_use]
pub fn one_line(diagnostic: &Diagnostic, sources: &Sources) -> String {
    let place = diagnostic.labels.first().map(|label| format!("{}: ", position(label, sources))).unwrap_or_default();
    format!("{place}{}[{}]: {}\n", word(diagnostic.severity), diagnostic.code.as_str(), diagnostic.message)
}

fn handler(style: RenderStyle) -> GraphicalReportHandler {
    let theme = match style.look {
        Look::Plain => GraphicalTheme { characters: ThemeCharacters::ascii(), styles: ThemeStyles::none() },
        Look::Unicode => GraphicalTheme { characters: ThemeCharacters::unicode(), styles: ThemeStyles::none() },
        Look::Colour => GraphicalTheme { characters: ThemeCharacters::unicode(), styles: ThemeStyles::ansi() },
    };
    GraphicalReportHandler::new_themed(theme).with_width(style.width).with_links(false).with_context_lines(1)
}

fn trimmed_lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

fn position(label: &Label, sources: &Sources) -> String {
    let name = sources.get(label.place.source).map_or("?", |file| file.name.as_str());
    match sources.line_column(label.place) {
        Some((line, column)) => format!("{name}:{line}:{column}"),
        None => name.to_owned(),
    }
}

/// The part of a finding that stands in one file.
struct Report {
    severity: miette::Severity,
    message: String,
    help: Option<String>,
    source: Option<NamedSource<Arc<str>>>,
    labels: Vec<LabeledSpan>,
}

impl Report {
    /// The finding itself with its places in the first file, then one for each place elsewhere.
    fn all(diagnostic: &Diagnostic, sources: &Sources) -> Vec<Self> {
        let severity = match diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
            Severity::Note => miette::Severity::Advice,
        };
        let code = diagnostic.code.as_str();
        let message = format!("{}[{code}]: {}", word(diagnostic.severity), diagnostic.message);
        let mut main = Self { severity, message, help: None, source: None, labels: Vec::new() };
        let mut elsewhere = Vec::new();
        let here = diagnostic.labels.first().map(|label| label.place.source);
        for label in &diagnostic.labels {
            let Some(file) = sources.get(label.place.source) else { continue };
            if !is_drawable(file, label) {
                main.message = format!("{} ({})", main.message, position(label, sources));
            } else if Some(label.place.source) == here {
                main.source = Some(NamedSource::new(&file.name, Arc::clone(&file.text)));
                main.labels.push(span(label, file));
            } else {
                elsewhere.push(Self::elsewhere(label, file));
            }
        }
        let mut reports = vec![main];
        reports.append(&mut elsewhere);
        if let Some(last) = reports.last_mut() {
            last.help.clone_from(&diagnostic.help);
        }
        reports
    }

    fn elsewhere(label: &Label, file: &SourceFile) -> Self {
        let bare = Label { place: label.place, text: String::new() };
        Self {
            severity: miette::Severity::Advice,
            message: label.text.clone(),
            help: None,
            source: Some(NamedSource::new(&file.name, Arc::clone(&file.text))),
            labels: vec![span(&bare, file)],
        }
    }
}

/// An excerpt is drawn only of lines that a person can read.
fn is_drawable(file: &SourceFile, label: &Label) -> bool {
    let text = &file.text;
    let Some(before) = text.get(..label.place.span.start) else { return false };
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let around = text[start..].split('\n').next().unwrap_or("").len();
    !text.is_empty() && around <= LONGEST_LINE
}

/// A label covers one line at most: a long underline hides what it points at.
fn span(label: &Label, file: &SourceFile) -> LabeledSpan {
    let start = label.place.span.start.min(file.text.len());
    let end = (start + label.place.span.len).min(file.text.len());
    let line = file.text.get(start..end).and_then(|text| text.split('\n').next()).unwrap_or("");
    let text = (!label.text.is_empty()).then(|| label.text.clone());
    let at_end = start == file.text.len() && start > 0;
    LabeledSpan::new(text, if at_end { start - 1 } else { start }, line.len().max(1))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Report {}

impl miette::Diagnostic for Report {
    fn severity(&self) -> Option<miette::Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.source.as_ref().map(|source| source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        (!self.labels.is_empty())
            .then(|| Box::new(self.labels.iter().cloned()) as Box<dyn Iterator<Item = LabeledSpan>>)
    }
}
