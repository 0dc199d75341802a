//! Stores one WAL file in the archive.

use std::fs::File;
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};

use super::acks::Fingerprint;
use super::packed::{LIMIT_BYTES, Parcel, Stored};
use super::standing::Standing;
use super::unfinished::{Successor, Unfinished, successor};
use super::{Identity, WalError};
use crate::action::{ObjectKey, PutOptions, Seen, Store, StoreError};
use crate::catalog::{CatalogError, claim_prefix, wal_objects};
use crate::pgformat::{BackupLabel, SegmentHeader, SegmentName, TimelineHistory, WAL_PAGE_BYTES, WalFileName};
use crate::transfer::Packing;

/// What a push did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The file was stored.
    Stored,
    /// The same content was there; it was made durable again.
    WasThere,
}

/// Where the WAL of one cluster is stored.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// The prefix inside it.
    pub prefix: &'a str,
    /// The cluster.
    pub identity: Identity,
    /// How segments are packed.
    pub packing: &'a Packing,
}

/// A file of the WAL, proven to be what its name says. It is read when it is stored, and must be the same until then.
#[derive(Debug, Clone)]
pub(super) struct WalFile {
    pub(super) name: WalFileName,
    path: PathBuf,
    print: Fingerprint,
    size_bytes: u64,
    /// Where its records end before its end does; looked at only where no server vouches for it.
    pub(super) unfinished: Option<Unfinished>,
}

impl WalFile {
    /// Looks at it: of a segment the first page tells what it is. Blocking.
    pub(super) fn look(path: &Path, name: WalFileName, identity: &Identity) -> Result<Self, WalError> {
        let at = |source| WalError::File { operation: "read", path: path.to_owned(), source };
        let print = Fingerprint::of(path).map_err(at)?;
        let file = File::open(path).map_err(at)?;
        let size_bytes = file.metadata().map_err(at)?.len();
        if size_bytes > LIMIT_BYTES {
            return Err(WalError::Mismatch {
                name,
                what: format!("{size_bytes} bytes are more than any WAL file has"),
            });
        }
        let mut bytes = Vec::new();
        match name {
            WalFileName::Segment(segment) | WalFileName::PartialSegment(segment) => {
                file.take(WAL_PAGE_BYTES as u64).read_to_end(&mut bytes).map_err(at)?;
                verify_segment((name, segment), (&bytes, size_bytes), identity)?;
            }
            WalFileName::History(_) | WalFileName::BackupHistory { .. } => {
                file.take(LIMIT_BYTES).read_to_end(&mut bytes).map_err(at)?;
                verify(name, &bytes, identity)?;
            }
        }
        Ok(Self { name, path: path.to_owned(), print, size_bytes, unfinished: None })
    }

    /// Looks also at how far its records go: a server archives only what it has finished, a recovery also what it had not.
    /// Blocking.
    pub(super) fn look_through(path: &Path, name: WalFileName, identity: &Identity) -> Result<Self, WalError> {
        let mut file = Self::look(path, name, identity)?;
        file.unfinished = Unfinished::of(&file, identity)?;
        Ok(file)
    }

    /// It cannot be read.
    pub(super) fn unread(&self, source: std::io::Error) -> WalError {
        WalError::File { operation: "read", path: self.path.clone(), source }
    }

    /// Opens it to be read from its start.
    pub(super) fn open(&self) -> Result<File, WalError> {
        File::open(&self.path).map_err(|source| self.unread(source))
    }

    /// Proves that so many bytes that were read are the file that was looked at: the server did not take it for another
    /// segment meanwhile.
    pub(super) fn proves(&self, read_bytes: u64) -> Result<(), WalError> {
        let at = |source| WalError::File { operation: "look at", path: self.path.clone(), source };
        if read_bytes == self.size_bytes && Fingerprint::of(&self.path).map_err(at)? == self.print {
            return Ok(());
        }
        Err(WalError::Mismatch { name: self.name, what: "it was written to while it was read".to_owned() })
    }
}

/// Checks that the file is what its name says and stores it durably. Never overwrites other content; what
/// is the same is decided by the plain bytes, however they are packed. Only a copy that says that it was unfinished gives way,
/// to the segment that goes on from it.
///
/// # Errors
/// Fails when the file belongs to another cluster, timeline or position, when the archive has other
/// content under its name, and when the store fails. Nothing was put under a prefix of another cluster then.
pub async fn push_file(to: Destination<'_>, path: &Path, name: WalFileName) -> Result<Pushed, WalError> {
    let file = WalFile::look(path, name, &to.identity)?;
    let claimed = async { Ok(claim_prefix(to.store, to.prefix, to.identity.system_id).await?) };
    store_file(to, &file, claimed).await
}

/// Stores a file under a prefix once it is `claimed` for the cluster: nothing is put under another cluster's. Meanwhile the file
/// is packed, and it is looked whether it is there.
pub(super) async fn store_file(
    to: Destination<'_>,
    file: &WalFile,
    claimed: impl Future<Output = Result<(), WalError>>,
) -> Result<Pushed, WalError> {
    let (prefix, identity, name) = (to.prefix, &to.identity, file.name);
    let there = async { Ok(wal_objects(to.store.as_read(), prefix, identity.system_id, name).await?) };
    let packed = Parcel::of(file, (prefix, identity), to.packing);
    let (there, parcel, ()) = tokio::try_join!(there, packed, claimed)?;
    if !there.is_empty() {
        return confirm(to, &there, file, parcel).await;
    }
    let size_bytes = Some(parcel.stored.len() as u64);
    let (seen, metadata) = (Seen::Absent, parcel.metadata.clone());
    let options = PutOptions { if_absent: true, seen, metadata, size_bytes, ..PutOptions::default() };
    match to.store.put(&parcel.key, Box::new(Cursor::new(parcel.stored.clone())), options).await {
        Ok(outcome) if outcome.sha256 != parcel.sha256 => {
            Err(WalError::Damaged { name, what: "the store wrote other bytes than it was given".to_owned() })
        }
        Ok(outcome) if outcome.existed => Ok(Pushed::WasThere),
        Ok(_) => Ok(Pushed::Stored),
        // Somebody was faster, or an answer to an earlier request of ours was lost on its way.
        Err(StoreError::Exists { .. }) => {
            let key = parcel.key.clone();
            confirm(to, std::slice::from_ref(&key), file, parcel).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes sure that an object that is there holds the same plain bytes, and that it is durable. The others, packed otherwise,
/// may be nothing but unfinished copies of it: they go.
async fn confirm(to: Destination<'_>, there: &[ObjectKey], file: &WalFile, parcel: Parcel) -> Result<Pushed, WalError> {
    let (mut same, mut unfinished) = (None, Vec::new());
    for key in there {
        let stored = match Stored::read(to.store.as_read(), key).await {
            Ok(stored) => stored,
            Err(CatalogError::Damaged { what, .. }) => return Err(WalError::Damaged { name: file.name, what }),
            Err(error) => return Err(error.into()),
        };
        match (Standing::of(&stored.facts, parcel.plain_sha256), Unfinished::told(&stored.facts)) {
            (Standing::Same, _) => same = Some(stored),
            (Standing::Begun, Some(copy)) if copy.goes_on_in(file)? => unfinished.push(key),
            (Standing::Begun | Standing::Other | Standing::Untold, _) => return Err(WalError::Differs(file.name)),
        }
    }
    let own = parcel.key.clone();
    let pushed = match same {
        Some(same) => settle(to, same, file.name).await?,
        None => finish(to, (file, parcel), unfinished.contains(&&own)).await?,
    };
    for key in unfinished.into_iter().filter(|key| pushed == Pushed::WasThere || **key != own) {
        // Where nothing may be removed it stays: readers pass over it.
        let _ = to.store.delete(key).await;
    }
    Ok(pushed)
}

/// Puts the bytes of an object again, so that it is durable: encrypting the segment again would give others.
async fn settle(to: Destination<'_>, stored: Stored, name: WalFileName) -> Result<Pushed, WalError> {
    let Stored { bytes, facts } = stored;
    let size_bytes = Some(bytes.len() as u64);
    let options = PutOptions { if_absent: true, metadata: facts.metadata, size_bytes, ..PutOptions::default() };
    match to.store.put(&facts.key, Box::new(Cursor::new(bytes)), options).await {
        Ok(_) => Ok(Pushed::WasThere),
        Err(StoreError::Exists { .. }) => Err(WalError::Differs(name)),
        Err(error) => Err(error.into()),
    }
}

/// Puts a segment in the place of the unfinished copies of it, or beside those packed otherwise: nothing that a copy proves
/// is given up.
async fn finish(to: Destination<'_>, (file, parcel): (&WalFile, Parcel), is_there: bool) -> Result<Pushed, WalError> {
    if let WalFileName::Segment(segment) = file.name {
        match successor((to.store.as_read(), to.prefix), &to.identity, segment).await? {
            Successor::Nobody => {}
            Successor::Timeline(timeline) => return Err(WalError::Superseded { name: file.name, timeline }),
            Successor::Untold => return Err(WalError::Differs(file.name)),
        }
    }
    let size_bytes = Some(parcel.stored.len() as u64);
    let options = PutOptions { if_absent: !is_there, metadata: parcel.metadata, size_bytes, ..PutOptions::default() };
    let put = to.store.put(&parcel.key, Box::new(Cursor::new(parcel.stored)), options).await?;
    match put.sha256 == parcel.sha256 {
        true => Ok(Pushed::Stored),
        false => {
            Err(WalError::Damaged { name: file.name, what: "the store wrote other bytes than it was given".to_owned() })
        }
    }
}

/// Checks that bytes are the file `name` of the cluster.
pub(super) fn verify(name: WalFileName, bytes: &[u8], identity: &Identity) -> Result<(), WalError> {
    let mismatch = |what: String| WalError::Mismatch { name, what };
    match name {
        WalFileName::Segment(segment) | WalFileName::PartialSegment(segment) => {
            verify_segment((name, segment), (bytes, bytes.len() as u64), identity)
        }
        WalFileName::History(timeline) => {
            let text = std::str::from_utf8(bytes).map_err(|_| mismatch("it is no text".to_owned()))?;
            TimelineHistory::parse(timeline, text).map(drop).map_err(|error| mismatch(error.to_string()))
        }
        WalFileName::BackupHistory { segment, .. } => {
            let label =
                BackupLabel::parse(&String::from_utf8_lossy(bytes)).map_err(|error| mismatch(error.to_string()))?;
            if label.start_segment == segment {
                return Ok(());
            }
            Err(mismatch(format!("it says segment `{}`", label.start_segment)))
        }
    }
}

/// Checks by its first page and its length that a file is a segment of the cluster.
pub(super) fn verify_segment(
    (name, segment): (WalFileName, SegmentName),
    (first_page, size_bytes): (&[u8], u64),
    identity: &Identity,
) -> Result<(), WalError> {
    let mismatch = |what: String| WalError::Mismatch { name, what };
    let header = SegmentHeader::parse(first_page).map_err(|error| mismatch(error.to_string()))?;
    if header.system_id != identity.system_id {
        return Err(WalError::OtherCluster {
            what: format!("`{name}`"),
            found: header.system_id,
            expected: identity.system_id,
        });
    }
    if let Some(size) = identity.segment_size.filter(|size| *size != header.segment_size) {
        let (theirs, ours) = (header.segment_size.bytes(), size.bytes());
        return Err(mismatch(format!("its segments have {theirs} bytes, the cluster's {ours}")));
    }
    header.check(segment, size_bytes).map_err(|error| mismatch(error.to_string()))
}
