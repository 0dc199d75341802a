//! A machine that is only read: every writing method refuses, and a program runs as a probe, without a folder.
//!
//! What an action creates in the folder of its attempt is kept in memory: `shell` hands its script to bash that way.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::action::{
    BoxFuture, CommandOutput, CommandSpec, DirEntry, FileFacts, Files, Host, HostError, ReadFiles, ReadHost, Space, Tie,
};

type Kept = Arc<Mutex<BTreeMap<PathBuf, File>>>;

/// A machine for a rehearsed attempt.
pub struct ReadingHost {
    inner: Arc<dyn ReadHost>,
    folder: PathBuf,
    kept: Kept,
}

impl ReadingHost {
    /// Reads a machine. `folder` is the folder that the attempt would have; it is never made.
    #[must_use]
    pub fn new(inner: Arc<dyn ReadHost>, folder: PathBuf) -> Self {
        Self { inner, folder, kept: Kept::default() }
    }

    /// Names in memory in place of names in the folder that is not there.
    fn placed(&self, mut spec: CommandSpec) -> CommandSpec {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, file) in kept.iter() {
            let name = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
            for arg in spec.args.iter_mut().filter(|arg| Path::new(arg) == path) {
                arg.clone_from(&name);
            }
        }
        spec
    }
}

impl ReadHost for ReadingHost {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn read_files(&self) -> Arc<dyn ReadFiles> {
        self.inner.read_files()
    }
    fn find_program(&self, name: &str) -> Option<PathBuf> {
        self.inner.find_program(name)
    }
    fn probe(&self, spec: CommandSpec) -> BoxFuture<'_, Result<CommandOutput, HostError>> {
        self.inner.probe(self.placed(spec))
    }
    fn user(&self, name: &str) -> Result<Option<(u32, u32)>, HostError> {
        self.inner.user(name)
    }
    fn effective_uid(&self) -> u32 {
        self.inner.effective_uid()
    }
}

impl Host for ReadingHost {
    fn files(&self) -> Arc<dyn Files> {
        Arc::new(ReadingFiles {
            inner: self.inner.read_files(),
            folder: self.folder.clone(),
            kept: Arc::clone(&self.kept),
        })
    }
    /// Only steps whose author says that they read are made in a rehearsal.
    fn run(&self, spec: CommandSpec, _: Tie) -> BoxFuture<'_, Result<CommandOutput, HostError>> {
        self.probe(spec)
    }
    fn start_daemon(&self, spec: CommandSpec) -> BoxFuture<'_, Result<CommandOutput, HostError>> {
        let source = std::io::Error::other("nothing is started in a rehearsal");
        Box::pin(async move { Err(HostError::Spawn { program: spec.program, source }) })
    }
    fn as_read(&self) -> &dyn ReadHost {
        self
    }
}

struct ReadingFiles {
    inner: Arc<dyn ReadFiles>,
    folder: PathBuf,
    kept: Kept,
}

fn refused<T>(operation: &'static str, path: &Path) -> Result<T, HostError> {
    let source = std::io::Error::new(std::io::ErrorKind::ReadOnlyFilesystem, "nothing is written in a rehearsal");
    Err(HostError::File { operation, path: path.to_owned(), source })
}

impl ReadFiles for ReadingFiles {
    fn facts(&self, path: &Path) -> Result<Option<FileFacts>, HostError> {
        self.inner.facts(path)
    }
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, HostError> {
        self.inner.read(path, limit)
    }
    fn open(&self, path: &Path) -> Result<File, HostError> {
        self.inner.open(path)
    }
    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, HostError> {
        self.inner.list(path)
    }
    fn read_link(&self, path: &Path) -> Result<PathBuf, HostError> {
        self.inner.read_link(path)
    }
    fn canonical(&self, path: &Path) -> Result<PathBuf, HostError> {
        self.inner.canonical(path)
    }
    fn modified_at(&self, path: &Path) -> Result<Option<crate::base::Timestamp>, HostError> {
        self.inner.modified_at(path)
    }
    fn space(&self, path: &Path) -> Result<Space, HostError> {
        self.inner.space(path)
    }
}

impl Files for ReadingFiles {
    fn create_dir(&self, path: &Path, _: u32) -> Result<(), HostError> {
        refused("create", path)
    }
    fn create(&self, path: &Path, _: u32) -> Result<File, HostError> {
        if !path.starts_with(&self.folder) {
            return refused("create", path);
        }
        let failed =
            |source: std::io::Error| HostError::File { operation: "keep in memory", path: path.to_owned(), source };
        let memory = rustix::fs::memfd_create("runbook", rustix::fs::MemfdFlags::CLOEXEC);
        let file = File::from(memory.map_err(|error| failed(error.into()))?);
        let writer = file.try_clone().map_err(failed)?;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), file);
        Ok(writer)
    }
    fn append(&self, path: &Path) -> Result<File, HostError> {
        refused("append to", path)
    }
    fn update(&self, path: &Path) -> Result<File, HostError> {
        refused("open for writing", path)
    }
    fn replace(&self, path: &Path, _: &[u8], _: u32) -> Result<(), HostError> {
        refused("replace", path)
    }
    fn replace_for(&self, path: &Path, _: &[u8], _: u32, _: (u32, u32)) -> Result<(), HostError> {
        refused("replace", path)
    }
    fn rename(&self, from: &Path, _: &Path) -> Result<(), HostError> {
        refused("rename", from)
    }
    fn symlink(&self, _: &Path, link: &Path) -> Result<(), HostError> {
        refused("link", link)
    }
    fn hard_link(&self, _: &Path, name: &Path) -> Result<(), HostError> {
        refused("link", name)
    }
    fn set_modified(&self, path: &Path, _: crate::base::Timestamp) -> Result<(), HostError> {
        refused("change the time of", path)
    }
    fn remove_file(&self, path: &Path) -> Result<(), HostError> {
        refused("remove", path)
    }
    fn remove_tree(&self, path: &Path) -> Result<(), HostError> {
        refused("remove", path)
    }
    fn chmod(&self, path: &Path, _: u32) -> Result<(), HostError> {
        refused("change the mode of", path)
    }
    fn chown(&self, path: &Path, _: u32, _: u32) -> Result<(), HostError> {
        refused("change the owner of", path)
    }
    fn sync(&self, path: &Path) -> Result<(), HostError> {
        refused("sync", path)
    }
}
