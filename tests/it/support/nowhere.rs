//! A host without files and processes: an action of a scenario that touches it fails.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use runbook::action::{
    BoxFuture, CommandOutput, CommandSpec, DirEntry, FileFacts, Files, Host, HostError, ReadFiles, ReadHost, Space, Tie,
};

pub struct Nowhere;

fn lost<T>() -> Result<T, HostError> {
    Err(HostError::Lost { program: "nowhere".to_owned() })
}

impl ReadFiles for Nowhere {
    fn facts(&self, _: &Path) -> Result<Option<FileFacts>, HostError> {
        lost()
    }
    fn read(&self, _: &Path, _: u64) -> Result<Vec<u8>, HostError> {
        lost()
    }
    fn open(&self, _: &Path) -> Result<std::fs::File, HostError> {
        lost()
    }
    fn list(&self, _: &Path) -> Result<Vec<DirEntry>, HostError> {
        lost()
    }
    fn read_link(&self, _: &Path) -> Result<PathBuf, HostError> {
        lost()
    }
    fn canonical(&self, _: &Path) -> Result<PathBuf, HostError> {
        lost()
    }
    fn space(&self, _: &Path) -> Result<Space, HostError> {
        lost()
    }
}

impl Files for Nowhere {
    fn create_dir(&self, _: &Path, _: u32) -> Result<(), HostError> {
        lost()
    }
    fn create(&self, _: &Path, _: u32) -> Result<std::fs::File, HostError> {
        lost()
    }
    fn append(&self, _: &Path) -> Result<std::fs::File, HostError> {
        lost()
    }
    fn replace(&self, _: &Path, _: &[u8], _: u32) -> Result<(), HostError> {
        lost()
    }
    fn replace_for(&self, _: &Path, _: &[u8], _: u32, _: (u32, u32)) -> Result<(), HostError> {
        lost()
    }
    fn rename(&self, _: &Path, _: &Path) -> Result<(), HostError> {
        lost()
    }
    fn symlink(&self, _: &Path, _: &Path) -> Result<(), HostError> {
        lost()
    }
    fn remove_file(&self, _: &Path) -> Result<(), HostError> {
        lost()
    }
    fn remove_tree(&self, _: &Path) -> Result<(), HostError> {
        lost()
    }
    fn chmod(&self, _: &Path, _: u32) -> Result<(), HostError> {
        lost()
    }
    fn chown(&self, _: &Path, _: u32, _: u32) -> Result<(), HostError> {
        lost()
    }
    fn sync(&self, _: &Path) -> Result<(), HostError> {
        lost()
    }
}

impl ReadHost for Nowhere {
    fn name(&self) -> &str {
        "nowhere"
    }
    fn read_files(&self) -> Arc<dyn ReadFiles> {
        Arc::new(Nowhere)
    }
    fn find_program(&self, _: &str) -> Option<PathBuf> {
        None
    }
    fn probe(&self, _: CommandSpec) -> BoxFuture<'_, Result<CommandOutput, HostError>> {
        Box::pin(async { lost() })
    }
    fn user(&self, _: &str) -> Result<Option<(u32, u32)>, HostError> {
        lost()
    }
    fn effective_uid(&self) -> u32 {
        0
    }
}

impl Host for Nowhere {
    fn files(&self) -> Arc<dyn Files> {
        Arc::new(Nowhere)
    }
    fn run(&self, _: CommandSpec, _: Tie) -> BoxFuture<'_, Result<CommandOutput, HostError>> {
        Box::pin(async { lost() })
    }
    fn start_daemon(&self, _: CommandSpec) -> BoxFuture<'_, Result<CommandOutput, HostError>> {
        Box::pin(async { lost() })
    }
    fn as_read(&self) -> &dyn ReadHost {
        self
    }
}
