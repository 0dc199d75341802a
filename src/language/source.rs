//! Where the texts come from.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use super::document::MAX_BYTES;

/// Gives the bytes of a file by the name a user wrote.
pub trait SourceReader {
    /// Reads a whole file.
    ///
    /// # Errors
    /// Says why it cannot be read.
    fn read(&self, name: &str) -> Result<Vec<u8>, ReadError>;

    /// Finds a file that is known by a name instead of a path: a runbook that is part of the program.
    fn by_name(&self, name: &str) -> Option<String> {
        let _ = name;
        None
    }
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such file.
    #[error("there is no such file")]
    Missing,
    /// It is a folder, a device or a pipe.
    #[error("it is not a regular file")]
    NotAFile,
    /// This user may not read it.
    #[error("this user may not read it")]
    Denied,
    /// Anything else, in the words of the system.
    #[error("{0}")]
    Other(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::IsADirectory => Self::NotAFile,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Files of this machine. Reads no more than one byte past the budget, and regular files only.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFiles;

impl SourceReader for DiskFiles {
    fn read(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        if !std::fs::metadata(name)?.is_file() {
            return Err(ReadError::NotAFile);
        }
        let file = std::fs::File::open(name)?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Texts in memory: the runbooks that are part of the program.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles(BTreeMap<String, Vec<u8>>);

impl MemoryFiles {
    /// Adds a file.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        self.0.insert(name.into(), text.into());
        self
    }
}

impl SourceReader for MemoryFiles {
    fn read(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        self.0.get(name).cloned().ok_or(ReadError::Missing)
    }
}
