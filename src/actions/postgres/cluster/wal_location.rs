//! A folder of WAL that another program filled, named by the inventory's store.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::{ActionError, ReadStore, StoreRef, Surroundings};
use crate::language::inventory::StoreEntry;
use crate::wal::{ForeignArchive, ForeignFolder, Location};

/// Where another program archived WAL: plain segments as `cp %p DIR/%f` or `aws s3 cp` left them, packed or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WalLocation {
    /// The store of the inventory. It may be read-only.
    pub store: StoreRef,
    /// The folder inside it; empty for the whole store.
    pub prefix: String,
}

impl WalLocation {
    /// Puts the folder beside the archive of a database.
    ///
    /// # Errors
    /// Fails when the inventory has no such store.
    pub(crate) fn beside(
        &self,
        own: Arc<dyn ReadStore>,
        (prefix, lying): (&str, Arc<dyn ReadStore>),
        about: &Surroundings,
    ) -> Result<Arc<dyn ReadStore>, ActionError> {
        Ok(Arc::new(ForeignArchive::beside(own, prefix, self.folder(lying, about)?)))
    }

    /// The folder, in its store.
    ///
    /// # Errors
    /// Fails when the inventory has no such store.
    pub(crate) fn folder(&self, lying: Arc<dyn ReadStore>, about: &Surroundings) -> Result<ForeignFolder, ActionError> {
        let keys = (self.entry(about)?.encryption.as_ref(), Arc::clone(&about.secrets));
        Ok(ForeignFolder::new(lying, &self.prefix, keys))
    }

    /// What `wal fetch` is told of it.
    ///
    /// # Errors
    /// Fails when the inventory has no such store.
    pub(crate) fn told(&self, about: &Surroundings) -> Result<Location, ActionError> {
        let store = StoreEntry { read_only: true, ..self.entry(about)?.clone() };
        Ok(Location { store, prefix: self.prefix.clone() })
    }

    fn entry<'a>(&self, about: &'a Surroundings) -> Result<&'a StoreEntry, ActionError> {
        let name = self.store.as_str();
        let entry = about.inventory.stores.get(name);
        entry.ok_or_else(|| ActionError::fatal(format!("the inventory has no store `{name}`")))
    }

    /// What is said of everything that is read from there.
    pub(crate) fn caution(&self) -> String {
        format!(
            "the WAL in `{}/{}` is unproven: another program stored it without digests, so every file is held against its \
             own header and checksums when it is read",
            self.store.as_str(),
            self.prefix
        )
    }
}
