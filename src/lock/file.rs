//! Locks as `flock`ed files below `<state>/locks/`.
//!
//! The kernel's lock decides; it is free by nature when its holder dies. The file's content names the holder
//! for people and is never trusted. Files stay: removing one would let two processes lock two files of one name.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{Digest, RunId, Timestamp, clock, process};
use crate::port::{LockError, LockGuard, Locks};

/// Longer names are told apart by their digest: file systems end at 255 bytes.
const LONGEST: usize = 120;

/// A look holds a lock shared for microseconds; nobody only looks for longer than this.
const LOOK: Duration = Duration::from_millis(500);

/// The locks of one state root.
#[derive(Debug, Clone)]
pub struct FileLocks {
    dir: PathBuf,
}

/// Who holds a lock, as its file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The lock's name.
    pub name: String,
    /// The run.
    pub run: String,
    /// Its engine's process.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
}

#[derive(Debug)]
struct FileLock {
    name: String,
    /// The lock is free when it is closed.
    file: File,
    over: Option<String>,
}

impl FileLocks {
    /// Opens the locks below a state root, which must exist. Its group's share is inherited.
    ///
    /// # Errors
    /// Fails when the folder cannot be created.
    pub fn open(root: &Path) -> io::Result<Self> {
        let dir = root.join("locks");
        let share = std::fs::metadata(root)?.permissions().mode() & 0o2070;
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => std::fs::set_permissions(&dir, Permissions::from_mode(0o700 | share))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            Err(error) => return Err(error),
        }
        Ok(Self { dir })
    }

    /// Names who holds a lock now; `None` when it is free. A moment later it may be different.
    ///
    /// # Errors
    /// Fails when the lock's file cannot be looked at.
    pub fn holder(&self, name: &str) -> io::Result<Option<Holder>> {
        let mut file = match File::open(self.path(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(signed(&mut file, name))),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Names who took a lock last, whether it is held or not: a dead engine may have left something running.
    ///
    /// # Errors
    /// Fails when the lock's file cannot be read.
    pub fn last_holder(&self, name: &str) -> io::Result<Option<Holder>> {
        match File::open(self.path(name)) {
            Ok(mut file) => Ok(Some(signed(&mut file, name)).filter(|holder| holder.pid != 0)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{}.lock", file_name(name)))
    }

    fn open_lock(&self, name: &str) -> io::Result<File> {
        let share = std::fs::metadata(&self.dir)?.permissions().mode() & 0o060;
        let path = self.path(name);
        let create = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        match create {
            Ok(file) => file.set_permissions(Permissions::from_mode(0o600 | share)).map(|()| file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                OpenOptions::new().read(true).write(true).open(&path)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the lock, or gives who holds it. Somebody who merely looks holds it shared for a moment.
    fn take(&self, name: &str, run: &RunId) -> io::Result<Result<FileLock, Holder>> {
        let mut file = self.open_lock(name)?;
        let asked = clock::monotonic();
        while asked.elapsed() < LOOK {
            match file.try_lock() {
                Ok(()) => {
                    let before = signed(&mut file, name);
                    let over = Some(before.run).filter(|other| before.pid != 0 && *other != run.as_str());
                    sign(&mut file, name, run)?;
                    return Ok(Ok(FileLock { name: name.to_owned(), file, over }));
                }
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            match file.try_lock_shared() {
                Ok(()) => file.unlock()?,
                Err(TryLockError::Error(error)) => return Err(error),
                // A child of a holder that was killed shares its locks until it has become its program.
                Err(TryLockError::WouldBlock) if process::is_gone(signed(&mut file, name).pid) => {}
                Err(TryLockError::WouldBlock) => break,
            }
            std::thread::yield_now();
        }
        Ok(Err(signed(&mut file, name)))
    }
}

impl Locks for FileLocks {
    fn acquire(&self, name: &str, run: &RunId) -> Result<Box<dyn LockGuard>, LockError> {
        match self.take(name, run) {
            Ok(Ok(lock)) => Ok(Box::new(lock)),
            Ok(Err(holder)) => Err(LockError::Held { name: name.to_owned(), holder: holder.run, pid: holder.pid }),
            Err(source) => Err(LockError::File { name: name.to_owned(), source }),
        }
    }
}

impl LockGuard for FileLock {
    fn name(&self) -> &str {
        &self.name
    }

    fn over(&self) -> Option<&str> {
        self.over.as_deref()
    }

    fn release(self: Box<Self>) {
        if let Err(error) = self.file.set_len(0) {
            tracing::warn!(lock = %self.name, %error, "the name of the last holder stays in the lock's file");
        }
    }
}

fn sign(file: &mut File, name: &str, run: &RunId) -> io::Result<()> {
    let holder = Holder { name: name.to_owned(), run: run.to_string(), pid: std::process::id(), since: clock::now() };
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&serde_json::to_vec(&holder)?)
}

/// Reads who signed the file. Between taking a lock and signing it lies a moment without a name.
fn signed(file: &mut File, name: &str) -> Holder {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let holder = read.ok().and_then(|_| serde_json::from_str(&text).ok());
    holder.unwrap_or_else(|| Holder {
        name: name.to_owned(),
        run: "unknown".to_owned(),
        pid: 0,
        since: Timestamp::UNIX_EPOCH,
    })
}

/// Makes a file name of a lock's name; different names get different files.
fn file_name(name: &str) -> String {
    let mut safe = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => safe.push(char::from(byte)),
            other => safe.push_str(&format!("%{other:02X}")),
        }
    }
    if safe.is_empty() || safe.len() > LONGEST { format!("+{}", Digest::of(name.as_bytes())) } else { safe }
}

#[cfg(test)]
mod tests {
    use super::{FileLocks, file_name};
    use crate::base::RunId;
    use crate::port::{LockError, Locks as _};

    fn run(letter: char) -> RunId {
        format!("20260101-000000-{letter}").parse().expect("a run id")
    }

    #[test]
    fn a_name_is_held_once_and_its_holder_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        let locks = FileLocks::open(root.path()).expect("opens");
        let held = locks.acquire("database:main", &run('a')).expect("it is free");
        assert_eq!(held.name(), "database:main");
        let refused = locks.acquire("database:main", &run('b')).err().expect("it is held");
        let text = format!("`database:main` is locked by run `20260101-000000-a` (process {})", std::process::id());
        assert_eq!(refused.to_string(), text);
        locks.acquire("database:other", &run('b')).expect("another name is free");
        assert_eq!(locks.holder("database:main").expect("looks").map(|holder| holder.run), Some(run('a').to_string()));
        drop(held);
        assert_eq!(locks.holder("database:main").expect("looks"), None);
        locks.acquire("database:main", &run('b')).expect("it is free again");
    }

    #[test]
    fn what_a_dead_holder_left_in_the_file_locks_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let locks = FileLocks::open(root.path()).expect("opens");
        let held = locks.acquire("main", &run('a')).expect("it is free");
        let left = std::fs::read(root.path().join("locks/main.lock")).expect("reads");
        drop(held);
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(root.path().join("locks/main.lock"), left).expect("writes");
        locks.acquire("main", &run('b')).expect("it is free");
    }

    #[test]
    fn a_holder_that_died_is_named_and_one_that_let_go_in_order_is_not() {
        let root = tempfile::tempdir().expect("a folder");
        let locks = FileLocks::open(root.path()).expect("opens");
        let first = locks.acquire("tape", &run('a')).expect("it is free");
        assert_eq!(first.over(), None);
        drop(first);
        let second = locks.acquire("tape", &run('b')).expect("it is free");
        assert_eq!(second.over(), Some(run('a').as_str()));
        second.release();
        let third = locks.acquire("tape", &run('c')).expect("it is free");
        assert_eq!(third.over(), None);
        drop(third);
        assert_eq!(locks.acquire("tape", &run('c')).expect("it is free").over(), None, "its own");
    }

    #[test]
    fn names_never_leave_the_folder_and_never_meet() {
        let long = "x".repeat(300);
        let names = ["", ".", "..", "../../etc/passwd", "a/b", "a%2Fb", "A", "a", "ä", "\0", long.as_str()];
        let files: std::collections::BTreeSet<String> = names.iter().map(|name| file_name(name)).collect();
        assert_eq!(files.len(), names.len());
        for file in files {
            assert!(!file.contains(['/', '.', '\0']) && file.len() <= 120, "{file}");
        }
    }

    #[test]
    fn a_lock_that_cannot_be_opened_is_an_error_of_its_own() {
        let root = tempfile::tempdir().expect("a folder");
        let locks = FileLocks::open(root.path()).expect("opens");
        std::fs::create_dir(root.path().join("locks/main.lock")).expect("creates");
        let refused = locks.acquire("main", &run('a')).err();
        assert!(matches!(refused, Some(LockError::File { .. })), "{refused:?}");
    }
}
