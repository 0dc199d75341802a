//! Says a failed transfer as an action's failure.

use crate::action::ActionError;
use crate::actions::store::store_failed;
use crate::transfer::TransferError;

/// Turns a failure on the way into an action's.
pub(super) fn transfer_failed(error: TransferError) -> ActionError {
    match error {
        TransferError::Store(error) => store_failed(error),
        TransferError::Key(error) => error,
        TransferError::Io { ref source, .. } => ActionError::retryable(error.to_string()).because(source),
        TransferError::Damaged { .. } => {
            ActionError::fatal(error.to_string()).help("use another copy of it, or another backup").of_damage()
        }
        TransferError::WrongKey { .. } => ActionError::fatal(error.to_string())
            .help("add the key that reads it under `encryption` of the store in the inventory"),
        TransferError::Settings(_) => ActionError::fatal(error.to_string()),
    }
}
