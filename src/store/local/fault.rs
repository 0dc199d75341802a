//! Sorts what the system says into passing and lasting failures.

use std::io::{Error, ErrorKind};

use crate::action::StoreError;

/// Makes a store's error of the system's answer to `what`.
pub(super) fn fault(store: &str, what: impl Into<String>, error: Error) -> StoreError {
    let what = what.into();
    match error.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::InvalidInput
        | ErrorKind::InvalidFilename
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::CrossesDevices => {
            StoreError::Refused { store: store.to_owned(), what: format!("{what}: {error}") }
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            let what = format!("{what}: no space is left");
            StoreError::Unavailable { store: store.to_owned(), what, source: error }
        }
        _ => StoreError::Unavailable { store: store.to_owned(), what: format!("{what}: {error}"), source: error },
    }
}
