//! A dump in the format `directory`: written in parallel into the scratch folder, stored as one tar archive.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tar::{Builder, Header};

use crate::action::{ActionError, ByteStream, FileKind, Files, HostError, RunContext};
use crate::actions::archive::pipe::pipe;

/// The table of contents of a dump. It stands first in the archive, so that one can list it without reading the rest.
const CONTENTS: &str = "toc.dat";

/// A folder for one dump; removed when it is dropped.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    files: Arc<dyn Files>,
}

impl Folder {
    /// Chooses a place below the run's scratch folder. What an earlier attempt left there is removed.
    ///
    /// # Errors
    /// Fails when it cannot be removed.
    pub(super) fn fresh(cx: &RunContext) -> Result<Self, ActionError> {
        let folder = Self { path: cx.about.scratch.join(format!("dump-{}", cx.step)), files: cx.host.files() };
        folder.clear().map_err(|error| unmade(&error))?;
        let parent = folder.files.facts(&cx.about.scratch).map_err(|error| unmade(&error))?;
        if parent.is_none() {
            folder.files.create_dir(&cx.about.scratch, 0o755).map_err(|error| unmade(&error))?;
        }
        Ok(folder)
    }

    fn clear(&self) -> Result<(), HostError> {
        match self.files.facts(&self.path)? {
            Some(_) => self.files.remove_tree(&self.path),
            None => Ok(()),
        }
    }

    /// Gives the folder as an archive. A file that cannot be read makes the stream fail.
    pub(super) fn archived(&self) -> ByteStream {
        let (files, root) = (Arc::clone(&self.files), self.path.clone());
        let (mut writer, reader) = pipe();
        // Its end is told by the stream; when nobody reads that any more, it ends by itself.
        drop(tokio::task::spawn_blocking(move || {
            write(files.as_ref(), &root, &mut writer)?;
            writer.finish()
        }));
        Box::new(reader)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The run's scratch folder goes at the end in any case.
        let _ = self.clear();
    }
}

fn write(files: &dyn Files, root: &Path, out: impl io::Write) -> io::Result<()> {
    let mut names: Vec<_> = files.list(root).map_err(io::Error::other)?;
    names.sort_by_key(|entry| entry.name != CONTENTS);
    let mut builder = Builder::new(out);
    for entry in names.into_iter().filter(|entry| entry.facts.kind == FileKind::File) {
        let mut file = files.open(&root.join(&entry.name)).map_err(io::Error::other)?;
        let mut header = Header::new_gnu();
        header.set_mode(0o600);
        header.set_uid(entry.facts.uid.into());
        header.set_gid(entry.facts.gid.into());
        header.set_mtime(0);
        header.set_size(entry.facts.size_bytes);
        builder.append_data(&mut header, &entry.name, &mut file)?;
    }
    builder.into_inner()?.flush()
}

fn unmade(error: &HostError) -> ActionError {
    ActionError::retryable("the scratch folder of the dump cannot be made").because(error)
}
