//! The WAL that a recovery will replay, read before it is: from the archive, from what is to be rescued, and from what
//! came with the backup.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::rescue::Tail;
use crate::action::{ActionError, ReadFiles};
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::stores::archive::WalArchive;
use crate::pgformat::{Lsn, SegmentName, SegmentScan};
use crate::wal::{Loaded, Plainly, UnarchivedSegments};

/// WAL that replay will find although the archive does not have it yet.
#[derive(Clone, Copy)]
pub(crate) struct UnarchivedWal<'a> {
    /// Segments that came with the backup.
    pub(crate) embedded: &'a BTreeSet<SegmentName>,
    /// The folders that these may lie in.
    pub(crate) folders: &'a [PathBuf],
    /// What is to be rescued.
    pub(crate) tail: &'a Tail,
    /// Where all of it is read.
    pub(crate) files: &'a dyn ReadFiles,
}

/// The folders that the WAL of a staged backup may lie in: a swap moves a linked `pg_wal` before the link is turned.
pub(crate) fn folders(marker: &Marker, dir: &Path) -> Vec<PathBuf> {
    let linked = marker.links.iter().filter(|link| link.link == Path::new("pg_wal"));
    let moved = linked.flat_map(|link| [link.staged.clone(), link.live.clone()]);
    std::iter::once(dir.join("pg_wal")).chain(moved).collect()
}

/// A segment that is in memory and not unpacked yet.
pub(crate) enum Near<'a> {
    /// What the archive has.
    Archived(Box<Loaded<'a>>),
    /// What lies elsewhere, as it is.
    Lying(Vec<u8>),
}

/// All of it together.
#[derive(Clone, Copy)]
pub(crate) struct WalSource<'a> {
    /// The archive.
    pub(crate) wal_archive: &'a WalArchive<'a>,
    /// What the archive has of it. That comes first: it is what the server is given, and a copy that came with a backup
    /// may be cut short.
    pub(crate) archived: &'a BTreeSet<SegmentName>,
    /// The rest.
    pub(crate) aside: UnarchivedWal<'a>,
}

impl UnarchivedSegments for WalSource<'_> {
    fn has(&self, name: SegmentName) -> bool {
        let UnarchivedWal { embedded, tail, .. } = self.aside;
        !self.archived.contains(&name) && (embedded.contains(&name) || tail.path_of(name).is_some())
    }

    fn read(&self, name: SegmentName) -> Option<Vec<u8>> {
        self.lying(name).ok()
    }
}

impl WalSource<'_> {
    /// Reads a segment whole.
    ///
    /// # Errors
    /// Fails when it is nowhere, is damaged or cannot be decrypted.
    pub(crate) async fn segment(&self, name: SegmentName) -> Result<Vec<u8>, ActionError> {
        if self.archived.contains(&name) { self.wal_archive.segment(name).await } else { self.lying(name) }
    }

    /// Brings a segment near, to be read by [`WalSource::pour`]: the next one can be on its way while one is read.
    ///
    /// # Errors
    /// Fails when it is nowhere, and when what the archive has of it is damaged.
    pub(crate) async fn near(&self, name: SegmentName) -> Result<Near<'_>, ActionError> {
        Ok(match self.archived.contains(&name) {
            true => Near::Archived(Box::new(self.wal_archive.load(name).await?)),
            false => Near::Lying(self.lying(name)?),
        })
    }

    /// Gives a segment's bytes to what is made for them; it is given back when they are proven as far as they can be.
    ///
    /// # Errors
    /// Fails when it is damaged or cannot be decrypted.
    pub(crate) async fn pour<W: Plainly>(
        &self,
        (name, near): (SegmentName, Near<'_>),
        make: &(dyn Fn() -> W + Sync),
    ) -> Result<W, ActionError> {
        let bytes = match near {
            Near::Archived(loaded) => return self.wal_archive.unpack((name, *loaded), make).await,
            Near::Lying(bytes) => bytes,
        };
        let mut to = make();
        let pouring = tokio::task::spawn_blocking(move || to.write_all(&bytes).map(|()| to));
        let poured = pouring.await.map_err(|error| ActionError::fatal("reading a segment panicked").because(&error))?;
        poured.map_err(|error| ActionError::fatal(format!("segment `{name}` cannot be read")).because(&error))
    }

    /// Reads a segment that the archive does not have.
    fn lying(&self, name: SegmentName) -> Result<Vec<u8>, ActionError> {
        let embedded = self.aside.folders.iter().map(|folder| folder.join(name.to_string()));
        let mut failure = None;
        for path in self.aside.tail.path_of(name).into_iter().chain(embedded) {
            match self.aside.files.read(&path, self.wal_archive.size.bytes()) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let error = ActionError::fatal(format!("segment `{name}`, which the archive does not have, cannot be read"));
        Err(match failure {
            Some(failure) => error.because(&failure),
            None => error,
        })
    }

    /// Walks a segment by itself.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub(crate) async fn scan(&self, name: SegmentName) -> Result<SegmentScan, ActionError> {
        let (bytes, size) = (self.segment(name).await?, self.wal_archive.size);
        let scanned = tokio::task::spawn_blocking(move || SegmentScan::of(name, size, &bytes));
        scanned.await.map_err(|error| ActionError::fatal("walking a segment panicked").because(&error))
    }

    /// Finds where the last record on a path ends: a server that ends its replay before has not seen all of it.
    ///
    /// # Errors
    /// Fails when a segment cannot be read.
    pub(crate) async fn end(&self, path: &[SegmentName]) -> Result<Option<Lsn>, ActionError> {
        for name in path.iter().rev() {
            // A record as long as a segment leaves one in which none ends.
            let scan = self.scan(*name).await?;
            if scan.records > 0 {
                return Ok(Some(scan.end));
            }
        }
        Ok(None)
    }
}
