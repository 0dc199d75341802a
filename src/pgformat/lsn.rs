//! Positions in the WAL, timelines and the identity of a cluster.

use std::fmt;
use std::str::FromStr;

/// A log sequence number: a byte position in the WAL, written `X/Y` in hex as PostgreSQL writes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Position zero, which PostgreSQL uses for "none".
    pub const ZERO: Self = Self(0);

    /// Tells whether this is a real position.
    #[must_use]
    pub fn is_valid(self) -> bool {
        self.0 != 0
    }

    /// Returns the bytes from `earlier` to this position, zero when it is not later.
    #[must_use]
    pub fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the position `bytes` later.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lsn({self})")
    }
}

/// The text is not a position `X/Y`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a WAL position such as `0/3000028`")]
pub struct ParseLsnError(String);

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseLsnError(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(bad)?;
        let part = |digits: &str| {
            let fits = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            fits.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
        };
        let (high, low) = (part(high).ok_or_else(bad)?, part(low).ok_or_else(bad)?);
        Ok(Self(u64::from(high) << 32 | u64::from(low)))
    }
}

/// A timeline's number, written in decimal for people and as eight hex digits in file names.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Timeline(pub u32);

impl Timeline {
    /// The timeline every cluster starts on.
    pub const FIRST: Self = Self(1);

    /// Returns the eight hex digits of file names.
    #[must_use]
    pub fn hex(self) -> String {
        format!("{:08X}", self.0)
    }

    /// Returns the name of its history file.
    #[must_use]
    pub fn history_file(self) -> String {
        format!("{:08X}.history", self.0)
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not a timeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a timeline number")]
pub struct ParseTimelineError(String);

impl FromStr for Timeline {
    type Err = ParseTimelineError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self(number)),
            _ => Err(ParseTimelineError(text.to_owned())),
        }
    }
}

/// The system identifier that `initdb` gives a cluster; copies and standbys share it. Decimal text in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SystemId(pub u64);

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SystemId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

macro_rules! as_text {
    ($type:ty, $name:literal, $pattern:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

as_text!(Lsn, "Lsn", "^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$");
as_text!(SystemId, "SystemId", "^[0-9]{1,20}$");

#[cfg(test)]
mod tests {
    use super::{Lsn, Timeline};

    #[test]
    fn a_position_reads_back_from_its_text() {
        for (text, number) in [("0/3000028", 0x300_0028), ("16/B374D848", 0x16_B374_D848), ("0/0", 0)] {
            let lsn: Lsn = text.parse().expect(text);
            assert_eq!(lsn, Lsn(number));
            assert_eq!(lsn.to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_position_is_refused() {
        for text in ["", "/", "0", "0/", "/0", "0/123456789", "0/+1", "-1/0", "g/0", "0/0/0"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }

    #[test]
    fn timeline_zero_is_refused() {
        assert!("0".parse::<Timeline>().is_err());
        assert_eq!("17".parse(), Ok(Timeline(17)));
        assert_eq!(Timeline(17).history_file(), "00000011.history");
    }
}
