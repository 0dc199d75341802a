//! The last push that failed, in its own words: who asks later can seldom read the server's log.
//!
//! ```text
//! SPOOL/SYSTEM_ID/failed    the file's name, then what was said of it, in two lines
//! ```

use std::io;
use std::path::PathBuf;

use super::Config;
use super::spool::{self, Spool};
use crate::pgformat::{SystemId, WalFileName};

/// The most that is kept of the words.
const LIMIT_BYTES: usize = 4 << 10;

/// A push that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// The file that was to be archived.
    pub name: WalFileName,
    /// Which store refused it, and why.
    pub why: String,
}

fn path(spool: &Spool) -> PathBuf {
    spool.folder().join("failed")
}

/// Notes why a push failed, or that it does not any more. Nothing depends on it: what cannot be noted is not.
pub(super) fn note(spool: &Spool, name: WalFileName, failed: Option<&str>) {
    let path = path(spool);
    let noted = match failed {
        Some(why) => {
            let why: String = why.replace('\n', " ").chars().take(LIMIT_BYTES).collect();
            let new = path.with_extension("new");
            spool::write(&new, format!("{name}\n{why}\n").as_bytes()).and_then(|()| std::fs::rename(&new, &path))
        }
        None => std::fs::remove_file(&path),
    };
    drop(noted);
}

/// Tells the last push of a configuration that failed, where no later one succeeded. Reads only.
///
/// # Errors
/// Fails when the note is there and cannot be read.
pub fn last_failure(config: &Config, system_id: SystemId) -> io::Result<Option<LastFailure>> {
    let Some((_, spool)) = Spool::of(config, system_id) else { return Ok(None) };
    let text = match std::fs::read_to_string(path(&spool)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let told = text.split_once('\n').and_then(|(name, why)| Some((name.parse().ok()?, why.trim().to_owned())));
    Ok(told.map(|(name, why)| LastFailure { name, why }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::language::inventory::StoreEntry;

    #[test]
    fn the_words_of_the_last_failure_are_kept_until_a_push_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { spool: Some(dir.path().join("spool")), ..Config::new(StoreEntry::default(), "app") };
        assert_eq!(last_failure(&config, SystemId(7)).unwrap(), None, "there is no spool yet");
        let spool = Spool::open(&config, &dir.path().join("data"), SystemId(7)).unwrap().unwrap();
        let name: WalFileName = "000000010000000000000004".parse().unwrap();
        note(&spool, name, Some("`file:///b`: cannot write:\nPermission denied"));
        let told = last_failure(&config, SystemId(7)).unwrap().unwrap();
        assert_eq!((told.name, told.why.as_str()), (name, "`file:///b`: cannot write: Permission denied"));
        note(&spool, name, None);
        assert_eq!(last_failure(&config, SystemId(7)).unwrap(), None);
    }
}
