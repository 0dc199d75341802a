//! The stores of one run: each opened once, so that its connections and its bandwidth are shared by all steps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::action::{ActionError, Mode, ReadStore, Secrets, Store, StoreError, Surroundings};
use crate::language::inventory::Inventory;
use crate::store::{Opening, ReadingStore, Why};

/// The stores that were opened so far.
pub(super) struct OpenedStores {
    inventory: Arc<Inventory>,
    secrets: Arc<dyn Secrets>,
    /// The environment of a drill.
    drill: Option<String>,
    stores: Mutex<BTreeMap<String, Arc<dyn Store>>>,
}

impl OpenedStores {
    pub(super) fn new(about: &Surroundings, environment: &str) -> Self {
        let drill = match about.mode {
            Mode::Drill => Some(environment.to_owned()),
            Mode::Real | Mode::DryRun => None,
        };
        let (inventory, secrets) = (Arc::clone(&about.inventory), Arc::clone(&about.secrets));
        Self { inventory, secrets, drill, stores: Mutex::default() }
    }

    /// Gives a store for reading.
    pub(super) fn reading(&self, name: &str) -> Result<Arc<dyn ReadStore>, ActionError> {
        Ok(self.open(name)?)
    }

    /// Gives a store; in a drill, one that its environment does not name can only be read. The guard judged
    /// that before the first step; here it is true whatever a step tries.
    pub(super) fn writing(&self, name: &str) -> Result<Arc<dyn Store>, ActionError> {
        let store = self.open(name)?;
        let Some(environment) = &self.drill else { return Ok(store) };
        let names = |environment: &crate::language::inventory::Environment| environment.stores.contains_key(name);
        if self.inventory.environments.get(environment).is_some_and(names) {
            return Ok(store);
        }
        Ok(Arc::new(ReadingStore::over(store, Why::Drill(environment.clone()))))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Store>, ActionError> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.get(name) {
            return Ok(Arc::clone(store));
        }
        let unknown = || ActionError::fatal(format!("there is no store `{name}` in the inventory"));
        let entry = self.inventory.stores.get(name).ok_or_else(unknown)?;
        let unopened =
            |error: StoreError| ActionError::fatal(format!("store `{name}` cannot be opened")).because(&error);
        let store = Opening::new(entry, name, Arc::clone(&self.secrets)).open().map_err(unopened)?;
        stores.insert(name.to_owned(), Arc::clone(&store));
        Ok(store)
    }
}
