//! Opens a store by the scheme of its URL: one arm per kind.

use std::path::PathBuf;
use std::sync::Arc;

use super::local::{Access, Birth, LocalStore};
use crate::action::{NoSecrets, ReadStore, Secrets, Store, StoreError};
use crate::language::inventory::StoreEntry;

/// Where a store lies, by its URL.
enum Location {
    /// A folder of this machine.
    Folder(PathBuf),
}

impl Location {
    fn of(entry: &StoreEntry, name: &str) -> Result<Self, StoreError> {
        let refused = |what: String| StoreError::Refused { store: name.to_owned(), what };
        let Some(path) = entry.url.strip_prefix("file://") else {
            return Err(refused(format!("`{}` is not an URL of the form `file:///absolute/path`", entry.url)));
        };
        let path = PathBuf::from(path);
        let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
        if !path.is_absolute() || !plain || entry.url.contains('%') {
            return Err(refused(format!("the path in `{}` must be absolute, without `..` and `%`", entry.url)));
        }
        Ok(Self::Folder(path))
    }
}

/// What a store is opened with.
#[derive(Clone)]
pub struct Opening<'a> {
    /// What the inventory says of it.
    pub entry: &'a StoreEntry,
    /// Its name there.
    pub name: &'a str,
    /// Where its credentials come from; asked at the first use, never before.
    pub secrets: Arc<dyn Secrets>,
}

impl<'a> Opening<'a> {
    /// Puts together what a store is opened with.
    #[must_use]
    pub fn new(entry: &'a StoreEntry, name: &'a str, secrets: Arc<dyn Secrets>) -> Self {
        Self { entry, name, secrets }
    }

    /// The same for a store that needs no credentials of the inventory.
    #[must_use]
    pub fn plain(entry: &'a StoreEntry, name: &'a str) -> Self {
        Self::new(entry, name, Arc::new(NoSecrets))
    }

    fn local(&self, birth: Birth) -> Result<LocalStore, StoreError> {
        let access = if self.entry.read_only { Access::ReadOnly } else { Access::ReadWrite };
        match Location::of(self.entry, self.name)? {
            Location::Folder(root) => Ok(LocalStore::new(self.name, root, access, birth)),
        }
    }

    /// Opens the store; its first write makes a folder a store. Touches nothing yet.
    ///
    /// # Errors
    /// Fails when the URL makes no sense.
    pub fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(self.local(Birth::AtFirstWrite)?))
    }

    /// Opens a store that must exist already: a write to an unmounted folder fails instead of starting anew.
    ///
    /// # Errors
    /// Fails when the URL makes no sense.
    pub fn open_existing(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(self.local(Birth::Never)?))
    }

    /// Opens the store for reading. Touches nothing yet.
    ///
    /// # Errors
    /// Fails when the URL makes no sense.
    pub fn open_read(&self) -> Result<Arc<dyn ReadStore>, StoreError> {
        Ok(Arc::new(self.local(Birth::Never)?))
    }

    /// Makes the place a store, durably, if it is none yet. Blocking.
    ///
    /// # Errors
    /// Fails when the parent of its folder does not exist, or it cannot be written.
    pub fn initialize(&self) -> Result<(), StoreError> {
        self.local(Birth::AtFirstWrite)?.initialize()
    }
}
