//! Filters that a template names and nobody has: the engine would tell only when the step runs.

use std::ops::Range;

use minijinja::ErrorKind;

use super::environment::environment;
use super::error::{TemplateError, TemplateErrorKind};
use super::reference::TextKind;

/// Filters worth suggesting; the engine has a few more.
pub(super) const WELL_KNOWN: [&str; 32] = [
    "abs",
    "b64encode",
    "bool",
    "capitalize",
    "count",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "max",
    "min",
    "replace",
    "reverse",
    "round",
    "sha256",
    "sort",
    "split",
    "string",
    "tojson",
    "trim",
    "upper",
    "urlencode",
];

/// Finds the first filter that does not exist.
pub(super) fn unknown_filter(text: &str, kind: TextKind) -> Option<TemplateError> {
    let range = filters(text, kind).into_iter().find(|range| !exists(&text[range.clone()]))?;
    let name = &text[range.clone()];
    let error = TemplateError::new(TemplateErrorKind::Syntax, format!("there is no filter `{name}`"));
    let near = WELL_KNOWN.iter().map(|known| (strsim::damerau_levenshtein(name, known), *known)).min();
    let help = near.filter(|(distance, _)| *distance <= 2).map(|(_, known)| format!("did you mean `{known}`?"));
    Some(TemplateError { range: Some(range), help, ..error })
}

/// Asks the engine by calling it without arguments: an existing filter complains about those instead.
pub(super) fn exists(name: &str) -> bool {
    match environment().empty_state().apply_filter(name, &[]) {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::UnknownFilter,
    }
}

/// Gives the names after each `|` inside code and outside quotes.
fn filters(text: &str, kind: TextKind) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut in_code = kind == TextKind::Expression;
    let mut quote = None;
    let mut index = 0;
    while index < bytes.len() {
        let pair = bytes.get(index..index + 2);
        match (in_code, quote, bytes[index]) {
            (false, _, b'{') if matches!(pair, Some(b"{{" | b"{%")) => {
                in_code = true;
                index += 1;
            }
            (false, _, _) => {}
            (true, Some(_), b'\\') => index += 1,
            (true, Some(open), byte) if byte == open => quote = None,
            (true, Some(_), _) => {}
            (true, None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (true, None, b'|') => found.extend(name_at(text, index + 1)),
            (true, None, b'%' | b'}') if matches!(pair, Some(b"}}" | b"%}")) => {
                in_code = kind == TextKind::Expression;
                index += 1;
            }
            (true, None, _) => {}
        }
        index += 1;
    }
    found
}

fn name_at(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = &text[at..];
    let start = at + rest.len() - rest.trim_start().len();
    let len = text[start..]
        .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .unwrap_or(text.len() - start);
    (len > 0).then_some(start..start + len)
}
