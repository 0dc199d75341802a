//! What health came to.

use std::fmt;

use serde::Serialize;

use super::Figures;

/// How bad it is, by the convention of monitoring plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As expected.
    Ok,
    /// Somebody should look at it.
    Warning,
    /// What was promised does not hold.
    Critical,
    /// It could not be found out.
    Unknown,
}

/// One thing that was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What it is, a lower-case fragment.
    pub message: String,
}

/// The health of one expected backup.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// Its name in the inventory.
    pub name: String,
    /// What it is taken of.
    pub source: String,
    /// Its kind.
    pub kind: String,
    /// Where it lies; empty when nothing says where.
    pub store: String,
    /// The worst of the findings.
    pub level: Level,
    /// What is wrong; empty when nothing is.
    pub findings: Vec<Finding>,
    /// What was measured.
    pub figures: Figures,
}

impl Health {
    /// Nothing could be judged at all; told in the shape of the rest for whoever reads figures and not words.
    #[must_use]
    pub fn unknown(message: String) -> Self {
        Self {
            name: String::new(),
            source: String::new(),
            kind: String::new(),
            store: String::new(),
            level: Level::Unknown,
            findings: vec![Finding { level: Level::Unknown, message }],
            figures: Figures::default(),
        }
    }

    /// Whether it is of an expected backup, with figures of its own.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        !self.name.is_empty()
    }
}

impl Level {
    /// The code that monitoring plugins exit with.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    /// The worse of two: critical is worse than unknown, which is worse than a warning.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        let rank = |level| match level {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Unknown => 2,
            Self::Critical => 3,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        })
    }
}
