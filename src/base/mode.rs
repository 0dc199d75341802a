//! The mode of a run.

use serde::{Deserialize, Serialize};

/// What a run may do to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The real thing.
    Real,
    /// The same steps in the `drill` environment.
    Drill,
    /// Nothing is written anywhere.
    DryRun,
}

impl Mode {
    /// The mode's name in templates and files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Drill => "drill",
            Self::DryRun => "dry_run",
        }
    }
}
