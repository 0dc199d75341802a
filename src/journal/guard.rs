//! The lock of a run: two engines never drive one.
//!
//! A kernel lock on the file `lock` of the run's folder, free by nature when its holder dies. The content
//! names the holder for people; it never decides.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::durable;
use crate::base::{Timestamp, clock, process};

/// The lock file's name inside a run's folder.
pub const LOCK_FILE: &str = "lock";

/// A probe holds the lock shared for microseconds; nobody only probes for longer than this.
const PROBE: Duration = Duration::from_millis(500);

/// Who drives a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// The engine's process.
    pub pid: u32,
    /// When it took the run.
    pub since: Timestamp,
}

/// Holds a run until dropped.
#[derive(Debug)]
pub struct RunLock {
    file: File,
}

/// What came of asking for a run's lock.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The run is ours.
    Ours(RunLock),
    /// Another engine drives it.
    Held(Option<Driver>),
}

impl RunLock {
    /// Takes the run in `dir`, or tells who drives it.
    pub(crate) fn take(dir: &Path) -> io::Result<Taken> {
        let file = durable::open_file(&dir.join(LOCK_FILE))?;
        let asked = clock::monotonic();
        while asked.elapsed() < PROBE {
            match file.try_lock() {
                Ok(()) => return Self::sign(file).map(Taken::Ours),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            // Only an engine excludes a shared lock: when it is granted, somebody was merely looking.
            match file.try_lock_shared() {
                Ok(()) => file.unlock()?,
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {
                    // A child of an engine that was killed shares its locks until it has become its program.
                    let driver = driver(dir);
                    if !driver.as_ref().is_some_and(|driver| process::is_gone(driver.pid)) {
                        return Ok(Taken::Held(driver));
                    }
                }
            }
            std::thread::yield_now();
        }
        Ok(Taken::Held(driver(dir)))
    }

    fn sign(mut file: File) -> io::Result<Self> {
        let driver = Driver { pid: std::process::id(), since: clock::now() };
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(&driver)?)?;
        Ok(Self { file })
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // The kernel's lock goes with the file in any case; an empty file only spares people a stale name.
        let _ = self.file.set_len(0);
    }
}

/// Tells whether an engine drives the run in `dir` now, without keeping one from taking it.
pub(crate) fn is_driven(dir: &Path) -> io::Result<bool> {
    let file = match File::open(dir.join(LOCK_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Gives the driver that the lock file names, if it names one.
pub(crate) fn driver(dir: &Path) -> Option<Driver> {
    let mut text = String::new();
    File::open(dir.join(LOCK_FILE)).ok()?.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::{LOCK_FILE, RunLock, Taken, is_driven};

    #[test]
    fn a_run_is_driven_once_and_free_afterwards() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(!is_driven(dir.path()).expect("looks"), "no lock file, no driver");
        let Taken::Ours(held) = RunLock::take(dir.path()).expect("asks") else { panic!("nobody holds it") };
        assert!(is_driven(dir.path()).expect("looks"));
        let Taken::Held(Some(driver)) = RunLock::take(dir.path()).expect("asks") else { panic!("it is held") };
        assert_eq!(driver.pid, std::process::id());
        drop(held);
        assert!(!is_driven(dir.path()).expect("looks"));
        assert!(matches!(RunLock::take(dir.path()).expect("asks"), Taken::Ours(_)));
    }

    #[test]
    fn somebody_who_merely_looks_does_not_keep_an_engine_out() {
        let dir = tempfile::tempdir().expect("a folder");
        drop(RunLock::take(dir.path()).expect("creates the file"));
        let looker = std::fs::File::open(dir.path().join(LOCK_FILE)).expect("opens");
        looker.try_lock_shared().expect("looks");
        let path = dir.path().to_owned();
        let engine = std::thread::spawn(move || RunLock::take(&path).expect("asks"));
        std::thread::yield_now();
        looker.unlock().expect("has looked");
        assert!(matches!(engine.join().expect("ends"), Taken::Ours(_)));
    }

    #[test]
    fn the_lock_of_a_dead_holder_is_free_whatever_the_file_says() {
        let dir = tempfile::tempdir().expect("a folder");
        drop(RunLock::take(dir.path()).expect("creates the file"));
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(dir.path().join(LOCK_FILE), r#"{"pid":1,"since":"2026-01-01T00:00:00Z"}"#).expect("writes");
        assert!(matches!(RunLock::take(dir.path()).expect("asks"), Taken::Ours(_)));
    }
}
