//! What was stored before the server asked for it: one empty file per segment.
//!
//! The note's name holds the very file it speaks of (its place on the disk, size and times), so that a segment that
//! comes under a name that was used before, after a restore for example, is never taken for the earlier one. What it says
//! of a store it says of the moment it was made: a disk may be changed meanwhile, or a store rolled back, so a note that is
//! not fresh any more is held against the store (`target_store`), and what one was wrong about is believed of none.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::spool::{self, Spool};
use crate::base::{Timestamp, clock};
use crate::pgformat::WalFileName;

/// How long a note is good for by itself where a question costs a round trip: as long as it takes a server to come to all that
/// was pushed beside one segment.
const FRESH: Duration = Duration::from_secs(30);

/// How a note that a file is safe stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// It was made just now.
    Fresh,
    /// Since then a store may have become another one.
    Old,
}

/// Tells one content of a file from another without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint(String);

impl Fingerprint {
    /// Takes it of a file.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let facts = std::fs::metadata(path)?;
        let written = (facts.mtime(), facts.mtime_nsec());
        let changed = (facts.ctime(), facts.ctime_nsec());
        Ok(Self(format!(
            "{:x}-{:x}-{:x}-{:x}.{:x}-{:x}.{:x}",
            facts.dev(),
            facts.ino(),
            facts.size(),
            written.0,
            written.1,
            changed.0,
            changed.1
        )))
    }
}

/// The notes of what was pushed ahead.
pub(super) struct Acks {
    folder: PathBuf,
}

impl Acks {
    /// Opens those of an archive.
    pub(super) fn open(spool: &Spool) -> io::Result<Self> {
        Ok(Self { folder: spool.pushed()? })
    }

    fn path(&self, name: WalFileName, print: &Fingerprint) -> PathBuf {
        self.folder.join(format!("{name}.{}", print.0))
    }

    /// Tells whether this very file is safe already.
    pub(super) fn holds(&self, name: WalFileName, print: &Fingerprint) -> bool {
        self.path(name, print).is_file()
    }

    /// Tells how a note of this very file stands; `None` where there is none. One of the future is old: the clock was set back.
    pub(super) fn freshness(&self, name: WalFileName, print: &Fingerprint) -> Option<Freshness> {
        let made = std::fs::metadata(self.path(name, print)).ok()?.modified().ok();
        let made = made.and_then(|at| Timestamp::try_from(at).ok());
        let age = made.and_then(|at| Duration::try_from(clock::now().duration_since(at)).ok());
        Some(if age.is_some_and(|age| age <= FRESH) { Freshness::Fresh } else { Freshness::Old })
    }

    /// Notes that this very file is safe. A note that cannot be made costs time, nothing else.
    pub(super) fn add(&self, name: WalFileName, print: &Fingerprint) {
        let _ = spool::note(&self.path(name, print));
    }

    /// Removes the notes of everything that does not wait any more.
    pub(super) fn keep(&self, waiting: &BTreeSet<String>) {
        for note in spool::names(&self.folder).unwrap_or_default() {
            let name = note.split('.').next().unwrap_or_default();
            if !waiting.contains(name) {
                // One that stays is harmless: it speaks of a file that is gone.
                let _ = std::fs::remove_file(self.folder.join(note));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

    use super::*;

    #[test]
    fn a_note_speaks_of_one_content_only() {
        let dir = tempfile::tempdir().unwrap();
        let acks = Acks { folder: dir.path().to_owned() };
        let name: WalFileName = "000000010000000000000005".parse().unwrap();
        let path = dir.path().join("segment");
        std::fs::write(&path, "one").unwrap();
        let print = Fingerprint::of(&path).unwrap();
        acks.add(name, &print);
        assert!(acks.holds(name, &print));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "two").unwrap();
        assert!(!acks.holds(name, &Fingerprint::of(&path).unwrap()));
        assert_eq!(acks.freshness(name, &Fingerprint::of(&path).unwrap()), None);
        assert_eq!(acks.freshness(name, &print), Some(Freshness::Fresh));
        let note = std::fs::File::options().write(true).open(acks.path(name, &print)).unwrap();
        let now = std::time::SystemTime::now();
        for other in [now - 2 * FRESH, now + 2 * FRESH] {
            note.set_modified(other).unwrap();
            assert_eq!(acks.freshness(name, &print), Some(Freshness::Old));
        }
        acks.keep(&BTreeSet::from([name.to_string()]));
        assert!(acks.holds(name, &print));
        acks.keep(&BTreeSet::new());
        assert!(!acks.holds(name, &print));
    }
}
