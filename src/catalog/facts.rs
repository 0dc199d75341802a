//! What is known of a database's content and of its state beside the content.
//!
//! Counts and hashes say whether a restore gave back what was there. They are comparable only with the
//! same moment: a dump's own snapshot, or a base backup restored to the end of the backup itself. After a
//! replay to another moment they differ on every database that lives.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Digest, Timestamp};
use crate::pgformat::Lsn;

/// Counts and hashes of the tables of one or more databases at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ContentFacts {
    /// When they were taken, by the server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub taken_at: Option<Timestamp>,
    /// The WAL position they hold for, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsn: Option<Lsn>,
    /// Per database what it holds.
    #[serde(default)]
    pub databases: BTreeMap<String, DatabaseFacts>,
}

/// What one database holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DatabaseFacts {
    /// Each ordinary table under `schema.table`, quoted as SQL wants it.
    #[serde(default)]
    pub tables: BTreeMap<String, TableFacts>,
    /// SHA-256 of a canonical listing of its schema: tables, columns, types, constraints, indexes, functions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Digest>,
    /// The rows of each materialized view that holds any answer, under `schema.view`, quoted as SQL wants it. A restored
    /// dump makes them anew, so the rows may differ.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub materialized_views: BTreeMap<String, u64>,
    /// How many large objects there are, where the whole database was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large_objects: Option<u64>,
}

/// What one table holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TableFacts {
    /// Its rows.
    pub rows: u64,
    /// A hash of all rows that does not depend on their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// How a dump was made, and the state of its database that lies outside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DumpFacts {
    /// The database within the server.
    pub dbname: String,
    /// The form of the dump.
    pub format: DumpFormat,
    /// The server's version as it says it: `15.18`.
    pub server_version: String,
    /// The version of `pg_dump`.
    pub program_version: String,
    /// The cluster's identity, where the role may read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_id: Option<crate::pgformat::SystemId>,
    /// Whether schemas or tables were left out.
    #[serde(default)]
    pub partial: bool,
    /// The database's own state: a restore into a new name does not get it from the dump.
    pub state: DatabaseState,
}

/// The forms of a dump that `pg_dump` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DumpFormat {
    /// One file with a table of contents.
    #[default]
    Custom,
    /// One file per table, written and read in parallel.
    Directory,
    /// SQL.
    Plain,
    /// A tar archive.
    Tar,
}

/// The state of a database that `pg_dump` without `--create` leaves out: owner, rights, settings, locale.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DatabaseState {
    /// The owning role.
    pub owner: String,
    /// The encoding's name.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// The locale provider, `libc` or `icu`, where the server tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The ICU locale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icu_locale: Option<String>,
    /// The ICU collation's own rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icu_rules: Option<String>,
    /// The version of the collation library: text sorts differently under another one. A restore builds every index
    /// anew, so it need not be the same there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation_version: Option<String>,
    /// The most connections; -1 is no limit.
    #[serde(default)]
    pub connection_limit: i32,
    /// Whether it is a template: whoever may create databases may copy it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_template: bool,
    /// The default tablespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tablespace: Option<String>,
    /// The access rights as `pg_database.datacl` gives them; `None`: the default ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl: Option<Vec<String>>,
    /// Its comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Settings of `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET`.
    #[serde(default)]
    pub settings: Vec<DatabaseSetting>,
}

/// One setting that a database, or a role in it, gives to its sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DatabaseSetting {
    /// The role it is for; `None`: every role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}
