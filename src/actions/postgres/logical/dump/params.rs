//! The arguments of `postgres.dump`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::action::{DatabaseRef, InstanceHandle, Late, ParamFault, StoreRef};
use crate::actions::postgres::cluster::name;
use crate::actions::postgres::session::content::FactsDepth;
use crate::catalog::DumpFormat;

/// The arguments of `postgres.dump`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DumpParams {
    /// The database of the inventory: one server.
    pub database: DatabaseRef,
    /// The instance to dump, as `postgres.recover` or `postgres.side_instance` gave it. Default: the database itself.
    #[serde(default)]
    pub instance: Option<Late<InstanceHandle>>,
    /// The databases within the server, each a backup of its own: a list of names, or `all`. Default: the `dbname` of
    /// the inventory.
    #[serde(default)]
    pub dbnames: Option<DatabaseNames>,
    /// With `dbnames: all`: the databases that get no dump, by name.
    #[serde(default)]
    pub exclude_dbnames: Vec<String>,
    /// `custom` (default), `directory` (in parallel, through the scratch folder), `plain` (SQL) or `tar`.
    #[serde(default)]
    pub format: DumpFormat,
    /// How many tables are dumped at the same time; format `directory` only. Default 1.
    #[serde(default)]
    pub jobs: Option<u32>,
    /// Who compresses: `store` (default: as the store's settings say) or `program` (`pg_dump` itself). Never both.
    #[serde(default)]
    pub compression: Compressor,
    /// How hard. Default: as the store's settings say; of the program, 6.
    #[serde(default)]
    pub level: Option<i32>,
    /// Only schemas that match one of these patterns of `pg_dump`.
    #[serde(default)]
    pub schemas: Vec<String>,
    /// No schemas that match one of these.
    #[serde(default)]
    pub exclude_schemas: Vec<String>,
    /// Only tables that match one of these.
    #[serde(default)]
    pub tables: Vec<String>,
    /// No tables that match one of these.
    #[serde(default)]
    pub exclude_tables: Vec<String>,
    /// The definition, but no rows, of tables that match one of these.
    #[serde(default)]
    pub exclude_table_data: Vec<String>,
    /// What a restore is compared with, from the dump's own snapshot: `off`, `counts` (default: rows per table, and the
    /// schema) or `hashes` (also a hash over all rows of each table).
    #[serde(default)]
    pub facts: FactsDepth,
    /// Whether roles and tablespaces of the server are saved beside it: `include` (default) or `skip`.
    #[serde(default)]
    pub globals: Globals,
    /// The stores that each get a complete copy. Default: `store` and `backup_stores` of the database.
    #[serde(default)]
    pub stores: Option<Vec<StoreRef>>,
    /// How many of them must have it in the end; those that fail beyond that are noted. Default: all.
    #[serde(default)]
    pub at_least: Option<usize>,
    /// The tier whose retention applies: `daily`, `before_deployment` …
    #[serde(default)]
    pub tier: Option<String>,
    /// A label for people, kept in the backup.
    #[serde(default)]
    pub label: Option<String>,
}

/// Databases within a server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum DatabaseNames {
    /// A set with a name.
    Set(AllDatabases),
    /// These.
    Named(Vec<String>),
}

/// A set of databases with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllDatabases {
    /// Every one but `template0` and the template `template1`. The step fails for one that takes no connections, except
    /// where a restore put it aside.
    All,
}

/// Who compresses a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compressor {
    /// We do, as the store's settings say.
    #[default]
    Store,
    /// `pg_dump` does: one could restore single tables of it without unpacking all.
    Program,
}

/// Whether what belongs to the server and not to one database is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Globals {
    /// It is.
    #[default]
    Include,
    /// It is not.
    Skip,
}

impl DumpParams {
    /// The arguments that are wrong whatever the server holds.
    pub(super) fn faults(&self) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        let mut hold = |fits: bool, path: &str, what: &str| {
            if !fits {
                faults.push(ParamFault::new(path, what));
            }
        };
        let parallel = self.format == DumpFormat::Directory;
        hold(self.jobs.is_none() || parallel, "/jobs", "only the format `directory` is dumped in parallel");
        hold(self.jobs.is_none_or(|jobs| (1..=256).contains(&jobs)), "/jobs", "it must lie between 1 and 256");
        let packs = matches!(self.format, DumpFormat::Custom | DumpFormat::Directory);
        if self.compression == Compressor::Program {
            hold(packs, "/compression", "`pg_dump` compresses the formats `custom` and `directory` only");
            hold(self.level.is_none_or(|level| (1..=9).contains(&level)), "/level", "it must lie between 1 and 9");
        }
        let tier = self.tier.as_deref().unwrap_or("none");
        hold(!tier.is_empty() && !tier.contains('/'), "/tier", "it cannot be a tier");
        let all = self.dbnames == Some(DatabaseNames::Set(AllDatabases::All));
        hold(
            all || self.exclude_dbnames.is_empty(),
            "/exclude_dbnames",
            "it leaves databases out of `dbnames: all` only",
        );
        if let Some(DatabaseNames::Named(names)) = &self.dbnames {
            hold(!names.is_empty(), "/dbnames", "no database is named");
            for (at, one) in names.iter().enumerate() {
                let path = format!("/dbnames/{at}");
                if let Err(what) = name::dbname(one) {
                    faults.push(ParamFault::new(path, what));
                } else if names[..at].contains(one) {
                    faults.push(ParamFault::new(path, format!("`{one}` is named twice")));
                }
            }
        }
        faults
    }

    /// Whether something of the database is left out.
    pub(super) fn is_partial(&self) -> bool {
        let filters = [&self.schemas, &self.exclude_schemas, &self.tables, &self.exclude_tables];
        filters.into_iter().chain([&self.exclude_table_data]).any(|patterns| !patterns.is_empty())
    }

    /// The arguments of `pg_dump` that choose what is dumped.
    pub(super) fn filters(&self) -> Vec<String> {
        let options = [
            ("--schema", &self.schemas),
            ("--exclude-schema", &self.exclude_schemas),
            ("--table", &self.tables),
            ("--exclude-table", &self.exclude_tables),
            ("--exclude-table-data", &self.exclude_table_data),
        ];
        let each = |(option, patterns): (&'static str, &Vec<String>)| {
            patterns.iter().map(move |pattern| format!("{option}={pattern}")).collect::<Vec<_>>()
        };
        options.into_iter().flat_map(each).collect()
    }

    /// How hard `pg_dump` compresses: not at all where we do.
    pub(super) fn program_level(&self) -> i32 {
        match self.compression {
            Compressor::Store => 0,
            Compressor::Program => self.level.unwrap_or(6),
        }
    }
}
