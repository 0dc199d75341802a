//! Opens a store by the scheme of its URL: one arm per kind.

use std::sync::Arc;

use super::access::{Access, Birth};
use super::local::LocalStore;
use super::object::{ObjectStorage, Provider};
use super::retry::Retry;
use super::s3::S3Store;
use super::sftp::SftpStore;
use super::throttle::Throttle;
use crate::action::{NoSecrets, ReadStore, Secrets, Store, StoreError};
use crate::language::inventory::{BucketPlace, StoreEntry, StoreLocation};

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

    fn location(&self) -> Result<StoreLocation, StoreError> {
        let refused = |what: String| StoreError::Refused { store: self.name.to_owned(), what };
        self.entry.url.parse().map_err(|error: crate::language::inventory::StoreUrlError| refused(error.to_string()))
    }

    fn s3(&self) -> Result<S3Store, StoreError> {
        S3Store::new(self.name, self.entry, Arc::clone(&self.secrets))
    }

    fn access(&self) -> Access {
        if self.entry.read_only { Access::ReadOnly } else { Access::ReadWrite }
    }

    fn object(&self, provider: Provider, place: BucketPlace) -> ObjectStorage {
        ObjectStorage::new(self.name, (provider, place), (self.entry, self.access()), Arc::clone(&self.secrets))
    }

    /// The store with what its settings put around it.
    fn store(&self, birth: Birth) -> Result<Arc<dyn Store>, StoreError> {
        let plain = self.plain_store(birth)?;
        Ok(match self.entry.bandwidth {
            None => plain,
            Some(rate) => Arc::new(Throttle::over(plain, rate)),
        })
    }

    /// The list of kinds.
    fn plain_store(&self, birth: Birth) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self.location()? {
            StoreLocation::Folder(root) => Arc::new(LocalStore::new(self.name, root, self.access(), birth)),
            StoreLocation::Sftp(place) => {
                let ssh = self.entry.ssh.clone().unwrap_or_default();
                // The other kinds' own clients try again by themselves, and a folder has nothing that passes.
                Arc::new(Retry::over(Arc::new(SftpStore::new(self.name, place, ssh, (self.access(), birth)))))
            }
            StoreLocation::S3(_) => Arc::new(self.s3()?),
            StoreLocation::Google(place) => Arc::new(self.object(Provider::Google, place)),
            StoreLocation::Azure(place) => Arc::new(self.object(Provider::Azure, place)),
        })
    }

    /// Opens the store; its first write makes a folder a store. Touches nothing yet.
    ///
    /// # Errors
    /// Fails when the URL makes no sense.
    pub fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.store(Birth::AtFirstWrite)
    }

    /// Opens a store that must exist already: a write to an unmounted folder fails instead of starting anew.
    ///
    /// # Errors
    /// Fails when the URL makes no sense.
    pub fn open_existing(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.store(Birth::Never)
    }

    /// Opens the store for reading. Touches nothing yet.
    ///
    /// # Errors
    /// Fails when the URL makes no sense.
    pub fn open_read(&self) -> Result<Arc<dyn ReadStore>, StoreError> {
        Ok(self.store(Birth::Never)?)
    }

    /// Makes the place a store, durably, if it is none yet; only folders of this machine need it. Blocking.
    ///
    /// # Errors
    /// Fails when the parent of its folder does not exist, or it cannot be written.
    pub fn initialize(&self) -> Result<(), StoreError> {
        match self.location()? {
            StoreLocation::Folder(root) => {
                LocalStore::new(self.name, root, self.access(), Birth::AtFirstWrite).initialize()
            }
            // A folder behind `ssh` becomes a store at its first write; a bucket is made by its owner.
            StoreLocation::S3(_) | StoreLocation::Google(_) | StoreLocation::Azure(_) | StoreLocation::Sftp(_) => {
                Ok(())
            }
        }
    }
}
