//! The files a supervisor leaves in the folder of its attempt.
//!
//! `identity.json` is created once and for all before the program starts: whoever creates it owns the
//! attempt. `child.json` follows the start, `exit.json` the end; `stdout` and `stderr` hold the output.
//! They must survive the engine, not the machine, so nothing here is synced but the names of a claim, before the program
//! starts: without them an attempt that a power cut ended would be one that never began. What the cut leaves is a name with
//! nothing in it; so the boot of the machine stands in a name, too: `boot.ID`, made before the attempt is claimed. File
//! systems keep the order of names: with those in a new folder its own name is there, and those of the folders above it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::identity::ProcessId;
use super::outcome::ExitRecord;
use crate::action::CommandOutput;

/// How the name begins that tells the boot at which an attempt was claimed.
const BOOT: &str = "boot.";

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

/// Whose an attempt is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody has claimed it.
    Nobody,
    /// As its record tells.
    Known(Identity),
    /// The machine was started anew since, which has emptied its record: nothing of it runs.
    Forgotten,
}

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

    /// Creates the identity, whole and exclusively: a link cannot be made twice. A supervisor's claim is durable.
    ///
    /// # Errors
    /// Fails when it cannot be made, or not be made durable: nothing may be started then.
    pub(super) fn claim(&self, identity: &Identity) -> io::Result<Claim> {
        self.claim_with(identity, |folder| File::open(folder)?.sync_all())
    }

    fn claim_with(&self, identity: &Identity, sync: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<Claim> {
        create(&self.boot(&identity.boot))?;
        let whole = self.0.join(format!("identity.{}", std::process::id()));
        write(&whole, identity)?;
        let linked = fs::hard_link(&whole, self.0.join("identity.json"));
        fs::remove_file(&whole)?;
        match linked {
            // What a resumed run claims is never started, so it may be forgotten.
            Ok(()) if identity.supervisor.is_none() => Ok(Claim::Ours),
            Ok(()) => sync(&self.0).map(|()| Claim::Ours),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Claim::Taken),
            Err(error) => Err(error),
        }
    }

    /// Tells whose the attempt is, at `boot` of the machine.
    ///
    /// # Errors
    /// Fails when the record cannot be read, unless it was made at another boot and is torn.
    pub(super) fn owner(&self, boot: &str) -> io::Result<Owner> {
        match read(&self.0.join("identity.json")) {
            Ok(Some(identity)) => Ok(Owner::Known(identity)),
            Ok(None) => Ok(Owner::Nobody),
            Err(error) if is_torn(&error) && self.is_of_another(boot)? => Ok(Owner::Forgotten),
            Err(error) => Err(error),
        }
    }

    fn boot(&self, id: &str) -> PathBuf {
        self.0.join(format!("{BOOT}{id}"))
    }

    /// Whether the attempt was claimed at other boots alone. An earlier version left no name that tells.
    fn is_of_another(&self, boot: &str) -> io::Result<bool> {
        if self.boot(boot).try_exists()? {
            return Ok(false);
        }
        for entry in fs::read_dir(&self.0)? {
            if entry?.file_name().to_string_lossy().starts_with(BOOT) {
                return Ok(true);
            }
        }
        Ok(false)
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

/// Whether a record was written in part, or is empty.
pub(super) fn is_torn(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
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
    use std::io;

    use super::super::identity::ProcessId;
    use super::{Claim, Folder, Identity, Owner};

    #[test]
    fn an_attempt_is_claimed_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(dir.path());
        let identity = Identity { boot: "b".to_owned(), supervisor: None, program: "true".to_owned() };
        assert_eq!(folder.claim(&identity).expect("a claim"), Claim::Ours);
        assert_eq!(folder.claim(&identity).expect("a claim"), Claim::Taken);
        assert_eq!(folder.owner("b").expect("readable"), Owner::Known(identity));
        assert_eq!(
            std::fs::read_dir(dir.path()).expect("a folder").count(),
            2,
            "nothing but that and the boot remains"
        );
    }

    #[test]
    fn a_supervisor_has_the_attempt_only_when_all_names_of_its_claim_are_durable() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = |name: &str| {
            std::fs::create_dir(dir.path().join(name)).expect("makes");
            Folder::new(&dir.path().join(name))
        };
        let supervisor = ProcessId::own().expect("this process");
        let ours = Identity { boot: "b".to_owned(), supervisor: Some(supervisor), program: "true".to_owned() };
        let mut synced = Vec::new();
        let look = |place: &std::path::Path| {
            for entry in std::fs::read_dir(place)? {
                synced.push(entry?.file_name().into_string().expect("text"));
            }
            Ok(())
        };
        assert_eq!(folder("a").claim_with(&ours, look).expect("a claim"), Claim::Ours);
        synced.sort();
        assert_eq!(synced, ["boot.b", "identity.json"]);
        let broken = |_: &std::path::Path| Err(io::Error::other("on purpose"));
        assert!(folder("b").claim_with(&ours, broken).is_err(), "no program may start");
        let nobodys = Identity { supervisor: None, ..ours };
        assert_eq!(folder("c").claim_with(&nobodys, broken).expect("a claim"), Claim::Ours);
    }

    #[test]
    fn a_record_that_a_power_cut_emptied_is_of_an_earlier_boot() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(dir.path());
        assert_eq!(folder.owner("b").expect("readable"), Owner::Nobody);
        let identity = Identity { boot: "b".to_owned(), supervisor: None, program: "true".to_owned() };
        folder.claim(&identity).expect("a claim");
        super::create(&dir.path().join("identity.json")).expect("empties");
        assert_eq!(folder.owner("c").expect("readable"), Owner::Forgotten);
        assert!(folder.owner("b").is_err(), "what was written at this boot is whole, so something else is wrong");
        std::fs::remove_file(dir.path().join("boot.b")).expect("removes");
        assert!(folder.owner("c").is_err(), "an earlier version does not tell the boot");
    }
}
