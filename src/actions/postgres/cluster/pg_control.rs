//! The `pg_control` of a data directory, and how a failure to read or write there is told.

use std::path::Path;

use crate::action::{ActionError, HostError, ReadFiles};
use crate::pgformat::ControlFile;

/// Reads the `pg_control` of a restored data directory.
///
/// # Errors
/// Fails when it is not there or damaged.
pub(crate) fn control(files: &dyn ReadFiles, pgdata: &Path) -> Result<ControlFile, ActionError> {
    let bytes = files.read(&pgdata.join(ControlFile::PATH), 1 << 16).map_err(|error| cannot(&error))?;
    ControlFile::parse(&bytes)
        .map_err(|error| ActionError::fatal("the restored `pg_control` cannot be read").because(&error))
}

/// A failure of the host in the middle of a recovery.
pub(crate) fn cannot(error: &HostError) -> ActionError {
    ActionError::retryable("the recovery cannot go on").because(error)
}
