//! Where the backups of a database or of anything else lie, as arguments name it.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::action::{BackupHandle, DatabaseRef, ParamFault, StoreRef};
use crate::language::inventory::{Database, Inventory};

/// Where the backups of one source lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// What they are of.
    pub(super) source: String,
    /// The store's name.
    pub(super) store: String,
    /// What their keys begin with.
    pub(super) prefix: String,
}

impl Place {
    /// The other stores that the WAL after these backups is archived into, for the store that a database is recovered from.
    pub(super) fn wal_stores<'a>(&'a self, inventory: &'a Inventory) -> impl Iterator<Item = &'a str> {
        self.entry(inventory).into_iter().flat_map(Database::archives).filter(|name| *name != self.store)
    }

    /// The other stores that each of these backups goes to, for the store that a database is recovered from.
    pub(super) fn backup_destinations<'a>(&'a self, inventory: &'a Inventory) -> impl Iterator<Item = &'a str> {
        self.entry(inventory).into_iter().flat_map(Database::backup_destinations).filter(|name| *name != self.store)
    }

    /// The place of a backup that was chosen: where no store is named, that may be another one that each backup goes to.
    pub(super) fn of_chosen(
        self,
        handle: Option<&BackupHandle>,
        named: Option<&StoreRef>,
        inventory: &Inventory,
    ) -> Self {
        match handle {
            Some(handle) if named.is_none() && self.backup_destinations(inventory).any(|name| name == handle.store) => {
                Self { store: handle.store.clone(), ..self }
            }
            Some(_) | None => self,
        }
    }

    /// The database that is recovered from here.
    fn entry<'a>(&self, inventory: &'a Inventory) -> Option<&'a Database> {
        let entry = inventory.databases.get(&self.source)?;
        let is_own =
            entry.store.as_ref() == Some(&self.store) && entry.prefix.as_ref().unwrap_or(&self.source) == &self.prefix;
        is_own.then_some(entry)
    }
}

/// The arguments that name a place: a `database`, or a `source` in a `store`.
///
/// Flattened into the arguments of a step, which deny unknown fields for it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct PlaceSpec {
    /// The database of the inventory that the backups are of.
    #[serde(default)]
    pub database: Option<DatabaseRef>,
    /// What the backups are of, when it is no database of the inventory; needs `store`.
    #[serde(default)]
    pub source: Option<String>,
    /// The store. Default: the database's.
    #[serde(default)]
    pub store: Option<StoreRef>,
    /// What the keys begin with. Default: the database's `prefix`, else the source's name.
    #[serde(default)]
    pub prefix: Option<String>,
}

impl PlaceSpec {
    /// The place they name.
    ///
    /// # Errors
    /// Fails when they name none, two, or one that the inventory does not have.
    pub(super) fn resolve(&self, inventory: &Inventory) -> Result<Place, ParamFault> {
        let store = self.store.as_ref().map(|store| store.0.clone());
        let place = match (&self.database, &self.source) {
            (Some(_), Some(_)) => {
                return Err(ParamFault::new("/source", "`database` and `source` exclude each other"));
            }
            (None, None) => {
                let fault = ParamFault::new("", "neither `database` nor `source` is given");
                return Err(fault.help("name a database of the inventory, or a source with its `store`"));
            }
            (Some(database), None) => of_database(database, store, inventory)?,
            (None, Some(source)) => {
                let help = "name the store of the inventory that holds its backups";
                let store = store.ok_or_else(|| ParamFault::new("/source", "a `source` needs a `store`").help(help))?;
                Place { source: source.clone(), store, prefix: source.clone() }
            }
        };
        let prefix = self.prefix.clone().unwrap_or(place.prefix);
        match is_key(&prefix) {
            true => Ok(Place { prefix, ..place }),
            false => Err(ParamFault::new("/prefix", format!("`{prefix}` cannot begin an object's key"))
                .help("parts joined by `/`, none empty, `.` or `..`")),
        }
    }
}

/// Whether a text can be a key, or a part of one.
pub(super) fn is_key(text: &str) -> bool {
    text.parse::<crate::action::ObjectKey>().is_ok()
}

fn of_database(database: &DatabaseRef, store: Option<String>, inventory: &Inventory) -> Result<Place, ParamFault> {
    let fault = |what: String| ParamFault::new("/database", what).help("give the database a `store` in the inventory");
    let name = database.as_str();
    let entry = inventory.databases.get(name).ok_or_else(|| fault(format!("there is no database `{name}`")))?;
    let store = store.or_else(|| entry.store.clone());
    let store = store.ok_or_else(|| fault(format!("database `{name}` names no store")))?;
    Ok(Place { source: name.to_owned(), store, prefix: entry.prefix.clone().unwrap_or_else(|| name.to_owned()) })
}
