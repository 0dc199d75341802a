//! How much of a database's content is looked at.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::DatabaseFacts;

/// How much of a database's content is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FactsDepth {
    /// Nothing.
    Off,
    /// The rows of each table, and the schema.
    #[default]
    Counts,
    /// Also a hash over all rows of each table: every value is read.
    Hashes,
}

impl FactsDepth {
    /// What it takes to compare with facts that were taken.
    pub(crate) fn of(facts: &DatabaseFacts) -> Self {
        if facts.tables.values().any(|table| table.hash.is_some()) { Self::Hashes } else { Self::Counts }
    }
}
