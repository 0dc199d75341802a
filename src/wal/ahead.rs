//! The places of segments that a server is to find when it asks for them, by their names alone: for whoever brings them there
//! with its own hands before the server starts. What is fetched there later is a `prefetch_cache`'s.

use std::io;
use std::path::{Path, PathBuf};

use super::prefetch_cache::{ROOM, boot, kept_name, most, part_name};
use super::push::verify_segment;
use super::spool::Spool;
use super::{Config, Identity, WalError};
use crate::pgformat::{SegmentName, SegmentSize, WalFileName};

/// The places of one restore. Nothing is touched by it.
#[derive(Debug, Clone)]
pub struct Ahead {
    /// Its folders, the outermost first. Each belongs to the server's user alone.
    pub folders: [PathBuf; 3],
    /// How many segments may be kept.
    pub limit: usize,
    boot: String,
    identity: Identity,
    size: SegmentSize,
}

impl Ahead {
    /// Names the places as `wal fetch` with the same configuration will; `None` where it looks for none.
    ///
    /// # Errors
    /// Fails where the system does not name its boot.
    pub fn of(config: &Config, identity: Identity) -> io::Result<Option<Self>> {
        let Some(restore) = config.restore.as_deref().filter(|_| config.ahead() > 0) else { return Ok(None) };
        let (Some(size), Some((root, spool))) = (identity.segment_size, Spool::of(config, identity.system_id)) else {
            return Ok(None);
        };
        let folders = [root.to_owned(), spool.folder().to_owned(), spool.ahead_of(restore)];
        Ok(Some(Self { folders, limit: most(size), boot: boot()?, identity, size }))
    }

    /// The bytes that the disk is to have free before anything is kept.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        ROOM.saturating_mul(self.limit as u64).saturating_mul(self.size.bytes())
    }

    /// Where a segment is written to before it is proven.
    #[must_use]
    pub fn part(&self, segment: SegmentName) -> PathBuf {
        self.folder().join(part_name(segment))
    }

    /// Where the server's fetch looks for a segment that is proven.
    #[must_use]
    pub fn kept(&self, segment: SegmentName) -> PathBuf {
        self.folder().join(kept_name(segment, &self.boot))
    }

    /// Checks by its first page and its length that a file is a segment of the cluster.
    ///
    /// # Errors
    /// Says what it is instead.
    pub fn verify(&self, segment: SegmentName, first_page: &[u8], size_bytes: u64) -> Result<(), WalError> {
        verify_segment((WalFileName::Segment(segment), segment), (first_page, size_bytes), &self.identity)
    }

    fn folder(&self) -> &Path {
        let [.., folder] = &self.folders;
        folder
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::prefetch_cache::PrefetchCache;
    use super::*;
    use crate::language::inventory::StoreEntry;
    use crate::pgformat::{SystemId, Timeline};

    #[test]
    fn the_places_are_those_where_a_fetch_looks() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Some(dir.path().join("spool"));
        let config = Config { spool, restore: Some("r".to_owned()), ..Config::new(StoreEntry::default(), "app") };
        let identity = Identity { system_id: SystemId(7), segment_size: Some(SegmentSize::DEFAULT) };
        let ahead = Ahead::of(&config, identity).unwrap().unwrap();
        assert!(!dir.path().join("spool").exists(), "nothing is touched");
        let prefetch_cache = PrefetchCache::open(&config, &dir.path().join("data"), &identity).unwrap().unwrap();
        let segment = SegmentName::new(Timeline(1), 5, SegmentSize::DEFAULT);
        assert!(ahead.folders.iter().all(|folder| folder.is_dir()));
        assert_eq!(prefetch_cache.segments().unwrap(), []);
        std::fs::File::create(ahead.kept(segment)).unwrap();
        std::fs::File::create(ahead.part(segment.next(SegmentSize::DEFAULT))).unwrap();
        assert_eq!(prefetch_cache.segments().unwrap(), [segment]);
        let other = Config { restore: None, ..config };
        assert!(Ahead::of(&other, identity).unwrap().is_none(), "a server that belongs to no restore of ours");
    }
}
