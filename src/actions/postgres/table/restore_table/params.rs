//! The arguments and outputs of `postgres.restore_table`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compare::Difference;
use super::undo::TableUndo;
use crate::action::{DatabaseRef, InstanceHandle, Late, ParamFault};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::table::names;

/// Rows that are told of a table at most.
const SAMPLES: u32 = 5;

/// The arguments of `postgres.restore_table`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreTableParams {
    /// The live database of the inventory.
    pub database: DatabaseRef,
    /// The side instance that the tables are taken from, as `postgres.side_instance` gave it.
    #[serde(default)]
    pub instance: Option<Late<InstanceHandle>>,
    /// The tables: `table` (in `public`) or `schema.table`, quoted as in SQL where a name has capital letters, a comma or a dot
    /// (`"Odd, name"`). Partitions come with their table, and so does what inherits from it.
    #[serde(default, deserialize_with = "names::of_list")]
    pub tables: Vec<String>,
    /// The database within the server; default: the inventory's `dbname`.
    #[serde(default)]
    pub dbname: Option<String>,
    /// `compare` (default) tells what differs, `apply` brings it back, `revert` takes an application back.
    #[serde(default)]
    pub mode: RestoreTableMode,
    /// What `apply` does to a table that is there; default `missing`. A table that is gone comes back whole.
    #[serde(default)]
    pub apply: Option<ApplyMode>,
    /// What becomes of rows of other tables whose parent is in no copy; default `refuse`.
    #[serde(default)]
    pub orphans: Orphans,
    /// How many rows of each kind are told by their key; default 5. Values are never told.
    #[serde(default)]
    pub samples: Option<u32>,
    /// For `revert`: the output `undo` of the step that applied.
    #[serde(default)]
    pub undo: Option<Late<TableUndo>>,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestoreTableMode {
    /// Only look.
    #[default]
    Compare,
    /// Bring back.
    Apply,
    /// Take an application back.
    Revert,
}

/// What is brought back into a table that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApplyMode {
    /// Rows that are gone; every row that is there stays as it is.
    #[default]
    Missing,
    /// Rows that are gone, and rows that are others now; rows that came since stay.
    Changed,
    /// The copy's rows and no other.
    Mirror,
}

impl ApplyMode {
    /// The kinds of difference that it applies, as SQL lists them.
    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Missing => "'i'",
            Self::Changed => "'i', 'u'",
            Self::Mirror => "'i', 'u', 'd'",
        }
    }

    /// How many rows of a difference it applies.
    pub(super) fn rows(self, difference: &Difference) -> u64 {
        match self {
            Self::Missing => difference.missing,
            Self::Changed => difference.missing + difference.changed,
            Self::Mirror => difference.missing + difference.changed + difference.extra,
        }
    }
}

/// What becomes of a foreign key of another table to a table that was gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Orphans {
    /// Every row must have its parent, or nothing is done.
    #[default]
    Refuse,
    /// The key is made `NOT VALID` when rows have none: it holds for new rows, and the old ones can be mended.
    Allow,
}

/// The outputs of `postgres.restore_table`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RestoreTableOutput {
    /// Each table.
    pub tables: Vec<TableOutcome>,
    /// Tables of the copy that the live database was found to lack, with rows or without.
    #[serde(default)]
    pub gone: u64,
    /// Rows of the copy that the live tables lack, those of tables that are gone included.
    pub missing: u64,
    /// Rows that are others now.
    pub changed: u64,
    /// Rows that only the live tables have.
    pub extra: u64,
    /// How many rows were inserted, updated or deleted.
    pub applied: u64,
    /// Foreign keys to these tables that are `NOT VALID` now and were valid in the copy, each with its rows that have no
    /// parent. Only `orphans: allow` leaves any.
    #[serde(default)]
    pub not_valid: Vec<String>,
    /// Materialized views that came back with tables that were gone and have other rows than in the copy: they are made anew
    /// from the rows of now. Each with its rows now and then.
    #[serde(default)]
    pub refreshed: Vec<String>,
    /// What takes it back; null when nothing was done.
    #[serde(default)]
    pub undo: Option<TableUndo>,
}

/// What became of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableOutcome {
    /// Its name with its schema.
    pub table: String,
    /// What was found.
    pub state: TableState,
    /// Its rows in the copy.
    pub rows_in_copy: u64,
    /// How it differs, where it is there.
    #[serde(default)]
    pub difference: Option<Difference>,
    /// Rows that were inserted.
    #[serde(default)]
    pub inserted: u64,
    /// Rows that were updated.
    #[serde(default)]
    pub updated: u64,
    /// Rows that were deleted.
    #[serde(default)]
    pub deleted: u64,
}

/// Where a table stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableState {
    /// The live database has it.
    There,
    /// The live database does not have it.
    Gone,
    /// It was gone and is back.
    Recreated,
}

impl RestoreTableParams {
    /// What is brought back into a table that is there.
    pub(super) fn apply(&self) -> ApplyMode {
        self.apply.unwrap_or_default()
    }

    /// How many rows are told.
    pub(super) fn samples(&self) -> u32 {
        self.samples.unwrap_or(SAMPLES)
    }

    /// The database within the server.
    pub(super) fn dbname<'a>(&'a self, cluster: &'a Cluster) -> &'a str {
        self.dbname.as_deref().unwrap_or(&cluster.dbname)
    }

    /// What makes no sense together.
    pub(super) fn faults(&self) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        let mut fault = |pointer: &str, message: &str| faults.push(ParamFault::new(pointer, message));
        match self.mode {
            RestoreTableMode::Compare | RestoreTableMode::Apply => {
                if self.instance.is_none() {
                    fault("", "`instance` is missing: the side instance that the tables are taken from");
                }
                if self.tables.is_empty() {
                    fault("/tables", "name at least one table");
                }
                if self.undo.is_some() {
                    fault("/undo", "`undo` belongs to `mode: revert`");
                }
            }
            RestoreTableMode::Revert => {
                if self.instance.is_some() || !self.tables.is_empty() {
                    fault("", "`mode: revert` takes `undo` alone: it says which tables");
                }
            }
        }
        if self.mode != RestoreTableMode::Apply && (self.apply.is_some() || self.orphans != Orphans::Refuse) {
            fault("/mode", "`apply` and `orphans` belong to `mode: apply`");
        }
        let mut seen = std::collections::BTreeSet::new();
        for (at, table) in self.tables.iter().enumerate() {
            if table.trim().is_empty() || !seen.insert(table) {
                fault(&format!("/tables/{at}"), "a table is named once, and not by an empty name");
            }
        }
        if self.samples.is_some_and(|samples| samples > 1000) {
            fault("/samples", "at most 1000 rows of each kind are told");
        }
        faults
    }
}
