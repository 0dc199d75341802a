//! What goes wrong with stores.

/// What went wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The object is authoritatively not there: the store answered.
    #[error("there is no object `{key}` in store `{store}`")]
    NotFound {
        /// The store.
        store: String,
        /// The key.
        key: String,
    },
    /// The object exists and must not be replaced.
    #[error("object `{key}` exists in store `{store}` with other content")]
    Exists {
        /// The store.
        store: String,
        /// The key.
        key: String,
    },
    /// The store is marked read-only in this environment.
    #[error("store `{store}` is read-only in this environment")]
    ReadOnly {
        /// The store.
        store: String,
    },
    /// The store did not answer or answered with a passing failure.
    #[error("store `{store}` cannot be reached: {what}")]
    Unavailable {
        /// The store.
        store: String,
        /// What was tried.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The object lies in an archived class and must be retrieved before it can be read.
    #[error("object `{key}` in store `{store}` is archived (`{class}`) and cannot be read before it is retrieved")]
    Archived {
        /// The store.
        store: String,
        /// The key.
        key: String,
        /// Its storage class.
        class: String,
    },
    /// The object changed while it was read, or is not the one that was asked for.
    #[error("object `{key}` in store `{store}` is not the one that was begun with: it was replaced meanwhile")]
    Replaced {
        /// The store.
        store: String,
        /// The key.
        key: String,
    },
    /// The store refuses for good: permission, configuration, a damaged object.
    #[error("store `{store}` refuses: {what}")]
    Refused {
        /// The store.
        store: String,
        /// What and why.
        what: String,
    },
}

impl StoreError {
    /// Whether there is no room left in the store.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Unavailable { source, .. } => {
                matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
            }
            Self::NotFound { .. }
            | Self::Exists { .. }
            | Self::ReadOnly { .. }
            | Self::Archived { .. }
            | Self::Replaced { .. }
            | Self::Refused { .. } => false,
        }
    }

    /// Whether there is no store at that place yet: nothing was ever stored there, or its disk is not mounted. The place
    /// answered; a server that did not answer is no such place, and what it holds is not known.
    #[must_use]
    pub fn is_unborn(&self) -> bool {
        match self {
            Self::Unavailable { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Self::NotFound { .. }
            | Self::Exists { .. }
            | Self::ReadOnly { .. }
            | Self::Archived { .. }
            | Self::Replaced { .. }
            | Self::Refused { .. } => false,
        }
    }
}
