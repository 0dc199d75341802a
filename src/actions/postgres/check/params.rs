//! What `postgres.check` is told, and what it answers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::{BackupHandle, DatabaseRef, InstanceHandle, Late};
use crate::base::Digest;
use crate::base::units::Span;
use crate::catalog::ContentFacts;

/// The arguments of `postgres.check`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// The instance to prove, as `postgres.recover` gave it; default: the one of the inventory.
    #[serde(default)]
    pub instance: Option<Late<InstanceHandle>>,
    /// The backup that was restored: what a check of `facts` compares with.
    #[serde(default)]
    pub backup: Option<Late<BackupHandle>>,
    /// What is proved; default: the database's own checks.
    #[serde(default = "own_checks")]
    pub checks: Vec<CheckItem>,
}

fn own_checks() -> Vec<CheckItem> {
    vec![CheckItem::Set(CheckSet::Inventory)]
}

/// One check or set of checks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum CheckItem {
    /// A set with a name.
    Set(CheckSet),
    /// Those checks of the inventory that are of one database within the server.
    Of(InventoryOf),
    /// One check.
    One(Box<CheckBody>),
}

/// A set of checks with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckSet {
    /// The `checks` of the database in the inventory.
    Inventory,
}

/// The checks of the inventory that are of one database within the server: those that name it, and where it is the
/// entry's `dbname` those that name none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InventoryOf {
    /// The database within the server, such as one that was restored from a dump.
    pub inventory: String,
}

/// One check: `name` and `dbname` where they are wanted, and exactly one thing to prove.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckBody {
    /// A name for reports.
    pub name: String,
    /// The database within the server. Default: the inventory's `dbname`, for what has an `all` of its own every one.
    pub dbname: Option<String>,
    /// `all`: no foreign key has a row without its parent.
    pub foreign_keys: Option<AllKeys>,
    /// `valid`: no index is invalid, and B-trees are walked where `amcheck` can be had. `heapallindexed`: B-trees must be
    /// walked, and each row of a table must be in them; where there is no `amcheck` a drill is inconclusive, and any other run
    /// fails.
    pub indexes: Option<ValidIndexes>,
    /// Tables that must be there.
    pub tables: Option<Vec<String>>,
    /// How many rows tables must have: `{ users: "> 100", sales.orders: "> 0" }`.
    pub rows: Option<BTreeMap<String, String>>,
    /// Rows, schema and with `hashes` content are those of `backup`. Only at the backup's own moment: a restored dump, or a
    /// base backup recovered to `immediate`. The first proven restore of a base backup takes the facts and keeps them.
    /// Hashes that were never taken are no passed check: of a dump that is an error.
    pub facts: Option<EqualFacts>,
    /// The schema is the one with this fingerprint: tables, columns, types, constraints, indexes, functions, triggers and
    /// policies. The check tells the one it finds, so that it can be pinned.
    pub schema_fingerprint: Option<SchemaFingerprint>,
    /// `ahead`: no sequence of a column would give a number that is there already.
    pub sequences: Option<AheadSequences>,
    /// `available`: what every extension needs is installed here, in its version or one it can be updated to.
    pub extensions: Option<AvailableExtensions>,
    /// `same`: text sorts here as where its indexes were built.
    pub collations: Option<SameCollations>,
    /// The newest value of a column is fresh.
    pub newest: Option<Newest>,
    /// A program of the application ends with 0. It is told the instance as `libpq` reads it: `PGHOST`, `PGPORT`, `PGUSER`,
    /// `PGDATABASE`, and may only read there.
    pub smoke: Option<Smoke>,
    /// A statement; its first column of the first row is judged.
    pub sql: Option<String>,
    /// What the value of `sql` must be: `> 0`, `= 42`, `= 'text'`; absent: at least one row.
    pub expect: Option<String>,
}

/// Which foreign keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllKeys {
    /// All that the database promises.
    All,
}

/// What indexes must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValidIndexes {
    /// Valid.
    Valid,
    /// Valid, in order, and complete.
    Heapallindexed,
}

/// What must be equal to the facts of the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EqualFacts {
    /// The rows of each table, and the schema.
    Counts,
    /// Also a hash over all rows of each table: every value is read.
    Hashes,
}

/// Which schema there must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaFingerprint {
    /// Its SHA-256, as 64 hex digits.
    #[schemars(with = "String")]
    pub equals: Digest,
}

/// What sequences must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AheadSequences {
    /// Ahead of the columns they number.
    Ahead,
}

/// What extensions must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AvailableExtensions {
    /// Installed on this machine.
    Available,
}

/// What collations must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameCollations {
    /// Of the version they had.
    Same,
}

/// How fresh a column must be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Newest {
    /// The table.
    pub table: String,
    /// A column with points in time.
    pub column: String,
    /// How old its newest value may be at the incident, else at the start of the run.
    pub within: Span,
}

/// A program of the application that tries the database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Smoke {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Further variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long it may take; default: as long as the step.
    #[serde(default)]
    pub timeout: Option<Span>,
}

/// The outputs of `postgres.check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckOutput {
    /// Each check with its value.
    pub checks: Vec<CheckResult>,
    /// How many passed.
    pub passed: u64,
    /// What could not be put to the test in a drill, and why: it is inconclusive then, and no proof.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unproven: Vec<String>,
    /// The facts that were taken because the base backup had none; kept with the restore's proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<ContentFacts>,
}

/// One check's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckResult {
    /// Its name.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// The value found, in words for proofs.
    pub value: String,
    /// What was expected.
    pub expected: String,
    /// What is wrong, or could not be judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// Why it could not be made, where that is so: it did not pass, and nothing was found wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unproven: Option<String>,
}

impl CheckResult {
    /// Whether something was found wrong.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        !self.passed && self.unproven.is_none()
    }
}
