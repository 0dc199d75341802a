//! The names of objects.

use std::fmt;
use std::str::FromStr;

/// The name of an object: parts joined by `/`, none empty, `.` or `..`, no control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectKey(String);

/// The text cannot be an object's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an object key")]
pub struct ParseObjectKeyError(String);

impl ObjectKey {
    /// The key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectKey {
    type Err = ParseObjectKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part_fits =
            |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control);
        if text.len() <= 1024 && text.split('/').all(part_fits) {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseObjectKeyError(text.to_owned()))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
