//! Newtypes of everything that is named or numbered.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;

/// Names one run: `20260128-143002-3fa9c1`, the UTC start to the second, then its milliseconds and a random
/// number, three hex digits each.
///
/// Sorts by start, is typed by people at three in the morning, and is a safe folder name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// Makes a new id for a run that starts at `at`.
    #[must_use]
    pub fn generate(at: Timestamp) -> Self {
        let random = uuid::Uuid::now_v7().simple().to_string();
        let millis = at.subsec_nanosecond().unsigned_abs() / 1_000_000;
        Self(format!("{}-{millis:03x}{}", at.strftime("%Y%m%d-%H%M%S"), &random[29..]))
    }

    /// Returns the id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text cannot be an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}")]
pub struct ParseIdError {
    text: String,
    what: &'static str,
}

impl FromStr for RunId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (4..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-');
        if fits {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseIdError { text: text.to_owned(), what: "a run id" })
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a step of a run.
///
/// A step of the file is an identifier, `[a-z][a-z0-9_]*`. What the engine makes of it carries more: `parent/child`
/// is a step of a sub-runbook, `step[key]` an instance of a `for_each`, `step.undo` the step that reverses it, and
/// these combine: `parent/child[key].undo`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct StepId(String);

/// What follows the id of a step in the id of the step that reverses it.
const UNDO: &str = ".undo";

impl StepId {
    /// Returns the id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Names a step of the sub-runbook that this step stands for.
    #[must_use]
    pub fn child(&self, id: &str) -> Self {
        Self(format!("{}/{id}", self.0))
    }

    /// Names an instance of this step. Of the key, everything but letters, digits, `_`, `-` and `.` is percent-encoded,
    /// so that the id is a safe folder name.
    #[must_use]
    pub fn instance(&self, key: &str) -> Self {
        Self(format!("{}[{}]", self.0, encode(key)))
    }

    /// Names the step that reverses this one.
    #[must_use]
    pub fn undo(&self) -> Self {
        Self(format!("{}{UNDO}", self.0))
    }

    /// The step that this one reverses, if it is the undo of one.
    #[must_use]
    pub fn undone(&self) -> Option<Self> {
        self.0.strip_suffix(UNDO).map(|of| Self(of.to_owned()))
    }

    /// The step that this one is an instance of, if it is one. The undo of an instance is none.
    #[must_use]
    pub fn of_instance(&self) -> Option<Self> {
        let (step, _) = self.0.strip_suffix(']')?.split_once('[')?;
        Some(Self(step.to_owned()))
    }

    /// The step of the enclosing runbook that stands for the sub-runbook of this one, if there is one.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let head = self.0.split('[').next().unwrap_or_default();
        head.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// The name of its folder: the id, with `+` for `/`.
    #[must_use]
    pub fn folder(&self) -> String {
        self.0.replace('/', "+")
    }
}

/// Percent-encodes what is not safe in a name; a long key is cut and told apart by its digest.
fn encode(key: &str) -> String {
    use fmt::Write as _;
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' => encoded.push(char::from(byte)),
            other => drop(write!(encoded, "%{other:02X}")),
        }
    }
    if encoded.len() <= LONGEST_KEY {
        return encoded;
    }
    let digest = super::Digest::of(key.as_bytes()).to_string();
    let tail: String = digest.chars().rev().take(12).collect();
    let kept: String = encoded.chars().take(LONGEST_KEY - 13).collect();
    format!("{kept}~{tail}")
}

/// No key of an instance is longer, encoded.
const LONGEST_KEY: usize = 80;

/// Tells whether `text` may name a step, parameter, variable or secret.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 64
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl FromStr for StepId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let head = text.strip_suffix(UNDO).unwrap_or(text);
        let (path, key) = match head.strip_suffix(']').and_then(|head| head.split_once('[')) {
            Some((path, key)) => (path, Some(key)),
            None => (head, None),
        };
        let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'%' | b'~');
        if path.split('/').all(is_identifier) && key.is_none_or(|key| key.bytes().all(safe)) {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseIdError { text: text.to_owned(), what: "a step id (`[a-z][a-z0-9_]*`)" })
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for StepId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Numbers the events of a run, from 1, without gaps.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct EventSeq(pub u64);

impl EventSeq {
    /// Returns the number that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for EventSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Numbers the attempts of a step, from 1.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// Returns the number that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
