//! Opens a store by the scheme of its URL: one arm per kind.

use std::path::PathBuf;
use std::sync::Arc;

use super::local::{Access, Birth, LocalStore};
use super::s3::S3Store;
use crate::action::{NoSecrets, ReadStore, Secrets, Store, StoreError};
use crate::language::inventory::StoreEntry;

/// Where a store lies, by its URL.
enum Location {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket of S3.
    S3,
}

impl Location {
    fn of(entry: &StoreEntry, name: &str) -> Result<Self, StoreError> {
        let refused = |what: String| StoreError::Refused { store: name.to_owned(), what };
        if entry.url.starts_with("s3://") {
            return Ok(Self::S3);
        }
        let Some(path) = entry.url.strip_prefix("file://") else {
            let forms = "`file:///absolute/path` or `s3://bucket/prefix`";
            return Err(refused(format!("`{}` is not an URL of the form {forms}", entry.url)));
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

    fn local(&self, root: PathBuf, birth: Birth) -> LocalStore {
        let access = if self.entry.read_only { Access::ReadOnly } else { Access::ReadWrite };
        LocalStore::new(self.name, root, access, birth)
    }

    fn s3(&self) -> Result<S3Store, StoreError> {
        S3Store::new(self.name, self.entry, Arc::clone(&self.secrets))
    }

    fn open_as(&self, birth: Birth) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match Location::of(self.entry, self.name)? {
            Location::Folder(root) => Arc::new(self.local(root, birth)),
            Location::S3 => Arc::new(self.s3()?),
        })
    }

    /// Opens the store; its first write makes a folder a store. Touches nothing yet.
    ///
    /// # Errors
    /// Fails when the URL makes no sense.
    pub fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.open_as(Birth::AtFirstWrite)
    }

    /// Opens a store that must exist already: a write to an unmounted folder fails instead of starting anew.
    ///
    /// # Errors
    /// Fails when the URL makes no sense.
    pub fn open_existing(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.open_as(Birth::Never)
    }

    /// Opens the store for reading. Touches nothing yet.
    ///
    /// # Errors
    /// Fails when the URL makes no sense.
    pub fn open_read(&self) -> Result<Arc<dyn ReadStore>, StoreError> {
        Ok(match Location::of(self.entry, self.name)? {
            Location::Folder(root) => Arc::new(self.local(root, Birth::Never)),
            Location::S3 => Arc::new(self.s3()?),
        })
    }

    /// Makes a folder a store, durably, if it is none yet. Blocking. Nothing needs to be made in a bucket.
    ///
    /// # Errors
    /// Fails when the parent of its folder does not exist, or it cannot be written.
    pub fn initialize(&self) -> Result<(), StoreError> {
        match Location::of(self.entry, self.name)? {
            Location::Folder(root) => self.local(root, Birth::AtFirstWrite).initialize(),
            Location::S3 => self.s3().map(drop),
        }
    }
}
