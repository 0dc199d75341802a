//! Choosing an environment, and the inventory as it sees it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::file::InventoryFile;
use super::{Database, Environment, Inventory, Service, StoreEntry};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};

/// The environment that exists when none is defined: unprotected.
pub const BUILT_IN: &str = "default";

/// The environment of drills; never chosen unless it is named.
pub const DRILL: &str = "drill";

/// No environment can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// The name that was asked for does not exist.
    #[error("there is no environment `{asked}`; known: {known}")]
    Unknown {
        /// The name.
        asked: String,
        /// The names that exist.
        known: String,
    },
    /// Nothing was asked for and several could be meant.
    #[error("several environments are defined: {known}")]
    Several {
        /// The names that exist.
        known: String,
    },
}

/// Chooses: the one asked for, else the one marked `default`, else the only one beside `drill`, else the built-in.
///
/// # Errors
/// Fails for an unknown name, and when several are defined and none is marked.
pub fn choose_environment(file: &InventoryFile, asked: Option<&str>) -> Result<String, EnvironmentError> {
    let others: Vec<&String> = file.environments.keys().filter(|name| *name != DRILL).collect();
    let list = |names: &[&String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if let Some(asked) = asked {
        let is_built_in = others.is_empty() && asked == BUILT_IN;
        if is_built_in || file.environments.contains_key(asked) {
            return Ok(asked.to_owned());
        }
        let mut known: Vec<String> = file.environments.keys().map(|name| format!("`{name}`")).collect();
        if others.is_empty() {
            known.push(format!("`{BUILT_IN}`"));
        }
        return Err(EnvironmentError::Unknown { asked: asked.to_owned(), known: known.join(", ") });
    }
    let marked = file.environments.iter().find(|(_, environment)| environment.default);
    match (marked, others.as_slice()) {
        (Some((name, _)), _) => Ok(name.clone()),
        (None, []) => Ok(BUILT_IN.to_owned()),
        (None, [only]) => Ok((*only).clone()),
        (None, several) => Err(EnvironmentError::Several { known: list(several) }),
    }
}

/// Entries of one section as written.
type Written = BTreeMap<String, Map<String, Value>>;

impl InventoryFile {
    /// Gives the inventory as an environment sees it: its overrides applied member by member, defaults filled in.
    ///
    /// # Errors
    /// Fails when an entry does not read, which loading has reported with more words.
    pub fn for_environment(&self, name: &str) -> Result<Inventory, Diagnostics> {
        let built_in = Environment::default();
        let chosen = self.environments.get(name).unwrap_or(&built_in);
        let mut faults = Diagnostics::default();
        let databases = self.section("databases", (&self.databases, &chosen.databases), &mut faults);
        let services = self.section("services", (&self.services, &chosen.services), &mut faults);
        let stores: BTreeMap<String, (StoreEntry, _)> =
            self.section("stores", (&self.stores, &chosen.stores), &mut faults);
        let backups = self.section("backups", (&self.backups, &chosen.backups), &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut secrets = self.secrets.clone();
        secrets.extend(chosen.secrets.clone());
        let mut vars = self.vars.clone();
        vars.extend(chosen.vars.clone());
        Ok(Inventory {
            environment: name.to_owned(),
            databases: databases.into_iter().map(|(name, (entry, map))| (name, filled_database(entry, &map))).collect(),
            services: services.into_iter().map(|(name, (entry, _))| (name, filled_service(entry))).collect(),
            stores: stores.into_iter().map(|(name, (entry, _))| (name, entry)).collect(),
            secrets,
            environments: self.environments.clone(),
            vars,
            audit: self.audit.clone(),
            retention: self.retention.clone(),
            backups: backups.into_iter().map(|(name, (entry, _))| (name, entry)).collect(),
        })
    }

    fn section<T: DeserializeOwned>(
        &self,
        section: &str,
        (base, overrides): (&Written, &BTreeMap<String, Value>),
        faults: &mut Diagnostics,
    ) -> BTreeMap<String, (T, Map<String, Value>)> {
        let mut out = BTreeMap::new();
        for (name, members) in base {
            let mut members = members.clone();
            if let Some(Value::Object(changes)) = overrides.get(name) {
                overlay(&mut members, changes);
            }
            match serde_json::from_value(Value::Object(members.clone())) {
                Ok(entry) => drop(out.insert(name.clone(), (entry, members))),
                Err(error) => {
                    let pointer = format!("/{section}/{name}");
                    let message = format!("the entry `{name}` of `{section}` does not read: {error}");
                    faults.push(Diagnostic::new(Code::WrongType, message).at(self.name_place(&pointer)));
                }
            }
        }
        out
    }
}

/// Members that say one thing in two ways: how a service is run, when a backup is due, where a server answers.
const EITHER: [(&str, &str); 6] = [
    ("systemd", "command"),
    ("command", "systemd"),
    ("every", "cron"),
    ("cron", "every"),
    ("socket", "address"),
    ("address", "socket"),
];

/// Replaces members; one way of saying a thing drops the other.
fn overlay(members: &mut Map<String, Value>, changes: &Map<String, Value>) {
    for (one, other) in EITHER {
        if changes.contains_key(one) {
            members.remove(other);
        }
    }
    for (key, value) in changes {
        members.insert(key.clone(), value.clone());
    }
}

fn filled_database(mut entry: Database, written: &Map<String, Value>) -> Database {
    let is_absent = |key: &str| !written.contains_key(key);
    if is_absent("host") {
        entry.host = "local".to_owned();
    }
    if is_absent("port") {
        entry.port = 5432;
    }
    if is_absent("dbname") {
        entry.dbname = "postgres".to_owned();
    }
    if is_absent("user") {
        entry.user = "postgres".to_owned();
    }
    entry.socket = entry.socket.filter(|path| *path != PathBuf::new());
    if entry.is_managed() {
        entry.pgdata = PathBuf::new();
    }
    entry
}

fn filled_service(mut entry: Service) -> Service {
    if entry.host.is_empty() {
        entry.host = "local".to_owned();
    }
    entry
}
