//! Segments that were fetched and verified before the server asked for them.
//!
//! A segment gets its name here when it is whole, and its checksum stands in the name, since nothing here is synced:
//! what a crash of the machine tore is found out. Only segments are kept, never that one is absent; each restore has a
//! folder of its own.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::fetch::deliver;
use super::push::verify;
use super::spool::{self, Spool};
use super::{Config, Identity};
use crate::base::Digest;
use crate::pgformat::{SegmentName, SegmentSize, WalFileName};

/// Bytes that are kept at most, whatever the number of segments; one segment is always allowed.
const LIMIT_BYTES: u64 = 512 << 20;
/// The disk keeps room for this many times what may be kept.
const ROOM: u64 = 2;
const LOCK: &str = "lock";
const POSITION: &str = "position";
const PART: &str = "part";

/// The segments kept for one restore.
#[derive(Debug, Clone)]
pub(super) struct Stock {
    folder: PathBuf,
    /// How many segments are kept at most.
    pub(super) limit: usize,
}

impl Stock {
    /// Opens the stock of a restore; `None` when nothing is fetched ahead.
    pub(super) fn open(config: &Config, pgdata: &Path, identity: &Identity) -> io::Result<Option<Self>> {
        let (Some(size), true) = (identity.segment_size, config.ahead() > 0) else { return Ok(None) };
        let Some(spool) = Spool::open(config, identity.system_id)? else { return Ok(None) };
        let place = || {
            let folder = std::fs::canonicalize(pgdata).unwrap_or_else(|_| pgdata.to_owned());
            Digest::of(folder.as_os_str().as_encoded_bytes()).short()
        };
        let restore = config.restore.clone().unwrap_or_else(place);
        let most = usize::try_from(LIMIT_BYTES / size.bytes()).unwrap_or(usize::MAX).max(1);
        Ok(Some(Self { folder: spool.ahead(&restore)?, limit: config.ahead().min(most) }))
    }

    /// Hands a segment to the server, proven by the checksum in its name and by its header; `false` when it is not
    /// there. One that is not whole is thrown away.
    pub(super) fn hand_over(&self, segment: SegmentName, identity: &Identity, target: &Path) -> bool {
        let Some(path) = self.find(segment) else { return false };
        let is_whole = std::fs::read(&path).is_ok_and(|bytes| {
            path.file_name().is_some_and(|kept| *kept == *kept_name(segment, &bytes))
                && verify(WalFileName::Segment(segment), &bytes, identity).is_ok()
        });
        let given = is_whole && (std::fs::rename(&path, target).is_ok() || copied(&path, target));
        if !given || path.exists() {
            // It has no use any more; the next one who fetches it writes it anew.
            let _ = std::fs::remove_file(&path);
        }
        given
    }

    fn find(&self, segment: SegmentName) -> Option<PathBuf> {
        let name = segment.to_string();
        let is_it = |kept: &String| kept.split_once('.').is_some_and(|(stem, ending)| stem == name && ending != PART);
        spool::names(&self.folder).ok()?.into_iter().find(is_it).map(|kept| self.folder.join(kept))
    }

    /// Keeps a segment that was verified.
    pub(super) fn keep(&self, segment: SegmentName, bytes: &[u8]) -> io::Result<()> {
        let part = self.part(segment);
        let written = File::create(&part).and_then(|mut file| file.write_all(bytes));
        let kept = written.and_then(|()| std::fs::rename(&part, self.folder.join(kept_name(segment, bytes))));
        if kept.is_err() {
            self.give_up(segment);
        }
        kept
    }

    /// Says that a segment is being fetched.
    pub(super) fn begin(&self, segment: SegmentName) -> io::Result<()> {
        spool::note(&self.part(segment))
    }

    /// Says that it is not any more.
    pub(super) fn give_up(&self, segment: SegmentName) {
        // The next one who begins it writes it anew.
        let _ = std::fs::remove_file(self.part(segment));
    }

    /// Tells whether somebody who lives is fetching a segment.
    pub(super) fn is_coming(&self, segment: SegmentName) -> bool {
        self.part(segment).exists() && matches!(self.lock(), Ok(None))
    }

    fn part(&self, segment: SegmentName) -> PathBuf {
        self.folder.join(format!("{segment}.{PART}"))
    }

    /// The segments that are kept.
    pub(super) fn segments(&self) -> io::Result<Vec<SegmentName>> {
        let names = spool::names(&self.folder)?;
        let kept = names.iter().filter_map(|name| name.split_once('.').filter(|(_, ending)| *ending != PART));
        Ok(kept.filter_map(|(stem, _)| stem.parse().ok()).collect())
    }

    /// Throws away what the server has passed by: earlier segments, and those of other timelines.
    pub(super) fn pass(&self, position: SegmentName) {
        for name in spool::names(&self.folder).unwrap_or_default() {
            let segment = name.split('.').next().and_then(|stem| stem.parse::<SegmentName>().ok());
            if segment.is_some_and(|kept| kept < position || kept.timeline() != position.timeline()) {
                // One that stays is thrown away later.
                let _ = std::fs::remove_file(self.folder.join(name));
            }
        }
    }

    /// Notes which segment the server asked for last.
    pub(super) fn ask(&self, segment: SegmentName) -> io::Result<()> {
        let (path, new) = (self.folder.join(POSITION), self.folder.join(format!("{POSITION}.new")));
        File::create(&new).and_then(|mut file| file.write_all(segment.to_string().as_bytes()))?;
        std::fs::rename(new, path)
    }

    /// Which segment the server asked for last.
    pub(super) fn asked(&self) -> io::Result<Option<SegmentName>> {
        match std::fs::read_to_string(self.folder.join(POSITION)) {
            Ok(text) => Ok(text.parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.folder.is_dir() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the lock of whoever fetches ahead; `None` when somebody has it.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(self.folder.join(LOCK))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells whether the disk has room for what may be kept.
    pub(super) fn has_room(&self, size: SegmentSize) -> bool {
        let disk = rustix::fs::statvfs(&self.folder);
        disk.is_ok_and(|disk| disk.f_bavail * disk.f_frsize > ROOM * self.limit as u64 * size.bytes())
    }
}

/// The spool lies on another disk.
fn copied(path: &Path, target: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| deliver(&bytes, target).is_ok())
}

fn kept_name(segment: SegmentName, bytes: &[u8]) -> String {
    format!("{segment}.{:08x}", crc32c::crc32c(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

    use super::*;

    fn stock(dir: &Path) -> Stock {
        Stock { folder: dir.to_owned(), limit: 4 }
    }

    fn name(number: u64) -> SegmentName {
        SegmentName::new(crate::pgformat::Timeline(1), number, SegmentSize::DEFAULT)
    }

    #[test]
    fn a_torn_segment_is_thrown_away_and_never_taken() {
        let dir = tempfile::tempdir().unwrap();
        let stock = stock(dir.path());
        let identity = Identity { system_id: crate::pgformat::SystemId(1), segment_size: None };
        stock.keep(name(5), b"no segment at all").unwrap();
        let path = dir.path().join(kept_name(name(5), b"no segment at all"));
        std::fs::write(&path, b"no segm").unwrap();
        assert_eq!(stock.segments().unwrap(), [name(5)]);
        let target = dir.path().join("target");
        assert!(!stock.hand_over(name(5), &identity, &target));
        assert!(!path.exists() && !target.exists());
    }

    #[test]
    fn what_was_passed_by_is_thrown_away_and_the_position_stays() {
        let dir = tempfile::tempdir().unwrap();
        let stock = stock(dir.path());
        assert_eq!(stock.asked().unwrap(), None);
        for number in 3..6 {
            stock.keep(name(number), b"x").unwrap();
        }
        stock.ask(name(4)).unwrap();
        stock.pass(name(4));
        let mut left = stock.segments().unwrap();
        left.sort_unstable();
        assert_eq!((left, stock.asked().unwrap()), (vec![name(4), name(5)], Some(name(4))));
    }

    #[test]
    fn only_one_fetches_ahead_and_what_a_dead_one_began_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let stock = stock(dir.path());
        let lock = stock.lock().unwrap().unwrap();
        assert!(stock.lock().unwrap().is_none());
        stock.begin(name(7)).unwrap();
        assert!(stock.is_coming(name(7)) && !stock.is_coming(name(8)));
        drop(lock);
        assert!(!stock.is_coming(name(7)));
    }
}
