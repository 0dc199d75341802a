//! Bytes become text, or a reason why they are none.

use crate::base::diagnostic::{ByteSpan, Code, Diagnostic};

/// The largest file that is read: far more than any procedure a person could follow.
pub const MAX_BYTES: usize = 4 << 20;

/// Files that people mistake for a runbook, by their first bytes.
const MAGICS: [(&[u8], &str); 9] = [
    (b"\x1f\x8b", "gzip data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x7fELF", "a program"),
    (b"%PDF", "a PDF document"),
    (b"PGDMP", "a PostgreSQL dump"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
];

/// Turns the bytes of a file into text within the size budget.
///
/// # Errors
/// Says what the file is when it is no UTF-8 text, or that it is too large. The diagnostic has no place.
pub fn decode(name: &str, bytes: Vec<u8>) -> Result<String, Diagnostic> {
    if let Some((_, what)) = MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Err(Diagnostic::new(Code::NotText, format!("`{name}` is {what}, not a YAML file"))
            .help("give the path of a runbook: UTF-8 text that starts with `version: 1`"));
    }
    if bytes.len() > MAX_BYTES {
        let message = format!("`{name}` has {} bytes, more than the {MAX_BYTES} a runbook may have", bytes.len());
        return Err(Diagnostic::new(Code::Budget, message).help("check the path; split a real runbook with `include`"));
    }
    let not_text = |at: usize, what: &str| {
        Diagnostic::new(Code::NotText, format!("`{name}` is not text: byte {at} is {what}"))
            .help("give the path of a runbook: UTF-8 text that starts with `version: 1`")
    };
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(not_text(at, "zero"));
    }
    String::from_utf8(bytes).map_err(|error| not_text(error.utf8_error().valid_up_to(), "not UTF-8"))
}

/// Turns a 1-based line and column (in characters) into a byte offset, clipped to the text.
pub(super) fn offset(text: &str, line: u64, column: u64) -> usize {
    let mut start = 0;
    for _ in 1..line {
        match text[start..].find('\n') {
            Some(end) => start += end + 1,
            None => return text.len(),
        }
    }
    let rest = text[start..].split('\n').next().unwrap_or("");
    let skip = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    start + rest.char_indices().nth(skip).map_or(rest.len(), |(index, _)| index)
}

/// Gives the first indentation at or before `until` that holds a tab.
pub(super) fn tab_indentation(text: &str, until: usize) -> Option<ByteSpan> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if start > until {
            return None;
        }
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        let is_blank = line.trim().is_empty();
        if let Some(tab) = line[..indent].find('\t').filter(|_| !is_blank) {
            return Some(ByteSpan { start: start + tab, len: 1 });
        }
        start += line.len();
    }
    None
}

/// Gives the last quote at or before `until` that opens a text and has no partner in its line.
pub(super) fn open_quote(text: &str, until: usize) -> Option<ByteSpan> {
    let mut found = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if start > until {
            break;
        }
        if let Some(at) = open_quote_in(line) {
            found = Some(ByteSpan { start: start + at, len: 1 });
        }
        start += line.len();
    }
    found
}

fn open_quote_in(line: &str) -> Option<usize> {
    let bytes = line.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        let before = if index == 0 { b' ' } else { bytes[index - 1] };
        let byte = bytes[index];
        if byte == b'#' && before.is_ascii_whitespace() {
            return None;
        }
        if matches!(byte, b'"' | b'\'') && (before.is_ascii_whitespace() || b"[{,:(".contains(&before)) {
            match closing(bytes, index) {
                Some(end) => index = end,
                None => return Some(index),
            }
        }
        index += 1;
    }
    None
}

fn closing(bytes: &[u8], open: usize) -> Option<usize> {
    let quote = bytes[open];
    let mut index = open + 1;
    while index < bytes.len() {
        if quote == b'"' && bytes[index] == b'\\' {
            index += 1;
        } else if bytes[index] == quote {
            if quote == b'\'' && bytes.get(index + 1) == Some(&b'\'') {
                index += 1;
            } else {
                return Some(index);
            }
        }
        index += 1;
    }
    None
}
