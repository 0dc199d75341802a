//! Tells how an archive is compressed by its first bytes, never by its name.

use std::io::{self, BufRead as _, Chain, Cursor, Read};

/// A reader whose first bytes were looked at.
type Peeked<R> = Chain<Cursor<Vec<u8>>, R>;

/// The plain bytes of an archive.
pub(super) enum Plain<R: Read> {
    Tar(Peeked<R>),
    Zstd(Box<zstd::stream::read::Decoder<'static, io::BufReader<Peeked<R>>>>),
    Gzip(Box<flate2::read::MultiGzDecoder<Peeked<R>>>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<io::BufReader<Peeked<R>>>>),
}

const ENCRYPTED: [&[u8]; 4] = [b"age-encryption.org/", b"-----BEGIN AGE", b"Salted__", b"-----BEGIN PGP"];

impl<R: Read> Plain<R> {
    /// Looks at the first bytes.
    pub(super) fn of(mut reader: R) -> io::Result<Self> {
        let mut first = Vec::new();
        reader.by_ref().take(20).read_to_end(&mut first)?;
        if ENCRYPTED.iter().any(|mark| first.starts_with(mark)) {
            let what = "it is encrypted: decrypt it first, with `crypt.decrypt`";
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        let (zstd, gzip, lz4) = (
            first.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]),
            first.starts_with(&[0x1f, 0x8b]),
            first.starts_with(&[0x04, 0x22, 0x4d, 0x18]),
        );
        let peeked = Cursor::new(first).chain(reader);
        Ok(match (zstd, gzip, lz4) {
            (true, _, _) => Self::Zstd(Box::new(zstd::stream::read::Decoder::new(peeked)?)),
            (_, true, _) => Self::Gzip(Box::new(flate2::read::MultiGzDecoder::new(peeked))),
            (_, _, true) => Self::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(io::BufReader::new(peeked)))),
            (false, false, false) => Self::Tar(peeked),
        })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Tar(_) => "none",
            Self::Zstd(_) => "zstd",
            Self::Gzip(_) => "gzip",
            Self::Lz4(_) => "lz4",
        }
    }
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tar(reader) => reader.read(buffer),
            Self::Zstd(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
            Self::Lz4(reader) => loop {
                let count = reader.read(buffer)?;
                // Nothing read is the end of a frame; another may follow.
                if count > 0 || buffer.is_empty() || reader.get_mut().fill_buf()?.is_empty() {
                    return Ok(count);
                }
            },
        }
    }
}

/// Counts how many zero bytes an archive ends in: without two blocks of them it is cut off.
pub(crate) struct Ending<R> {
    inner: R,
    zeros: u64,
    total: u64,
}

/// The end mark of a tar archive: two blocks of zeros.
const END_BYTES: u64 = 1024;

impl<R: Read> Ending<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, zeros: 0, total: 0 }
    }

    /// Reads what follows the last entry and judges the end. Gives the bytes of the whole.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        io::copy(&mut self, &mut io::sink())?;
        if self.zeros >= END_BYTES {
            return Ok(self.total);
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it breaks off: the mark of its end is missing"))
    }
}

impl<R: Read> Read for Ending<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let read = &buffer[..count];
        match read.iter().rposition(|byte| *byte != 0) {
            Some(last) => self.zeros = (count - last - 1) as u64,
            None => self.zeros += count as u64,
        }
        self.total += count as u64;
        Ok(count)
    }
}
