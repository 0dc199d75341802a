//! Says a store's failure as an action's: passing ones may be tried again.

use crate::action::{ActionError, StoreError};
use crate::catalog::CatalogError;
use crate::transfer::TransferError;

/// What to do about a store without room.
pub(crate) const FULL: &str = "make room there, or give the store a larger disk: `runbook backups prune` tells what its retention \
                               gives up. WAL has no room either until then, and stays on the server";

/// Turns a store's failure into an action's.
pub(crate) fn store_failed(error: StoreError) -> ActionError {
    let (message, is_full) = (error.to_string(), error.is_full());
    match error {
        StoreError::Unavailable { source, .. } if is_full => {
            ActionError::retryable(message).because(&source).help(FULL)
        }
        StoreError::Unavailable { source, .. } => ActionError::retryable(message)
            .because(&source)
            .help("mount its disk, or look at its server and the way there; else correct the `url` of the store in the inventory"),
        StoreError::ReadOnly { .. } => {
            ActionError::fatal(message).help("remove `read_only` from the store, or choose another environment")
        }
        StoreError::Archived { .. } => ActionError::fatal(message)
            .help("retrieve it first with `store.retrieve`; how long that takes depends on its class"),
        StoreError::Replaced { .. } => ActionError::retryable(message),
        StoreError::NotFound { .. } | StoreError::Exists { .. } | StoreError::Refused { .. } => {
            ActionError::fatal(message)
        }
    }
}

/// Turns a catalog's failure into an action's.
pub(crate) fn catalog_failed(error: CatalogError) -> ActionError {
    match error {
        CatalogError::Store(error) => store_failed(error),
        other => ActionError::fatal(other.to_string()),
    }
}

/// Turns a failure on the way into an action's: a wrong key and damage are for good.
pub(crate) fn transfer_failed(error: TransferError) -> ActionError {
    let message = error.to_string();
    match error {
        TransferError::Store(error) => store_failed(error),
        TransferError::Key(error) => error,
        TransferError::Io { source, .. } => ActionError::retryable(message).because(&source),
        TransferError::Damaged { .. } => {
            ActionError::fatal(message).help("use another copy; nothing was put into place")
        }
        TransferError::WrongKey { .. } => {
            ActionError::fatal(message).help("give the key or the passphrase it was made for")
        }
        TransferError::Settings(_) => ActionError::fatal(message),
    }
}
