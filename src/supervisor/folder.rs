//! The files a supervisor leaves in the folder of its attempt.
//!
//! `identity.json` is created once and for all before the program starts: whoever creates it owns the
//! attempt. `child.json` follows the start, `exit.json` the end; `stdout` and `stderr` hold the output.
//! They must survive the engine, not the machine, so nothing here is synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::identity::ProcessId;
use super::outcome::ExitRecord;
use crate::action::CommandOutput;

/// Who owns an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The boot of the machine.
    pub(super) boot: String,
    /// The supervisor; `None` when a resumed run claimed the attempt so that it never starts.
    pub(super) supervisor: Option<ProcessId>,
    /// The program, for messages.
    pub(super) program: String,
}

/// The folder of one attempt.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

/// Whether an attempt could be claimed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It belongs to the caller.
    Ours,
    /// It belonged to somebody before.
    Taken,
}

impl Folder {
    pub(super) fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    pub(super) fn stdout(&self) -> PathBuf {
        self.0.join("stdout")
    }

    pub(super) fn stderr(&self) -> PathBuf {
        self.0.join("stderr")
    }

    /// Creates the identity, whole and exclusively: a link cannot be made twice.
    pub(super) fn claim(&self, identity: &Identity) -> io::Result<Claim> {
        let whole = self.0.join(format!("identity.{}", std::process::id()));
        write(&whole, identity)?;
        let linked = fs::hard_link(&whole, self.0.join("identity.json"));
        fs::remove_file(&whole)?;
        match linked {
            Ok(()) => Ok(Claim::Ours),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Claim::Taken),
            Err(error) => Err(error),
        }
    }

    pub(super) fn identity(&self) -> io::Result<Option<Identity>> {
        read(&self.0.join("identity.json"))
    }

    pub(super) fn record_child(&self, child: ProcessId) -> io::Result<()> {
        self.replace("child.json", &child)
    }

    pub(super) fn child(&self) -> io::Result<Option<ProcessId>> {
        read(&self.0.join("child.json"))
    }

    pub(super) fn record_exit(&self, record: &ExitRecord) -> io::Result<()> {
        self.replace("exit.json", record)
    }

    pub(super) fn exit(&self) -> io::Result<Option<ExitRecord>> {
        read(&self.0.join("exit.json"))
    }

    /// Reads back how the program ended.
    pub(super) fn output(&self, record: &ExitRecord) -> io::Result<CommandOutput> {
        let bytes = |path: PathBuf| match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        };
        Ok(record.output(bytes(self.stdout())?, bytes(self.stderr())?))
    }

    fn replace<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let whole = self.0.join(format!("{name}.new"));
        write(&whole, value)?;
        fs::rename(&whole, self.0.join(name))
    }
}

/// Creates or empties a file that only its owner may read.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    create(path)?.write_all(&serde_json::to_vec(value)?)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{Claim, Folder, Identity};

    #[test]
    fn an_attempt_is_claimed_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(dir.path());
        let identity = Identity { boot: "b".to_owned(), supervisor: None, program: "true".to_owned() };
        assert_eq!(folder.claim(&identity).expect("a claim"), Claim::Ours);
        assert_eq!(folder.claim(&identity).expect("a claim"), Claim::Taken);
        assert_eq!(folder.identity().expect("readable"), Some(identity));
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1, "nothing else remains");
    }
}
