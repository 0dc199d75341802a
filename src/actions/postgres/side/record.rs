//! The file beside a side instance that says which step it belongs to, and what it was made of.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::action::{ActionError, Files, ReadFiles};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::catalog::KIND_POSTGRES_DUMP;

/// Its name.
const NAME: &str = "owner.json";

/// Under which name a step foretells what kind of backup a side instance will be made of.
pub(crate) const KIND: &str = "kind";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The step.
    pub(crate) step: String,
    /// The kind of the backup; `None` in a file of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
}

impl Record {
    /// The record of a side instance; `None` when there is none that can be read.
    pub(crate) fn of(side: &Cluster, files: &dyn ReadFiles) -> Option<Self> {
        let bytes = files.read(&side.pgdata.with_file_name(NAME), 4096).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Whether the instance has what a dump has, which are the rows of unlogged tables as well.
    pub(crate) fn is_of_dump(&self) -> bool {
        self.kind.as_deref() == Some(KIND_POSTGRES_DUMP)
    }

    /// Writes it.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub(crate) fn write(&self, side: &Cluster, files: &dyn Files) -> Result<(), ActionError> {
        let path = side.pgdata.with_file_name(NAME);
        let cannot = |path: &Path| ActionError::retryable(format!("`{}` cannot be written", path.display()));
        let text = serde_json::to_vec(self).map_err(|error| cannot(&path).because(&error))?;
        files.replace(&path, &text, 0o600).map_err(|error| cannot(&path).because(&error))
    }
}
