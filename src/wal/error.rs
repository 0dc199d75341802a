//! Why WAL was not pushed or fetched.

use std::path::PathBuf;

use crate::action::{ActionError, StoreError};
use crate::base::units::Span;
use crate::catalog::CatalogError;
use crate::catalog::recovery::Requirement;
use crate::pgformat::{ControlFileError, ParseWalFileNameError, SystemId, Timeline, WalFileName};
use crate::transfer::TransferError;

/// Why WAL was not pushed or fetched.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The configuration cannot be used.
    #[error("configuration `{}`: {what}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The server asked for a file that WAL archives do not have.
    #[error(transparent)]
    Name(#[from] ParseWalFileNameError),
    /// A local file failed.
    #[error("cannot {operation} `{}`: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The cluster's `pg_control` cannot be used.
    #[error("`{}`: {source}", path.display())]
    Control {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ControlFileError,
    },
    /// Nothing says which cluster this is.
    #[error("the cluster is not known: no `global/pg_control` in `{}` and no `system_id` in the configuration", .0.display())]
    Unidentified(PathBuf),
    /// A file belongs to another cluster.
    #[error("{what} belongs to cluster {found}, not to {expected}")]
    OtherCluster {
        /// The file.
        what: String,
        /// The cluster it belongs to.
        found: SystemId,
        /// The cluster that was expected.
        expected: SystemId,
    },
    /// A file is not what its name says.
    #[error("`{name}` is not what its name says: {what}")]
    Mismatch {
        /// The name.
        name: WalFileName,
        /// What differs.
        what: String,
    },
    /// The archive has another content under this name.
    #[error("`{0}` is in the archive already with other content; it is never overwritten")]
    Differs(WalFileName),
    /// The archive has the beginning of a segment, and another timeline went on from there.
    #[error(
        "`{name}` is in the archive already with other content, and timeline {timeline} went on from there; it is never \
         overwritten. If the recovery that began that timeline was abandoned, and this server goes on in its place: \
         `runbook wal give-up DATABASE --timeline {timeline}`"
    )]
    Superseded {
        /// The segment.
        name: WalFileName,
        /// The timeline that went on.
        timeline: Timeline,
    },
    /// A file that must be in the archive is not.
    #[error("`{name}` is missing from the archive: {why}")]
    Required {
        /// The file.
        name: WalFileName,
        /// Why it must be there.
        why: String,
    },
    /// A file that later WAL proves is not in the archive. It may be on its way: several are stored at once, so that a
    /// later one may be there first.
    #[error("`{name}` is missing from the archive: {why}{beside}")]
    Overdue {
        /// The file.
        name: WalFileName,
        /// What proves it.
        why: Requirement,
        /// What other stores failed with, behind a space; empty where none did.
        beside: String,
    },
    /// Too few of several stores have a file.
    #[error("`{name}` is safe in {safe} stores, wanted are {wanted}: {why}")]
    TooFew {
        /// The file.
        name: WalFileName,
        /// How many stores have it.
        safe: usize,
        /// How many must have it.
        wanted: usize,
        /// What the others failed with.
        why: String,
    },
    /// One of several stores has other content, or belongs to another cluster.
    #[error("store `{url}`: {what}")]
    Conflict {
        /// The store.
        url: String,
        /// What is in the way.
        what: String,
    },
    /// It took longer than it may.
    #[error("`{name}` was not stored within {within}")]
    Slow {
        /// The file.
        name: WalFileName,
        /// The most time it may take.
        within: Span,
    },
    /// A file of the archive is damaged.
    #[error("`{name}` is damaged in the archive: {what}")]
    Damaged {
        /// The file.
        name: WalFileName,
        /// What is wrong.
        what: String,
    },
    /// A file could not be packed or unpacked.
    #[error("{}", of_transfer(.0))]
    Transfer(#[from] TransferError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The catalog failed.
    #[error("{}", in_words(.0))]
    Catalog(CatalogError),
}

/// A catalog's error says little without the store's.
fn in_words(error: &CatalogError) -> String {
    match error {
        CatalogError::Store(store) => store.to_string(),
        CatalogError::Key(_)
        | CatalogError::Damaged { .. }
        | CatalogError::NoBackup(_)
        | CatalogError::Changed(_)
        | CatalogError::Torn { .. }
        | CatalogError::Kind { .. }
        | CatalogError::OtherCluster { .. } => error.to_string(),
    }
}

/// A key's error says little without its cause.
fn of_transfer(error: &TransferError) -> String {
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    format!("{error}{cause}")
}

impl From<CatalogError> for WalError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Store(store) => Self::Store(store),
            other => Self::Catalog(other),
        }
    }
}

impl WalError {
    /// Tells whether the archive itself is at fault: the file is not in it, or is not what it must be. Everything else
    /// says nothing about the file.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Store(StoreError::NotFound { .. }) | Self::Damaged { .. } | Self::Mismatch { .. })
    }

    /// Tells whether a copy is there that no key here opens: it may be whole.
    #[must_use]
    pub fn is_of_key(&self) -> bool {
        let Self::Transfer(error) = self else { return false };
        matches!(error, TransferError::WrongKey { .. } | TransferError::Key(_) | TransferError::Settings(_))
    }

    /// Adds what other stores failed with, where the error has words of its own. Its kind stays.
    #[must_use]
    pub(super) fn beside(mut self, others: &str) -> Self {
        if let Self::Transfer(TransferError::Key(error)) = self {
            let told = ActionError::fatal(format!("{} {others}", error.in_full()));
            return Self::Transfer(TransferError::Key(told));
        }
        if let Self::Overdue { beside: words, .. }
        | Self::Damaged { what: words, .. }
        | Self::Mismatch { what: words, .. }
        | Self::Required { why: words, .. }
        | Self::Transfer(TransferError::WrongKey { what: words, .. } | TransferError::Settings(words))
        | Self::Store(StoreError::Unavailable { what: words, .. } | StoreError::Refused { what: words, .. }) =
            &mut self
        {
            words.push(' ');
            words.push_str(others);
        }
        self
    }

    /// Tells whether one of several stores has the file, and not as many as must.
    #[must_use]
    pub fn is_too_few(&self) -> bool {
        matches!(self, Self::TooFew { .. })
    }

    /// Tells whether trying again may help.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Store(error) | Self::Transfer(TransferError::Store(error)) => {
                matches!(error, StoreError::Unavailable { .. } | StoreError::Replaced { .. })
            }
            Self::Catalog(error) => error.is_passing(),
            Self::Overdue { .. } => true,
            Self::File { .. }
            | Self::Transfer(_)
            | Self::Usage(_)
            | Self::Config { .. }
            | Self::Name(_)
            | Self::Control { .. }
            | Self::Unidentified(_)
            | Self::OtherCluster { .. }
            | Self::Mismatch { .. }
            | Self::Differs(_)
            | Self::Superseded { .. }
            | Self::Required { .. }
            | Self::TooFew { .. }
            | Self::Conflict { .. }
            | Self::Slow { .. }
            | Self::Damaged { .. } => false,
        }
    }

    /// Tells whether the way to the archive is at fault, and not what lies there: also what does not pass by itself, such
    /// as credentials that ran out, rights or a full disk.
    #[must_use]
    pub fn is_of_the_way(&self) -> bool {
        match self {
            Self::Store(StoreError::Refused { .. })
            | Self::Transfer(TransferError::Store(StoreError::Refused { .. }))
            | Self::Catalog(CatalogError::Store(StoreError::Refused { .. }))
            | Self::File { .. } => true,
            other => other.is_passing(),
        }
    }

    /// Tells whether something else stands where the file belongs: no later push can change that.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Differs(_)
            | Self::Superseded { .. }
            | Self::OtherCluster { .. }
            | Self::Conflict { .. }
            | Self::Catalog(CatalogError::OtherCluster { .. }) => true,
            Self::Catalog(_)
            | Self::Store(_)
            | Self::File { .. }
            | Self::Transfer(_)
            | Self::Usage(_)
            | Self::Config { .. }
            | Self::Name(_)
            | Self::Control { .. }
            | Self::Unidentified(_)
            | Self::Mismatch { .. }
            | Self::Required { .. }
            | Self::Overdue { .. }
            | Self::TooFew { .. }
            | Self::Slow { .. }
            | Self::Damaged { .. } => false,
        }
    }
}
