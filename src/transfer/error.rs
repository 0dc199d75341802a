//! What goes wrong on the way.

use crate::action::{ActionError, StoreError};

/// Why bytes did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// A key could not be had.
    #[error("a key cannot be had")]
    Key(#[from] ActionError),
    /// The source or the target failed.
    #[error("cannot {what}")]
    Io {
        /// What was tried: `read the source`.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The object is not what it must be: flipped, cut, foreign, or encrypted for somebody else.
    #[error("`{object}` is damaged or not the object it should be: {what}")]
    Damaged {
        /// The object.
        object: String,
        /// What differs.
        what: String,
    },
    /// None of the keys fits.
    #[error("`{object}` cannot be decrypted: {what}")]
    WrongKey {
        /// The object.
        object: String,
        /// What was tried.
        what: String,
    },
    /// The settings make no sense.
    #[error("{0}")]
    Settings(String),
}
