//! The structure of an inventory file, as editors and the validator see it.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::Value;

use super::{AuditSettings, Database, Environment, ExpectedBackup, Retention, SecretEntry, Service, StoreEntry};
use crate::language::runbook::NotifyRule;

/// What runbooks of one team share.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Inventory")]
#[expect(dead_code, reason = "described for its schema; values are read entry by entry")]
struct InventorySpec {
    /// The version of the language: 1.
    #[schemars(range(min = 1, max = 1))]
    version: u32,
    /// A sentence.
    #[serde(default)]
    description: String,
    /// Further inventory files, relative to this one.
    #[serde(default)]
    include: Vec<String>,
    /// Databases by name.
    #[serde(default)]
    databases: BTreeMap<String, Database>,
    /// Services by name.
    #[serde(default)]
    services: BTreeMap<String, Service>,
    /// Places for backups by name.
    #[serde(default)]
    stores: BTreeMap<String, StoreEntry>,
    /// Secrets by name.
    #[serde(default)]
    secrets: BTreeMap<String, SecretEntry>,
    /// Environments by name.
    #[serde(default)]
    environments: BTreeMap<String, Environment>,
    /// Variables by name.
    #[serde(default)]
    vars: BTreeMap<String, Value>,
    /// Who is told of what in every run.
    #[serde(default)]
    notify: Vec<NotifyRule>,
    /// How the history of runs is proven to others.
    #[serde(default)]
    audit: AuditSettings,
    /// How long backups are kept; without it nothing is ever pruned.
    #[serde(default)]
    retention: Option<Retention>,
    /// The backups there must be, by name: what `runbook backups health` judges.
    #[serde(default)]
    backups: BTreeMap<String, ExpectedBackup>,
}

/// The JSON schema of an inventory file.
#[must_use]
pub fn file_schema() -> Schema {
    schema_of::<InventorySpec>()
}

/// A draft 2020-12 schema without the defaults of the Rust types, which are not those of the language.
pub(in crate::language) fn schema_of<T: JsonSchema>() -> Schema {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    RecursiveTransform(|schema: &mut Schema| {
        schema.remove("default");
    })
    .transform(&mut schema);
    schema
}
