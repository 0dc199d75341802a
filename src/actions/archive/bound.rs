//! Bounds what an archive may say *about* an entry: the tar reader holds that in memory, and a hostile archive of a few
//! kilobytes can unpack to gigabytes of long names and PAX records.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most bytes of headers for one entry: long names, PAX records with attributes, maps of files with many holes.
const HEADER_BYTES: u64 = 16 << 20;

/// What may still be read before the next entry is known. Contents have no bound.
#[derive(Clone, Debug)]
pub(crate) struct Allowance(Arc<AtomicU64>);

/// A stream that ends in an error when more is read than is allowed.
pub(crate) struct Bounded<R> {
    inner: R,
    left: Allowance,
}

impl Allowance {
    /// The content of an entry is read: as much as there is.
    pub(crate) fn content(&self) {
        self.0.store(u64::MAX, Ordering::Relaxed);
    }

    /// The headers of the next entry are read. What is left of the content must have been read before.
    pub(crate) fn headers(&self) {
        self.0.store(HEADER_BYTES, Ordering::Relaxed);
    }

    /// Reads what is left of an entry, then allows the headers of the next one.
    pub(crate) fn next(&self, entry: &mut impl Read) -> io::Result<()> {
        io::copy(entry, &mut io::sink())?;
        self.headers();
        Ok(())
    }
}

impl<R: Read> Bounded<R> {
    /// Bounds a stream that begins with the headers of an entry.
    pub(crate) fn new(inner: R) -> (Self, Allowance) {
        let left = Allowance(Arc::new(AtomicU64::new(HEADER_BYTES)));
        (Self { inner, left: left.clone() }, left)
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.0.load(Ordering::Relaxed);
        if left == 0 && !buffer.is_empty() {
            let what = format!("the headers of one entry have more than {HEADER_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        if left != u64::MAX {
            self.left.0.store(left - count as u64, Ordering::Relaxed);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Cursor, Read};

    use tar::{Archive, Builder, EntryType, Header};

    use super::{Bounded, HEADER_BYTES};

    fn walk(archive: Vec<u8>) -> io::Result<usize> {
        let (bounded, allowance) = Bounded::new(Cursor::new(archive));
        let mut archive = Archive::new(bounded);
        let mut count = 0;
        for entry in archive.entries()? {
            let mut entry = entry?;
            allowance.content();
            allowance.next(&mut entry)?;
            count += 1;
        }
        Ok(count)
    }

    fn entry(builder: &mut Builder<Vec<u8>>, kind: EntryType, size_bytes: u64) {
        let mut header = Header::new_ustar();
        header.set_path("entry").expect("path");
        header.set_entry_type(kind);
        header.set_size(size_bytes);
        header.set_cksum();
        builder.append(&header, io::repeat(b'a').take(size_bytes)).expect("entry");
    }

    #[test]
    fn contents_have_no_bound_and_headers_have_one() {
        let mut builder = Builder::new(Vec::new());
        entry(&mut builder, EntryType::Regular, HEADER_BYTES + 1);
        entry(&mut builder, EntryType::Regular, HEADER_BYTES + 1);
        assert_eq!(walk(builder.into_inner().expect("archive")).expect("walk"), 2);
        for kind in [EntryType::XHeader, EntryType::GNULongName] {
            let mut builder = Builder::new(Vec::new());
            entry(&mut builder, kind, HEADER_BYTES + 1);
            entry(&mut builder, EntryType::Regular, 1);
            let error = walk(builder.into_inner().expect("archive")).expect_err("refused");
            assert!(error.to_string().contains("headers of one entry"), "{error}");
        }
    }
}
