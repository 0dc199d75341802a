//! Opens a store by the scheme of its URL: one arm per kind.

use std::path::PathBuf;
use std::sync::Arc;

use super::local::{Access, Birth, LocalStore};
use crate::action::{ReadStore, Store, StoreError};
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

fn local(entry: &StoreEntry, name: &str, birth: Birth) -> Result<LocalStore, StoreError> {
    let access = if entry.read_only { Access::ReadOnly } else { Access::ReadWrite };
    match Location::of(entry, name)? {
        Location::Folder(root) => Ok(LocalStore::new(name, root, access, birth)),
    }
}

/// Opens a store; its first write makes the folder a store. Touches nothing yet.
///
/// # Errors
/// Fails when the URL makes no sense.
pub fn open(entry: &StoreEntry, name: &str) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(local(entry, name, Birth::AtFirstWrite)?))
}

/// Opens a store that must exist already: a write to an unmounted folder fails instead of starting anew.
///
/// # Errors
/// Fails when the URL makes no sense.
pub fn open_existing(entry: &StoreEntry, name: &str) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(local(entry, name, Birth::Never)?))
}

/// Opens a store for reading. Touches nothing yet.
///
/// # Errors
/// Fails when the URL makes no sense.
pub fn open_read(entry: &StoreEntry, name: &str) -> Result<Arc<dyn ReadStore>, StoreError> {
    Ok(Arc::new(local(entry, name, Birth::Never)?))
}

/// Makes the place a store, durably, if it is none yet. Blocking.
///
/// # Errors
/// Fails when the parent of its folder does not exist, or it cannot be written.
pub fn initialize(entry: &StoreEntry, name: &str) -> Result<(), StoreError> {
    local(entry, name, Birth::AtFirstWrite)?.initialize()
}
