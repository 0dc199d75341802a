//! Masks secret values in whatever programs write.
//!
//! A value is found as it is, in base64 at each of its three alignments (standard and URL-safe
//! alphabet), percent-encoded and JSON-escaped; of a value of several lines each longer line too.
//! Overlapping finds are masked as one. It is the second line of defence: a value that a program
//! transforms in another way is not found.

use std::borrow::Cow;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::secret::SecretText;

/// What stands in place of a secret.
pub const MASK: &str = "***";
/// Shorter values are not masked, because they would tear up ordinary text; they are refused as secrets.
pub const SHORTEST_SECRET: usize = 4;
/// Shorter lines of a value of several lines are not masked on their own.
const SHORTEST_LINE: usize = 8;

/// Knows the secret values and masks them.
#[derive(Clone, Default)]
pub struct Redactor {
    values: Vec<SecretText>,
    patterns: Vec<SecretText>,
    finder: Option<AhoCorasick>,
    longest: usize,
}

impl Redactor {
    /// Knows the given values.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = SecretText>) -> Self {
        let mut known: Vec<SecretText> = Vec::new();
        for value in values {
            if value.reveal().len() >= SHORTEST_SECRET && !known.contains(&value) {
                known.push(value);
            }
        }
        let mut forms: Vec<String> = known.iter().flat_map(|value| forms(value.reveal())).collect();
        forms.sort_unstable();
        forms.dedup();
        let longest = forms.iter().map(String::len).max().unwrap_or_default();
        let finder = if forms.is_empty() { None } else { AhoCorasick::new(&forms).ok() };
        Self { values: known, patterns: forms.into_iter().map(SecretText::new).collect(), finder, longest }
    }

    /// The values it knows, to hand them to a process that redacts on its own.
    #[must_use]
    pub fn values(&self) -> &[SecretText] {
        &self.values
    }

    /// Masks every secret in a text.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.finder {
            Some(finder) if finder.is_match(text) => {
                Cow::Owned(String::from_utf8_lossy(&self.bytes(text.as_bytes())).into_owned())
            }
            Some(_) | None => Cow::Borrowed(text),
        }
    }

    /// Masks every secret in a text, or in every text inside a JSON value, member names included.
    #[must_use]
    pub fn json(&self, value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::String(text) => Value::String(self.text(&text).into_owned()),
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.json(item)).collect()),
            Value::Object(map) => Value::Object(
                map.into_iter().map(|(key, item)| (self.text(&key).into_owned(), self.json(item))).collect(),
            ),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
        }
    }

    /// Masks every secret in some bytes.
    #[must_use]
    pub fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut stream = RedactStream::default();
        stream.push(self, bytes, &mut out);
        stream.finish(self, &mut out);
        out
    }

    fn mark(&self, buffer: &[u8]) -> Vec<bool> {
        let mut marked = vec![false; buffer.len()];
        if let Some(finder) = &self.finder {
            for found in finder.find_overlapping_iter(buffer) {
                marked[found.range()].fill(true);
            }
        }
        marked
    }

    /// Gives the first position from which on a secret may have begun but not ended.
    fn open_end(&self, buffer: &[u8]) -> usize {
        let from = buffer.len().saturating_sub(self.longest.saturating_sub(1));
        (from..buffer.len())
            .find(|at| {
                let rest = &buffer[*at..];
                self.patterns.iter().any(|p| p.reveal().len() > rest.len() && p.reveal().as_bytes().starts_with(rest))
            })
            .unwrap_or(buffer.len())
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} values)", self.values.len())
    }
}

/// Masks a stream that comes in chunks: a secret cut by a chunk's end is found too.
#[derive(Default)]
pub struct RedactStream {
    buffer: Vec<u8>,
    /// How much of `buffer` was given out already; kept because a find may reach back into it.
    done: usize,
    in_mask: bool,
}

impl RedactStream {
    /// Takes a chunk and appends what is certain by now to `out`; holds back what may be the start of a secret.
    pub fn push(&mut self, redactor: &Redactor, chunk: &[u8], out: &mut Vec<u8>) {
        if redactor.finder.is_none() {
            out.extend_from_slice(chunk);
            return;
        }
        self.buffer.extend_from_slice(chunk);
        let until = redactor.open_end(&self.buffer);
        self.give(redactor, until, out);
    }

    /// Gives out what was held back.
    pub fn finish(&mut self, redactor: &Redactor, out: &mut Vec<u8>) {
        let until = self.buffer.len();
        self.give(redactor, until, out);
        self.buffer.clear();
        self.done = 0;
    }

    fn give(&mut self, redactor: &Redactor, until: usize, out: &mut Vec<u8>) {
        let marked = redactor.mark(&self.buffer);
        for (byte, masked) in self.buffer[..until].iter().zip(&marked).skip(self.done) {
            if *masked && !self.in_mask {
                out.extend_from_slice(MASK.as_bytes());
            }
            if !*masked {
                out.push(*byte);
            }
            self.in_mask = *masked;
        }
        self.done = self.done.max(until);
        let keep_from = self.done.saturating_sub(redactor.longest.saturating_sub(1));
        self.buffer.drain(..keep_from);
        self.done -= keep_from;
    }
}

fn forms(value: &str) -> Vec<String> {
    let mut all = vec![value.to_owned()];
    if value.contains('\n') {
        all.extend(value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE).map(str::to_owned));
        all.push(value.replace('\n', "\r\n"));
    }
    for skip in 0..3 {
        all.extend(base64_core(value.as_bytes(), skip));
    }
    let upper = percent_encoded(value);
    // Forms write a space as `+`.
    all.push(upper.replace("%20", "+"));
    all.push(lower_hex(&upper));
    all.push(lower_hex(&upper).replace("%20", "+"));
    all.push(upper);
    if let Ok(json) = serde_json::to_string(value) {
        all.push(json[1..json.len() - 1].to_owned());
    }
    all.retain(|form| form.len() >= SHORTEST_SECRET);
    all
}

/// The characters of a base64 text that depend on this value alone when `skip` foreign bytes stand before it.
fn base64_core(value: &[u8], skip: usize) -> Vec<String> {
    let mut padded = vec![0u8; skip];
    padded.extend_from_slice(value);
    let first = (skip * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)]
        .into_iter()
        .filter_map(|text| text.get(first..last).map(str::to_owned))
        .filter(|core| core.len() >= 6)
        .collect()
}

fn percent_encoded(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn lower_hex(encoded: &str) -> String {
    let mut out = String::new();
    let mut rest = encoded;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        out.push_str(&rest[at..at + 3].to_ascii_lowercase());
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::{RedactStream, Redactor, STANDARD_NO_PAD};
    use crate::base::secret::SecretText;
    use base64::Engine as _;

    fn redactor(values: &[&str]) -> Redactor {
        Redactor::new(values.iter().map(|value| SecretText::new((*value).to_owned())))
    }

    #[test]
    fn a_value_is_masked_wherever_it_stands() {
        let known = redactor(&["hunter22"]);
        assert_eq!(known.text("pw=hunter22;hunter22hunter22 hunter2"), "pw=***;*** hunter2");
    }

    #[test]
    fn a_value_is_found_whatever_the_chunks_are() {
        let known = redactor(&["correct horse", "horseshoe", "aaab"]);
        let text = b"x correct horseshoe y aaaaab correct hors correct horse";
        let whole = known.bytes(text);
        assert_eq!(String::from_utf8_lossy(&whole), "x *** y aa*** correct hors ***");
        for size in 1..text.len() {
            let (mut stream, mut out) = (RedactStream::default(), Vec::new());
            for chunk in text.chunks(size) {
                stream.push(&known, chunk, &mut out);
            }
            stream.finish(&known, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&whole), "chunks of {size}");
        }
    }

    #[test]
    fn encoded_forms_are_masked_too() {
        let value = "s3cr\"t/ü key+word";
        let known = redactor(&[value]);
        for skip in ["", "a", "ab"] {
            let text = STANDARD_NO_PAD.encode(format!("{skip}{value}zz"));
            assert!(known.text(&text).contains("***"), "alignment {}", skip.len());
            assert!(known.text(&text).len() < 14, "little remains: {}", known.text(&text));
        }
        let json = serde_json::to_string(value).expect("a text");
        assert_eq!(known.text(&json), "\"***\"");
        assert_eq!(known.text("q=s3cr%22t%2F%C3%BC%20key%2Bword&"), "q=***&");
        assert_eq!(known.text("q=s3cr%22t%2f%c3%bc%20key%2bword&"), "q=***&");
        assert_eq!(known.text("q=s3cr%22t%2F%C3%BC+key%2Bword&"), "q=***&", "as a form writes it");
    }

    #[test]
    fn a_line_of_a_key_file_is_masked_on_its_own() {
        let known = redactor(&["-----BEGIN-----\nMIIBVQIBADANBg\n"]);
        assert_eq!(known.text("read MIIBVQIBADANBg\r\n"), "read ***\r\n");
    }

    #[test]
    fn short_values_do_not_tear_up_text() {
        assert_eq!(redactor(&["abc", ""]).text("abcabc"), "abcabc");
    }

    #[test]
    fn what_cannot_be_a_secret_is_given_out_at_once() {
        let known = redactor(&["hunter22"]);
        let (mut stream, mut out) = (RedactStream::default(), Vec::new());
        stream.push(&known, b"progress 10%\nhu", &mut out);
        assert_eq!(out, b"progress 10%\n");
    }

    #[test]
    fn debug_shows_no_value() {
        assert_eq!(format!("{:?}", redactor(&["hunter22"])), "Redactor(1 values)");
    }
}
