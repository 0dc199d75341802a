//! The inventory of one environment with its secrets and stores, for commands that are no run.

use std::path::Path;
use std::sync::Arc;

use super::again::Again;
use super::args::InventoryArgs;
use super::invoke;
use super::screen::Face;
use super::{Exit, Failure, library, prepare, volume};
use crate::action::{ReadHost, ReadStore, Secrets, Store, StoreError};
use crate::base::diagnostic::Diagnostics;
use crate::host::LocalHost;
use crate::language::inventory::{Inventory, StoreEntry, choose_environment};
use crate::store::Opening;
use crate::vault::Vault;

/// What a command needs of the site it works on.
pub struct Site {
    /// The environment's name.
    pub environment: String,
    /// The inventory as that environment sees it.
    pub inventory: Inventory,
    /// Its secrets; nothing is fetched before it is needed.
    pub vault: Arc<Vault>,
    /// What commands that are printed repeat.
    pub again: Again,
}

impl Site {
    /// Reads the inventory and chooses the environment.
    ///
    /// # Errors
    /// Fails when the inventory is not sound (exit 3) or the environment is unknown (exit 2).
    pub fn read(inventory: &InventoryArgs, environment: Option<&str>, face: Face) -> Result<Self, Failure> {
        let again = Again::of(inventory, environment);
        let loaded = prepare::shared(inventory);
        let invalid = |faults: &Diagnostics| {
            prepare::tell(faults, &loaded.sources);
            Failure::new(Exit::Invalid, "the inventory is not sound; nothing was done")
                .help("`runbook explain CODE` says more about a code")
        };
        if loaded.diagnostics.has_errors() {
            return Err(invalid(&loaded.diagnostics));
        }
        let environment = choose_environment(&loaded.inventory, environment)
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()).help("name one with `--environment`"))?;
        let inventory = loaded.inventory.for_environment(&environment).map_err(|faults| invalid(&faults))?;
        let inventory = volume::sought(inventory);
        let vault = invoke::vault(&inventory, face)?;
        let again = again.protected_by(&inventory, &environment);
        Ok(Self { environment, inventory, vault, again })
    }

    /// No inventory: for a place that is named by its URL alone.
    ///
    /// # Errors
    /// Fails when the program cannot find itself.
    pub fn bare() -> Result<Self, Failure> {
        let inventory = Inventory::default();
        let vault = invoke::vault(&inventory, Face::Json)?;
        Ok(Self { environment: String::new(), inventory, vault, again: Again::default() })
    }

    /// The entry of a store.
    ///
    /// # Errors
    /// Fails when there is none (exit 2); the message names those there are.
    pub fn store_entry(&self, name: &str) -> Result<&StoreEntry, Failure> {
        self.inventory.stores.get(name).ok_or_else(|| {
            let known = self.inventory.stores.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            Failure::new(Exit::Usage, format!("the inventory has no store `{name}`")).help(format!("known: {known}"))
        })
    }

    /// Opens a store for reading.
    ///
    /// # Errors
    /// Fails when there is none, or its entry makes no sense.
    pub fn read_store(&self, name: &str) -> Result<Arc<dyn ReadStore>, Failure> {
        self.opening(name, self.store_entry(name)?).open_read().map_err(|error| unopened(&error))
    }

    /// Opens a store that must exist already, for writing.
    ///
    /// # Errors
    /// Fails when there is none, or its entry makes no sense.
    pub fn store(&self, name: &str) -> Result<Arc<dyn Store>, Failure> {
        self.opening(name, self.store_entry(name)?).open_existing().map_err(|error| unopened(&error))
    }

    /// What a store of this site is opened with.
    #[must_use]
    pub fn opening<'a>(&self, name: &'a str, entry: &'a StoreEntry) -> Opening<'a> {
        Opening::new(entry, name, Arc::clone(&self.vault) as Arc<dyn Secrets>)
    }
}

/// What to do where no database is known at all: most often no inventory was found where the command was typed.
pub const NO_DATABASE: &str = "name an inventory with `--inventory FILE` or in `RUNBOOK_INVENTORY`: else `./inventory.yaml` is read, or \
                               `/etc/runbook/inventory.yaml`, where it is there; its databases stand under `databases`";

/// Says that a database is not in the inventory, and which ones are.
pub fn no_database(name: &str, inventory: &Inventory) -> Failure {
    let known = inventory.databases.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let failure = Failure::new(Exit::Usage, format!("the inventory has no database `{name}`"));
    let near = inventory.databases.keys().filter(|one| library::are_near(Path::new(one), Path::new(name)));
    let near = near.min_by_key(|one| strsim::damerau_levenshtein(one, name));
    failure.help(match (known.is_empty(), near) {
        (true, _) => NO_DATABASE.to_owned(),
        (false, Some(near)) => format!("did you mean `{near}`? known: {known}"),
        (false, None) => format!("known: {known}"),
    })
}

/// The database that was named, or the only one there is.
///
/// # Errors
/// Fails when there is no such one, or several and none was named (exit 2).
pub fn chosen_database(asked: Option<&str>, inventory: &Inventory) -> Result<String, Failure> {
    let mut names = inventory.databases.keys();
    match (asked, names.next(), names.next()) {
        (Some(name), _, _) if inventory.databases.contains_key(name) => Ok(name.to_owned()),
        (Some(name), _, _) => Err(no_database(name, inventory)),
        (None, Some(only), None) => Ok(only.clone()),
        (None, None, _) => Err(Failure::new(Exit::Usage, "the inventory has no database").help(NO_DATABASE)),
        (None, Some(_), Some(_)) => {
            let known = inventory.databases.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            Err(Failure::new(Exit::Usage, "the inventory has several databases").help(format!("name one of {known}")))
        }
    }
}

/// This machine, for reading.
///
/// # Errors
/// Fails when the program cannot find itself.
pub fn machine() -> Result<Arc<dyn ReadHost>, Failure> {
    Ok(LocalHost::reader(&invoke::settings()?))
}

fn unopened(error: &StoreError) -> Failure {
    Failure::new(Exit::Invalid, "the store cannot be opened").because(error)
}
