//! One YAML document becomes a tree, within budgets that no real runbook comes near.

use std::collections::BTreeMap;

use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Location, Options};

use super::node::{Entry, Kind, Node};
use super::reader::{Raw, RawKind};
use super::text;
use crate::base::diagnostic::{ByteSpan, Code, Diagnostic, Diagnostics, Place, SourceId};
use crate::base::secret::{TOKEN_CLOSE, TOKEN_OPEN};

/// Parses the text of a source. Duplicate keys are all found; the first value of each is kept.
///
/// # Errors
/// Returns the findings together with the tree as far as there is one: duplicate keys leave a tree
/// that can be looked at further, malformed YAML leaves none.
pub fn parse(source: SourceId, text: &str) -> (Option<Node>, Diagnostics) {
    match serde_saphyr::from_str_with_options::<Raw>(text, options()) {
        Err(error) => (None, explain(source, text, &error).into()),
        Ok(raw) => {
            let mut builder = Builder { source, text, faults: Diagnostics::default() };
            let node = builder.node(raw);
            if matches!(node.kind, Kind::Null) && !has_content(text) {
                let place = Place { source, span: ByteSpan::default() };
                let empty = Diagnostic::new(Code::EmptyFile, "the file holds nothing")
                    .help("a runbook has at least `version: 1`, `name` and `steps`; did an editor or a full disk truncate it?")
                    .at(place);
                return (None, empty.into());
            }
            (Some(node), builder.faults)
        }
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        merge_keys: MergeKeyPolicy::Merge,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        budget: serde_saphyr::budget! { max_nodes: 200_000, max_depth: 48, max_documents: 1 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 20_000, max_replay_stack_depth: 16 },
    }
}

fn has_content(text: &str) -> bool {
    text.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#') && line != "---")
}

struct Builder<'a> {
    source: SourceId,
    text: &'a str,
    faults: Diagnostics,
}

impl Builder<'_> {
    fn place(&self, location: Location) -> Place {
        Place { source: self.source, span: span(self.text, location) }
    }

    fn node(&mut self, raw: Raw) -> Node {
        let mut at = self.place(raw.at);
        let lexeme = self.lexeme(&raw);
        let kind = match raw.kind {
            RawKind::Null => Kind::Null,
            RawKind::Bool(value) => Kind::Bool(value),
            RawKind::Number(value) => Kind::Number(value),
            RawKind::OddNumber => Kind::Str(lexeme.clone().unwrap_or_default()),
            RawKind::Str(value) => {
                self.refuse_tokens(&value, at);
                Kind::Str(value)
            }
            RawKind::Seq(items) => Kind::Seq(items.into_iter().map(|item| self.node(item)).collect()),
            RawKind::Map(entries) => {
                let entries = self.entries(entries);
                if let Some(first) = entries.first().filter(|_| at.span.len <= 1) {
                    at = first.key_at;
                }
                Kind::Map(entries)
            }
        };
        Node { kind, at, lexeme }
    }

    fn entries(&mut self, raw: Vec<(serde_saphyr::Spanned<String>, Raw)>) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(raw.len());
        let mut seen: BTreeMap<String, Place> = BTreeMap::new();
        for (key, value) in raw {
            let key_at = self.place(key.referenced);
            let value = self.node(value);
            if let Some(first) = seen.get(&key.value) {
                let message = format!("the key `{}` stands twice in one mapping", key.value);
                let fault = Diagnostic::new(Code::DuplicateKey, message)
                    .label(key_at, "given again here")
                    .label(*first, "first given here")
                    .help("remove one of them: YAML tools silently keep only one");
                self.faults.push(fault);
                continue;
            }
            seen.insert(key.value.clone(), key_at);
            entries.push(Entry { key: key.value, key_at, value });
        }
        entries
    }

    fn lexeme(&self, raw: &Raw) -> Option<String> {
        match raw.kind {
            RawKind::Bool(_) | RawKind::Number(_) | RawKind::OddNumber => {
                let span = span(self.text, raw.defined);
                self.text.get(span.start..span.start + span.len).map(|text| text.trim_end().to_owned())
            }
            RawKind::Null | RawKind::Str(_) | RawKind::Seq(_) | RawKind::Map(_) => None,
        }
    }

    /// The characters that stand for secrets inside rendered texts may not come from outside.
    fn refuse_tokens(&mut self, value: &str, at: Place) {
        if value.contains([TOKEN_OPEN, TOKEN_CLOSE]) {
            let message = "the characters U+E000 and U+E001 are reserved";
            self.faults.push(Diagnostic::new(Code::Syntax, message).at(at).help("remove them from this text"));
        }
    }
}

fn span(text: &str, location: Location) -> ByteSpan {
    let to_usize = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let span = location.span();
    let start = match span.byte_offset() {
        Some(start) => to_usize(start).min(text.len()),
        None => text::offset(text, location.line(), location.column()),
    };
    let len = span.byte_len().map_or(0, to_usize).min(text.len() - start);
    ByteSpan { start, len: text[start..start + len].trim_end().len() }
}

fn explain(source: SourceId, text: &str, error: &Error) -> Diagnostic {
    let location = error.location().unwrap_or(Location::UNKNOWN);
    let error = innermost(error);
    let found = span(text, location);
    let at = |span: ByteSpan| Place { source, span };
    match error {
        Error::Budget { .. } if is_second_document(error) => {
            Diagnostic::new(Code::Syntax, "a second YAML document starts here")
                .at(at(found))
                .help("a runbook is one document: remove the `---` and what follows it")
        }
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => too_large(error, at(found)),
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            Diagnostic::new(Code::Syntax, "the alias stands inside its own anchor").at(at(found))
        }
        Error::UnsupportedTag { tag, .. } => {
            Diagnostic::new(Code::Syntax, format!("the tag `{tag}` has no meaning here"))
                .at(at(found))
                .help("remove the tag, or put the whole value in quotes")
        }
        _ => syntax(source, text, &message_of(error), found),
    }
}

/// Errors inside an alias come wrapped, with the place that uses it.
fn innermost(error: &Error) -> &Error {
    match error.without_snippet() {
        Error::AliasError { error, .. } => innermost(error),
        error => error,
    }
}

fn is_second_document(error: &Error) -> bool {
    matches!(error, Error::Budget { breach: serde_saphyr::budget::BudgetBreach::Documents { .. }, .. })
}

fn too_large(error: &Error, at: Place) -> Diagnostic {
    let what = match error {
        Error::Budget { .. } => "the document is larger or deeper than any real runbook",
        _ => "the aliases of this document expand beyond any real runbook",
    };
    Diagnostic::new(Code::Budget, what).label(at, "reading stopped here").help(
        "this looks like a file made to exhaust memory; if it is real, write it without nested aliases or split it",
    )
}

/// The parser's own words, without the position that it appends.
fn message_of(error: &Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ").map_or(text.clone(), |end| text[..end].to_owned())
}

fn syntax(source: SourceId, text: &str, message: &str, found: ByteSpan) -> Diagnostic {
    let place = |span: ByteSpan| Place { source, span };
    if message.contains("recursion limit") {
        return Diagnostic::new(Code::Budget, "the document is deeper than any real runbook")
            .label(place(found), "reading stopped here")
            .help("this looks like a file made to exhaust memory");
    }
    // A tab is often met only as the end of the line before it.
    let until = if message.contains("tab") { line_end(text, line_end(text, found.start)) } else { found.start };
    if let Some(tab) = text::tab_indentation(text, until) {
        return Diagnostic::new(Code::TabIndentation, "a tab is used for indentation")
            .at(place(tab))
            .help("use spaces; most editors can convert the whole file");
    }
    if let Some(quote) = text::open_quote(text, found.start)
        && (message.contains("quoted") || message.contains("end of stream") || message.contains("end of file"))
    {
        return Diagnostic::new(Code::Syntax, "the quote that opens here is never closed")
            .at(place(quote))
            .help("close it on the same line, or escape a quote that belongs to the text");
    }
    let line = line_around(text, found.start);
    if line.contains("{{") || line.contains("{%") {
        let message =
            if message.contains("string scalar") { "a `{{` without quotes begins a mapping" } else { message };
        return Diagnostic::new(Code::Syntax, message)
            .at(place(found))
            .help("put a value with `{{` in quotes: `\"{{ params.x }}\"`");
    }
    let message = if message.contains("mapping values") { "a `key: value` cannot stand here" } else { message };
    Diagnostic::new(Code::Syntax, message).at(place(found)).help(hint(message))
}

fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |end| at + end + 1)
}

fn line_around(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |index| index + 1);
    text[start..].split('\n').next().unwrap_or("")
}

fn hint(message: &str) -> &'static str {
    if message.contains("key: value") || message.contains("':'") {
        return "check the indentation of this line and the one above; a value that holds `: ` must stand in quotes";
    }
    if message.contains("unexpected character") {
        return "a value that begins with this character must stand in quotes";
    }
    if message.contains("anchor") {
        return "an alias `*x` needs an anchor `&x` above it";
    }
    if message.contains("string scalar") || message.contains("null into string") {
        return "keys are plain texts; a value that begins with `{` or `[` and is meant as text must stand in quotes";
    }
    "check the indentation, quotes and brackets of this line and the one above"
}
