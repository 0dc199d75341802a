//! Walks a tar archive of a base backup while it flows: every file's size and CRC-32C are taken for the comparison
//! with the server's manifest, and the WAL at its end is told apart from the data.
//!
//! Bytes pass through as they are; only the names of WAL files lose their folder, since they go into an archive of
//! their own.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf as _, Bytes, BytesMut};
use tar::{EntryType, Header};

use crate::base::Digest;
use crate::base::digest::Hasher;
use crate::pgformat::{FileSum, SegmentName};

/// A block of a tar archive.
const BLOCK_BYTES: usize = 512;
/// The name is what a header begins with.
const NAME_BYTES: usize = 100;
/// Where the WAL lies in the archive of the data directory.
pub(crate) const WAL_FOLDER: &[u8] = b"pg_wal/";

/// What ends an archive.
pub(crate) const TRAILER: [u8; 2 * BLOCK_BYTES] = [0; 2 * BLOCK_BYTES];

/// Which archive some bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lot {
    /// The data.
    Data,
    /// The WAL beside it.
    Wal,
}

/// Why an archive makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WalkError {
    /// A header that is none.
    #[error("the archive has a header that makes no sense after `{0}`")]
    Header(String),
    /// The archive ends too early.
    #[error("the archive breaks off in `{0}`")]
    Short(String),
    /// Data after WAL.
    #[error("`{0}` follows after the WAL")]
    Order(String),
    /// A file twice.
    #[error("`{0}` is there twice")]
    Twice(String),
}

enum At {
    Header(BytesMut),
    Body { lot: Lot, left: u64, padding: u64, file: Option<(Vec<u8>, FileSum)> },
    End,
}

/// One archive on its way.
pub(crate) struct Walk {
    /// What the manifest's paths have in front of the archive's.
    prefix: Vec<u8>,
    at: At,
    last: String,
    lot: Lot,
    ready: VecDeque<(Lot, Bytes)>,
    /// The segment of WAL that is under way.
    segment: Option<(SegmentName, Hasher)>,
    segments: BTreeMap<SegmentName, Digest>,
}

impl Walk {
    /// Begins an archive: of the data directory, or of the tablespace with this number.
    pub(crate) fn new(tablespace: Option<u32>) -> Self {
        let prefix = tablespace.map_or_else(Vec::new, |oid| format!("pg_tblspc/{oid}/").into_bytes());
        let at = At::Header(BytesMut::with_capacity(BLOCK_BYTES));
        let (segment, segments) = (None, BTreeMap::new());
        Self { prefix, at, last: String::new(), lot: Lot::Data, ready: VecDeque::new(), segment, segments }
    }

    /// Takes the SHA-256 of each segment of WAL that went through whole.
    pub(crate) fn segments(&mut self) -> BTreeMap<SegmentName, Digest> {
        std::mem::take(&mut self.segments)
    }

    /// Takes some bytes; [`Self::next`] gives them back sorted.
    ///
    /// # Errors
    /// Fails when they are no archive.
    pub(crate) fn feed(&mut self, mut bytes: Bytes, sums: &mut BTreeMap<Vec<u8>, FileSum>) -> Result<(), WalkError> {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Header(block) => {
                    let count = bytes.len().min(BLOCK_BYTES - block.len());
                    block.extend_from_slice(&bytes.split_to(count));
                    if block.len() == BLOCK_BYTES {
                        let block = std::mem::take(block);
                        self.at = self.header(block)?;
                        self.close_if_whole(sums)?;
                    }
                }
                At::Body { lot, left, padding, file } => {
                    let here = usize::try_from(*left + *padding).unwrap_or(usize::MAX).min(bytes.len());
                    let part = bytes.split_to(here);
                    let content = usize::try_from(*left).unwrap_or(usize::MAX).min(here);
                    if let Some((_, sum)) = file {
                        sum.update(&part[..content]);
                    }
                    if let Some((_, hasher)) = &mut self.segment {
                        hasher.update(&part[..content]);
                    }
                    *left -= content as u64;
                    *padding -= (here - content) as u64;
                    self.ready.push_back((*lot, part));
                    self.close_if_whole(sums)?;
                }
                At::End => bytes.advance(bytes.len()),
            }
        }
        Ok(())
    }

    /// The next bytes, and where they belong.
    pub(crate) fn next(&mut self) -> Option<(Lot, Bytes)> {
        self.ready.pop_front()
    }

    /// Puts bytes back that are not wanted yet.
    pub(crate) fn unread(&mut self, lot: Lot, bytes: Bytes) {
        self.ready.push_front((lot, bytes));
    }

    /// Whether bytes wait that belong there.
    pub(crate) fn holds(&self, lot: Lot) -> bool {
        self.ready.front().is_some_and(|(waiting, _)| *waiting == lot)
    }

    /// Judges the end: an archive ends between two files.
    ///
    /// # Errors
    /// Fails when it breaks off in the middle of one.
    pub(crate) fn finish(&self) -> Result<(), WalkError> {
        match &self.at {
            At::End => Ok(()),
            At::Header(block) if block.is_empty() => Ok(()),
            At::Header(_) | At::Body { .. } => Err(WalkError::Short(self.last.clone())),
        }
    }

    /// A file that is whole is noted; its end may come with its header.
    fn close_if_whole(&mut self, sums: &mut BTreeMap<Vec<u8>, FileSum>) -> Result<(), WalkError> {
        if let At::Body { left: 0, padding: 0, file, .. } = &mut self.at {
            if let Some((path, sum)) = file.take()
                && sums.insert(path, sum).is_some()
            {
                return Err(WalkError::Twice(self.last.clone()));
            }
            if let Some((name, hasher)) = self.segment.take() {
                self.segments.insert(name, hasher.finish());
            }
            self.at = At::Header(BytesMut::with_capacity(BLOCK_BYTES));
        }
        Ok(())
    }

    fn header(&mut self, block: BytesMut) -> Result<At, WalkError> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(At::End);
        }
        let nonsense = || WalkError::Header(self.last.clone());
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        let size_bytes = header.entry_size().map_err(|_| nonsense())?;
        if header.cksum().ok() != Some(checksum(&block)) {
            return Err(nonsense());
        }
        let is_file = matches!(header.entry_type(), EntryType::Regular);
        let path = header.path_bytes().into_owned();
        let path = path.strip_prefix(b"./").unwrap_or(&path).to_vec();
        self.last = String::from_utf8_lossy(&path).into_owned();
        let left = if is_file { size_bytes } else { 0 };
        let padding = left.next_multiple_of(BLOCK_BYTES as u64) - left;
        let wal = path.strip_prefix(WAL_FOLDER).filter(|name| is_file && self.prefix.is_empty() && !name.is_empty());
        if let Some(name) = wal {
            self.lot = Lot::Wal;
            let segment: Option<SegmentName> = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
            self.segment = segment.map(|segment| (segment, Hasher::default()));
            let field = &mut header.as_mut_bytes()[..NAME_BYTES];
            field.fill(0);
            field[..name.len()].copy_from_slice(name);
            header.set_cksum();
            self.ready.push_back((Lot::Wal, Bytes::copy_from_slice(header.as_bytes())));
            return Ok(At::Body { lot: Lot::Wal, left, padding, file: Some((path, FileSum::default())) });
        }
        if self.lot == Lot::Wal {
            return Err(WalkError::Order(self.last.clone()));
        }
        self.ready.push_back((Lot::Data, block.freeze()));
        let listed = [self.prefix.as_slice(), &path].concat();
        let file = is_file.then(|| (listed, FileSum::default()));
        Ok(At::Body { lot: Lot::Data, left, padding, file })
    }
}

/// The checksum of a header: the sum of its bytes, its own field taken for blanks.
fn checksum(block: &[u8]) -> u32 {
    let own = 148..156;
    let byte = |(at, byte): (usize, &u8)| if own.contains(&at) { u32::from(b' ') } else { u32::from(*byte) };
    block.iter().enumerate().map(byte).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use std::io::Read as _;

    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            if name.ends_with('/') {
                header.set_entry_type(EntryType::Directory);
            }
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    type Sums = BTreeMap<Vec<u8>, FileSum>;

    fn walked(bytes: &[u8], chunk: usize) -> (Vec<u8>, Vec<u8>, Sums, BTreeMap<SegmentName, Digest>) {
        let (mut walk, mut sums) = (Walk::new(None), BTreeMap::new());
        let (mut data, mut wal) = (Vec::new(), Vec::new());
        for part in bytes.chunks(chunk) {
            walk.feed(Bytes::copy_from_slice(part), &mut sums).unwrap();
            while let Some((lot, bytes)) = walk.next() {
                if lot == Lot::Data { data.extend_from_slice(&bytes) } else { wal.extend_from_slice(&bytes) }
            }
        }
        walk.finish().unwrap();
        (data, wal, sums, walk.segments())
    }

    #[test]
    fn data_and_wal_are_told_apart_however_the_bytes_are_cut() {
        let entries: [(&str, &[u8]); 6] = [
            ("backup_label", b"label"),
            ("base/", b""),
            ("base/1/empty", b""),
            ("base/1/1259", &[7; 1500]),
            ("pg_wal/000000010000000000000002", &[9; 700]),
            ("pg_wal/archive_status/000000010000000000000002.done", b""),
        ];
        let bytes = archive(&entries);
        for chunk in [1, 511, 512, 513, 4096, bytes.len()] {
            let (data, wal, sums, segments) = walked(&bytes, chunk);
            assert_eq!(sums.len(), 5, "chunks of {chunk}");
            let segment: SegmentName = "000000010000000000000002".parse().unwrap();
            assert_eq!(segments, BTreeMap::from([(segment, Digest::of(&[9; 700]))]), "chunks of {chunk}");
            assert_eq!(sums[b"base/1/1259".as_slice()].size_bytes(), 1500);
            assert_eq!([data, TRAILER.to_vec()].concat(), archive(&entries[..4]), "chunks of {chunk}");
            let wal = [wal, TRAILER.to_vec()].concat();
            let mut archive = tar::Archive::new(wal.as_slice());
            let names: Vec<(String, usize)> = archive
                .entries()
                .unwrap()
                .map(|entry| {
                    let (mut entry, mut content) = (entry.unwrap(), Vec::new());
                    entry.read_to_end(&mut content).unwrap();
                    (entry.path().unwrap().to_string_lossy().into_owned(), content.len())
                })
                .collect();
            let expected = [("000000010000000000000002", 700), ("archive_status/000000010000000000000002.done", 0)];
            assert_eq!(names, expected.map(|(name, size)| (name.to_owned(), size)));
        }
    }

    #[test]
    fn an_archive_that_breaks_off_or_is_none_is_refused() {
        let bytes = archive(&[("base/1/1259", &[7; 1500])]);
        let (mut walk, mut sums) = (Walk::new(Some(16385)), BTreeMap::new());
        walk.feed(Bytes::copy_from_slice(&bytes[..1000]), &mut sums).unwrap();
        assert_eq!(walk.finish(), Err(WalkError::Short("base/1/1259".to_owned())));
        let mut flipped = bytes;
        flipped[3] ^= 1;
        let (mut walk, mut sums) = (Walk::new(None), BTreeMap::new());
        assert!(walk.feed(Bytes::from(flipped), &mut sums).is_err());
    }
}
