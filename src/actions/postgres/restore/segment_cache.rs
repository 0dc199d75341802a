//! Segments that were proven before a server starts, laid where it will ask for them: what a search of the WAL has unpacked and
//! digested is neither unpacked nor digested again.
//!
//! What is kept here was proven as `wal fetch` proves it: its digests, its first page, its records to the end. Nothing depends
//! on it: what is missing the server fetches. As many segments are kept as its spool may hold.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::task::JoinHandle;

use crate::action::{Files, HostError};
use crate::actions::postgres::cluster::owner::Owner;
use crate::pgformat::{SegmentName, WAL_PAGE_BYTES};
use crate::wal::Ahead;

/// The place of one recovery's segments.
pub(crate) struct SegmentCache<'a> {
    ahead: Ahead,
    files: &'a dyn Files,
    owner: &'a Owner,
    /// A segment that is not kept: a trial fetches it from the archive.
    but: Option<SegmentName>,
    kept: AtomicUsize,
    to_disk: SyncSender<File>,
    disk: JoinHandle<()>,
}

/// One segment on its way there.
pub(crate) struct CacheEntry {
    file: File,
    first_page: Vec<u8>,
    size_bytes: u64,
}

impl<'a> SegmentCache<'a> {
    /// Makes its folders, which belong to the server's user alone, inside the outermost one; `None` where the disk has too
    /// little room.
    ///
    /// # Errors
    /// Fails when a folder cannot be made.
    pub(crate) fn open(
        (ahead, but): (Ahead, Option<SegmentName>),
        files: &'a dyn Files,
        owner: &'a Owner,
    ) -> Result<Option<Self>, HostError> {
        let [root, inner @ ..] = &ahead.folders;
        if files.space(root)?.free_bytes < ahead.room_bytes() {
            return Ok(None);
        }
        for folder in inner {
            files.create_dir(folder, 0o700)?;
            files.chown(folder, owner.uid, owner.gid)?;
        }
        let (to_disk, waiting) = sync_channel(ahead.limit);
        let disk = tokio::task::spawn_blocking(move || sync(&waiting));
        Ok(Some(Self { ahead, files, owner, but, kept: AtomicUsize::new(0), to_disk, disk }))
    }

    /// Begins to keep a segment; `None` when it is full or cannot.
    pub(crate) fn begin(&self, name: SegmentName) -> Option<CacheEntry> {
        if self.but == Some(name) || self.kept.load(Ordering::Relaxed) >= self.ahead.limit {
            return None;
        }
        let part = self.ahead.part(name);
        self.clear(&part);
        let file = self.files.create(&part, 0o600).ok()?;
        Some(CacheEntry { file, first_page: Vec::new(), size_bytes: 0 })
    }

    /// Gives a segment that was read to its end and proven its name. Of one that was not nothing stays: who finds a part
    /// takes it for one that is coming.
    pub(crate) fn settle(&self, name: SegmentName, cache_entry: Option<CacheEntry>) {
        match cache_entry.and_then(|cache_entry| self.keep(name, cache_entry)) {
            Some(file) => {
                self.kept.fetch_add(1, Ordering::Relaxed);
                // The server syncs what it is given, so that it waits the less the more of it is done by then.
                let _ = self.to_disk.try_send(file);
            }
            None => self.clear(&self.ahead.part(name)),
        }
    }

    fn keep(&self, name: SegmentName, cache_entry: CacheEntry) -> Option<File> {
        let part = self.ahead.part(name);
        self.ahead.verify(name, &cache_entry.first_page, cache_entry.size_bytes).ok()?;
        self.files.chown(&part, self.owner.uid, self.owner.gid).ok()?;
        self.files.rename(&part, &self.ahead.kept(name)).ok()?;
        Some(cache_entry.file)
    }

    /// Gives a segment up that was kept, for a trial that is to ask the archive.
    pub(crate) fn forget(&self, name: SegmentName) {
        self.clear(&self.ahead.kept(name));
    }

    /// Ends when the disk has what was kept.
    pub(crate) async fn close(self) {
        drop(self.to_disk);
        // Nothing was promised of it.
        let _ = self.disk.await;
    }

    fn clear(&self, part: &Path) {
        // Most often there is none.
        let _ = self.files.remove_file(part);
    }
}

impl Write for CacheEntry {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        let missing = WAL_PAGE_BYTES.saturating_sub(self.first_page.len()).min(count);
        self.first_page.extend_from_slice(&bytes[..missing]);
        self.size_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn sync(waiting: &Receiver<File>) {
    for file in waiting {
        // A server that is given it finds out itself.
        let _ = file.sync_data();
    }
}
