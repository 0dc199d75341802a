//! Which cluster this is.

use std::path::Path;
use std::time::Duration;

use super::{Config, WalError};
use crate::pgformat::{ControlFile, SegmentSize, SystemId};

/// A running server rewrites the file in place: a torn read is tried again.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(10);

/// What is known of the cluster that pushes or fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub system_id: SystemId,
    /// Its segment size; `None` when only the configuration names the cluster.
    pub segment_size: Option<SegmentSize>,
}

impl Identity {
    /// Reads it from the data directory's `pg_control` and holds it against the configuration.
    ///
    /// # Errors
    /// Fails when neither tells, when they disagree, or when `pg_control` is damaged.
    pub fn of(config: &Config, pgdata: &Path) -> Result<Self, WalError> {
        let path = pgdata.join(ControlFile::PATH);
        let Some(control) = read(&path)? else {
            let system_id = config.system_id.ok_or_else(|| WalError::Unidentified(pgdata.to_owned()))?;
            return Ok(Self { system_id, segment_size: None });
        };
        match config.system_id {
            Some(expected) if expected != control.system_id => Err(WalError::OtherCluster {
                what: format!("`{}`", path.display()),
                found: control.system_id,
                expected,
            }),
            Some(_) | None => Ok(Self { system_id: control.system_id, segment_size: Some(control.segment_size) }),
        }
    }
}

fn read(path: &Path) -> Result<Option<ControlFile>, WalError> {
    let mut tries = 1;
    loop {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(WalError::File { operation: "read", path: path.to_owned(), source }),
        };
        match ControlFile::parse(&bytes) {
            Ok(control) => return Ok(Some(control)),
            Err(source) if tries >= TRIES => return Err(WalError::Control { path: path.to_owned(), source }),
            Err(_) => std::thread::sleep(PAUSE),
        }
        tries += 1;
    }
}
