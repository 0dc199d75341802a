//! How much of a database's content is looked at.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{ContentFacts, DatabaseFacts};

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
    /// Tells whether facts that were kept tell this much of every table.
    pub(crate) fn is_in(self, facts: &ContentFacts) -> bool {
        let mut tables = facts.databases.values().flat_map(|database| database.tables.values());
        match self {
            Self::Off | Self::Counts => true,
            Self::Hashes => tables.all(|table| table.hash.is_some()),
        }
    }

    /// What it takes to compare with facts that were taken.
    pub(crate) fn of(facts: &DatabaseFacts) -> Self {
        if facts.tables.values().any(|table| table.hash.is_some()) { Self::Hashes } else { Self::Counts }
    }
}
