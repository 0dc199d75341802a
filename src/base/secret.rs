//! Secret values: never in `Debug`, wiped when dropped.

use std::fmt;

use zeroize::Zeroizing;

/// A secret text. `Debug` shows `***`; only [`SecretText::reveal`] gives the value.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// Gives the value, for the one place that needs it (an environment, a connection, a file of mode 0600).
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(***)")
    }
}

impl<'de> serde::Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl schemars::JsonSchema for SecretText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretText".into()
    }
    /// `x-secret` marks an argument that secrets may flow into.
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "x-secret": true })
    }
}

/// Opens a secret's reference inside a rendered text.
pub const TOKEN_OPEN: char = '\u{E000}';
/// Closes a secret's reference inside a rendered text.
pub const TOKEN_CLOSE: char = '\u{E001}';

/// Writes the reference that stands for the secret `name` until the moment of use.
#[must_use]
pub fn token(name: &str) -> String {
    format!("{TOKEN_OPEN}{name}{TOKEN_CLOSE}")
}
