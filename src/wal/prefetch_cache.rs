//! Segments that were fetched and verified before the server asked for them.
//!
//! A segment gets its name here when it is whole and verified. Nothing here is synced, so the boot of the machine stands in
//! the name: what was kept before the machine started anew may be torn and is never taken. Only segments are kept, never
//! that one is absent; each restore has a folder of its own.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::preferred_store::PreferredStore;
use super::push::verify_segment;
use super::spool::{self, Spool};
use super::staged_file::StagedFile;
use super::{Config, Identity, WalError};
use crate::base::Digest;
use crate::base::boot::boot_id;
use crate::pgformat::{SegmentName, SegmentSize, WAL_PAGE_BYTES, WalFileName};

/// The disk keeps room for this many times what may be kept.
pub(super) const ROOM: u64 = 2;
/// Bytes that are kept at most.
const LIMIT_BYTES: u64 = 512 << 20;
const LOCK: &str = "lock";
const POSITION: &str = "position";
const PART: &str = "part";
const FIRST: &str = "first";

/// The segments kept for one restore.
#[derive(Debug, Clone)]
pub(super) struct PrefetchCache {
    folder: PathBuf,
    /// What names of segments end in that were kept since the machine started.
    boot: String,
    /// How many segments are kept at most.
    pub(super) limit: usize,
}

impl PrefetchCache {
    /// Opens the cache of a restore; `None` when nothing is fetched ahead.
    pub(super) fn open(config: &Config, pgdata: &Path, identity: &Identity) -> io::Result<Option<Self>> {
        let (Some(size), true) = (identity.segment_size, config.ahead() > 0) else { return Ok(None) };
        let Some(spool) = Spool::open(config, pgdata, identity.system_id)? else { return Ok(None) };
        let place = || {
            let folder = std::fs::canonicalize(pgdata).unwrap_or_else(|_| pgdata.to_owned());
            Digest::of(folder.as_os_str().as_encoded_bytes()).short()
        };
        let restore = config.restore.clone().unwrap_or_else(place);
        Ok(Some(Self { folder: spool.ahead(&restore)?, boot: boot()?, limit: config.ahead().min(most(size)) }))
    }

    /// Hands a segment to the server; `false` when it is not there. It was verified when it was kept: its first page and
    /// its length are looked at once more. One that is not what it should be is thrown away.
    pub(super) fn hand_over(&self, segment: SegmentName, identity: &Identity, target: &Path) -> bool {
        let Some(path) = self.find(segment) else { return false };
        let is_sound = path == self.kept(segment) && is_segment(&path, segment, identity);
        let given = is_sound && (std::fs::rename(&path, target).is_ok() || copied(&path, target));
        if !given || path.exists() {
            // It has no use any more; the next one who fetches it writes it anew.
            let _ = std::fs::remove_file(&path);
        }
        given
    }

    /// Finds a segment, whenever it was kept.
    fn find(&self, segment: SegmentName) -> Option<PathBuf> {
        let kept = self.kept(segment);
        if kept.exists() {
            return Some(kept);
        }
        let name = segment.to_string();
        let is_it = |kept: &String| kept.split_once('.').is_some_and(|(stem, ending)| stem == name && ending != PART);
        spool::names(&self.folder).ok()?.into_iter().find(is_it).map(|kept| self.folder.join(kept))
    }

    fn kept(&self, segment: SegmentName) -> PathBuf {
        self.folder.join(kept_name(segment, &self.boot))
    }

    /// Where a segment is written to that is being fetched.
    pub(super) fn staged_file(&self, segment: SegmentName) -> Result<StagedFile, WalError> {
        StagedFile::at(self.part(segment))
    }

    /// Keeps a segment that was verified.
    pub(super) fn keep(&self, segment: SegmentName, staged_file: StagedFile) -> Result<(), WalError> {
        staged_file.settle(&self.kept(segment))
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
        self.folder.join(part_name(segment))
    }

    /// The segments that are kept.
    pub(super) fn segments(&self) -> io::Result<Vec<SegmentName>> {
        let names = spool::names(&self.folder)?;
        let kept = names.iter().filter_map(|name| name.split_once('.').filter(|(_, ending)| *ending == self.boot));
        Ok(kept.filter_map(|(stem, _)| stem.parse().ok()).collect())
    }

    /// Throws away what the server has passed by: earlier segments, and those of timelines it has left; and what an earlier
    /// boot has left.
    pub(super) fn pass(&self, position: SegmentName) {
        for name in spool::names(&self.folder).unwrap_or_default() {
            let Some((stem, ending)) = name.split_once('.') else { continue };
            let Ok(kept) = stem.parse::<SegmentName>() else { continue };
            let passed = kept.timeline() < position.timeline() || kept.on(position.timeline()) < position;
            if passed || (ending != self.boot && ending != PART) {
                // One that stays is thrown away later.
                let _ = std::fs::remove_file(self.folder.join(&name));
            }
        }
    }

    /// Notes which segment the server asked for last.
    pub(super) fn ask(&self, segment: SegmentName) -> io::Result<()> {
        let (path, new) = (self.folder.join(POSITION), self.folder.join(format!("{POSITION}.new")));
        spool::write(&new, segment.to_string().as_bytes())?;
        std::fs::rename(new, path)
    }

    /// Which of several stores its segments come from.
    pub(super) fn preferred(&self) -> PreferredStore {
        PreferredStore::at(self.folder.join(FIRST))
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

    /// Tells whether the server is given what is kept by a rename: it lies on the disk of the server's WAL.
    pub(super) fn is_beside(&self, pgdata: &Path) -> bool {
        let disk = |path: &Path| std::fs::metadata(path).map(|facts| facts.dev()).ok();
        disk(&self.folder).is_some_and(|own| disk(&pgdata.join("pg_wal")) == Some(own))
    }

    /// Tells whether the disk has room for what may be kept.
    pub(super) fn has_room(&self, size: SegmentSize) -> bool {
        let disk = rustix::fs::statvfs(&self.folder);
        disk.is_ok_and(|disk| disk.f_bavail * disk.f_frsize > ROOM * self.limit as u64 * size.bytes())
    }
}

/// How many segments are kept at most, whatever is asked for. One is always allowed.
pub(super) fn most(size: SegmentSize) -> usize {
    usize::try_from(LIMIT_BYTES / size.bytes()).unwrap_or(usize::MAX).max(1)
}

/// What the name of a segment ends in that was kept since the machine started.
pub(super) fn boot() -> io::Result<String> {
    Ok(Digest::of(boot_id()?.as_bytes()).short())
}

/// What a segment is called that was kept in a boot.
pub(super) fn kept_name(segment: SegmentName, boot: &str) -> String {
    format!("{segment}.{boot}")
}

/// What a segment is called that is on its way.
pub(super) fn part_name(segment: SegmentName) -> String {
    format!("{segment}.{PART}")
}

/// Tells whether a file begins as a segment of the cluster does and is as long.
fn is_segment(path: &Path, segment: SegmentName, identity: &Identity) -> bool {
    let look = || -> io::Result<(Vec<u8>, u64)> {
        let file = File::open(path)?;
        let (mut first_page, size_bytes) = (Vec::new(), file.metadata()?.len());
        file.take(WAL_PAGE_BYTES as u64).read_to_end(&mut first_page)?;
        Ok((first_page, size_bytes))
    };
    let name = (WalFileName::Segment(segment), segment);
    look().is_ok_and(|(first_page, size)| verify_segment(name, (&first_page, size), identity).is_ok())
}

/// The spool lies on another disk.
fn copied(path: &Path, target: &Path) -> bool {
    let copy = || -> Result<(), WalError> {
        let at = |source| WalError::File { operation: "read", path: path.to_owned(), source };
        let (mut from, mut to) = (File::open(path).map_err(at)?, StagedFile::beside(target)?);
        io::copy(&mut from, &mut to).map_err(at)?;
        to.settle(target)
    };
    copy().is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

    use std::io::Write as _;

    use super::*;

    fn prefetch_cache(dir: &Path) -> PrefetchCache {
        PrefetchCache { folder: dir.to_owned(), boot: "b1".to_owned(), limit: 4 }
    }

    fn keep(prefetch_cache: &PrefetchCache, segment: SegmentName, bytes: &[u8]) {
        let mut staged_file = prefetch_cache.staged_file(segment).unwrap();
        staged_file.write_all(bytes).unwrap();
        prefetch_cache.keep(segment, staged_file).unwrap();
    }

    /// The first page of a segment of cluster 1, and zeros.
    fn segment(number: u64) -> Vec<u8> {
        let mut bytes = vec![0; 16 << 20];
        let fields: [(usize, &[u8]); 6] = [
            (0, &0xD110_u16.to_le_bytes()),
            (2, &2_u16.to_le_bytes()),
            (4, &1_u32.to_le_bytes()),
            (8, &(number << 24).to_le_bytes()),
            (24, &1_u64.to_le_bytes()),
            (32, &(16_u32 << 20).to_le_bytes()),
        ];
        fields.iter().for_each(|(at, field)| bytes[*at..at + field.len()].copy_from_slice(field));
        bytes[36..40].copy_from_slice(&8192_u32.to_le_bytes());
        bytes
    }

    fn name(number: u64) -> SegmentName {
        SegmentName::new(crate::pgformat::Timeline(1), number, SegmentSize::DEFAULT)
    }

    #[test]
    fn what_was_kept_in_this_boot_is_handed_over_and_nothing_that_is_older_torn_or_another() {
        let dir = tempfile::tempdir().unwrap();
        let prefetch_cache = prefetch_cache(dir.path());
        let identity = Identity { system_id: crate::pgformat::SystemId(1), segment_size: None };
        let target = dir.path().join("target");
        keep(&prefetch_cache, name(5), &segment(5));
        assert!(prefetch_cache.hand_over(name(5), &identity, &target));
        assert_eq!(std::fs::read(&target).unwrap(), segment(5));
        assert!(!prefetch_cache.hand_over(name(5), &identity, &target), "it is kept once");
        std::fs::remove_file(&target).unwrap();
        let earlier = PrefetchCache { boot: "b0".to_owned(), ..prefetch_cache.clone() };
        keep(&earlier, name(6), &segment(6));
        keep(&prefetch_cache, name(7), &segment(7)[..9000]);
        keep(&prefetch_cache, name(8), &segment(9));
        for number in [6, 7, 8] {
            assert!(!prefetch_cache.hand_over(name(number), &identity, &target), "{number}");
        }
        assert_eq!((prefetch_cache.segments().unwrap(), target.exists()), (vec![], false));
    }

    #[test]
    fn what_was_not_kept_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let prefetch_cache = prefetch_cache(dir.path());
        drop(prefetch_cache.staged_file(name(5)).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_passed_by_is_thrown_away_and_the_position_stays() {
        let dir = tempfile::tempdir().unwrap();
        let prefetch_cache = prefetch_cache(dir.path());
        assert_eq!(prefetch_cache.asked().unwrap(), None);
        for number in 3..6 {
            keep(&prefetch_cache, name(number), b"x");
        }
        prefetch_cache.ask(name(4)).unwrap();
        prefetch_cache.pass(name(4));
        let earlier = PrefetchCache { boot: "b0".to_owned(), ..prefetch_cache.clone() };
        keep(&earlier, name(6), b"x");
        let mut left = prefetch_cache.segments().unwrap();
        left.sort_unstable();
        prefetch_cache.pass(name(4));
        assert_eq!(earlier.segments().unwrap(), []);
        assert_eq!((left, prefetch_cache.asked().unwrap()), (vec![name(4), name(5)], Some(name(4))));
    }

    #[test]
    fn only_one_fetches_ahead_and_what_a_dead_one_began_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let prefetch_cache = prefetch_cache(dir.path());
        let lock = prefetch_cache.lock().unwrap().unwrap();
        assert!(prefetch_cache.lock().unwrap().is_none());
        prefetch_cache.begin(name(7)).unwrap();
        assert!(prefetch_cache.is_coming(name(7)) && !prefetch_cache.is_coming(name(8)));
        drop(lock);
        assert!(!prefetch_cache.is_coming(name(7)));
    }
}
