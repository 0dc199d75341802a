//! A file that gets its name only when what was written to it is proven.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::body::on_files;
use crate::action::{ActionError, Files, HostError, PlainFacts};
use crate::base::digest::Hasher;
use crate::base::{Digest, Timestamp};

const PART_END: &str = ".runbook-part";

/// Whether a file that is there may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::actions) enum Existing {
    /// It is replaced.
    Replace,
    /// It stays; the same content is as good as written.
    Keep,
}

impl From<bool> for Existing {
    fn from(overwrite: bool) -> Self {
        if overwrite { Self::Replace } else { Self::Keep }
    }
}

/// A file on its way, under a hidden name beside its own.
pub(in crate::actions) struct Arrival {
    files: Arc<dyn Files>,
    path: PathBuf,
    part: PathBuf,
    existing: Existing,
    modified_at: Option<Timestamp>,
}

impl Arrival {
    /// Opens the hidden file; one that an interrupted attempt left is removed.
    pub(in crate::actions) async fn begin(
        files: Arc<dyn Files>,
        path: &Path,
        mode: u32,
        existing: Existing,
    ) -> Result<(Self, std::fs::File), ActionError> {
        let part = part_of(path);
        let made = part.clone();
        let file = on_files(Arc::clone(&files), move |files| {
            remove_if_there(files, &made)?;
            files.create(&made, mode)
        });
        Ok((Self { files: Arc::clone(&files), path: path.to_owned(), part, existing, modified_at: None }, file.await?))
    }

    /// Gives the file this time when it is published.
    pub(in crate::actions) fn modified_at(mut self, at: Timestamp) -> Self {
        self.modified_at = Some(at);
        self
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// Fails when another file with other content has the name and stays.
    pub(in crate::actions) async fn publish(self, written: PlainFacts) -> Result<(), ActionError> {
        let path = self.path.clone();
        let files = Arc::clone(&self.files);
        match on_files(files, move |files| self.place(files, written)).await? {
            true => Ok(()),
            false => Err(ActionError::fatal(format!("`{}` exists with other content", path.display()))
                .help("move it away, name another place, or say `overwrite: true`")),
        }
    }

    /// Removes the hidden file.
    pub(in crate::actions) async fn discard(self) -> Result<(), ActionError> {
        let (files, part) = (Arc::clone(&self.files), self.part.clone());
        on_files(files, move |files| remove_if_there(files, &part)).await
    }

    /// Publishes after success, removes what was written after a failure.
    pub(in crate::actions) async fn end(
        self,
        written: Result<PlainFacts, ActionError>,
    ) -> Result<PlainFacts, ActionError> {
        match written {
            Ok(facts) => self.publish(facts).await.map(|()| facts),
            Err(error) => {
                self.discard().await?;
                Err(error)
            }
        }
    }

    fn place(&self, files: &dyn Files, written: PlainFacts) -> Result<bool, HostError> {
        if let Some(at) = self.modified_at {
            set_modified(&self.part, files, at)?;
        }
        files.sync(&self.part)?;
        if self.existing == Existing::Keep && files.facts(&self.path)?.is_some() {
            let same = digest_of(files, &self.path)? == written.sha256;
            files.remove_file(&self.part)?;
            return Ok(same);
        }
        files.rename(&self.part, &self.path)?;
        files.sync(self.path.parent().unwrap_or(Path::new("/")))?;
        Ok(true)
    }
}

/// What was neither published nor discarded, after a cancel for example, is removed.
impl Drop for Arrival {
    fn drop(&mut self) {
        // The next attempt removes it where this one cannot.
        let _ = remove_if_there(&*self.files, &self.part);
    }
}

/// Whether a name is that of a file on its way.
pub(in crate::actions) fn is_part(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(PART_END)
}

fn part_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{PART_END}"))
}

fn set_modified(part: &Path, files: &dyn Files, at: Timestamp) -> Result<(), HostError> {
    let set = files.append(part)?.set_modified(at.into());
    set.map_err(|source| HostError::File { operation: "set the time of", path: part.to_owned(), source })
}

fn remove_if_there(files: &dyn Files, path: &Path) -> Result<(), HostError> {
    match files.facts(path)? {
        Some(_) => files.remove_file(path),
        None => Ok(()),
    }
}

fn digest_of(files: &dyn Files, path: &Path) -> Result<Digest, HostError> {
    let (mut file, mut hasher) = (files.open(path)?, Hasher::default());
    let read = std::io::copy(&mut file, &mut hasher);
    read.map_err(|source| HostError::File { operation: "read", path: path.to_owned(), source })?;
    Ok(hasher.finish())
}
