//! The tar of a bundle, in the one form it is written in: whatever differs from that form is refused.
//!
//! Plain files only, each header rebuilt from name, size and time and compared byte by byte. So a link, a folder,
//! an absolute path or a `..` cannot occur, and no bit of a header can change unseen.

use std::io::{self, Read, Write};

use tar::Header;

const BLOCK: usize = 512;

/// Names longer than this do not fit a plain header.
pub(super) const LONGEST_NAME: usize = 255;

/// Writes members.
pub(super) struct Writer<W> {
    out: W,
    seconds: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W, seconds: u64) -> Self {
        Self { out, seconds }
    }

    pub(super) fn member(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(header(path, bytes.len() as u64, self.seconds)?.as_bytes())?;
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; BLOCK][..padding(bytes.len() as u64)])
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }
}

/// Tells whether a name fits a header.
pub(super) fn fits(path: &str) -> bool {
    path.len() <= LONGEST_NAME && header(path, 0, 0).is_ok()
}

/// What comes next.
pub(super) enum Next {
    /// A member: its name and its size.
    Member(String, u64),
    /// The end, with nothing after it.
    End,
}

/// Reads what [`Writer`] writes.
pub(super) struct Reader<R> {
    input: R,
    /// The time that all headers name, once the first one was read.
    seconds: Option<u64>,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, seconds: None }
    }

    /// Reads the next header.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block)?;
        if block == [0; BLOCK] {
            self.input.read_exact(&mut block)?;
            let rest = self.input.read(&mut [0])?;
            return if block == [0; BLOCK] && rest == 0 { Ok(Next::End) } else { Err(foreign("bytes after the end")) };
        }
        let found = Header::from_byte_slice(&block);
        let path = String::from_utf8(found.path_bytes().into_owned()).map_err(|_| foreign("a name that is no text"))?;
        let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control);
        if !path.split('/').all(plain) {
            return Err(foreign(&format!("the name `{}`", path.escape_debug())));
        }
        let (size, seconds) = (found.entry_size()?, found.mtime()?);
        let same_time = *self.seconds.get_or_insert(seconds) == seconds;
        if !same_time || header(&path, size, seconds)?.as_bytes() != &block {
            return Err(foreign(&format!("the header of `{path}`")));
        }
        Ok(Next::Member(path, size))
    }

    /// Reads a member's content into `out`. The size is the one its header names.
    pub(super) fn content(&mut self, size: u64, out: &mut dyn Write) -> io::Result<()> {
        if io::copy(&mut (&mut self.input).take(size), out)? != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = vec![0; padding(size)];
        self.input.read_exact(&mut rest)?;
        if rest.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(foreign("bytes between members")) }
    }

    /// The time that every header names.
    pub(super) fn seconds(&self) -> u64 {
        self.seconds.unwrap_or_default()
    }
}

fn header(path: &str, size: u64, seconds: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(path)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(seconds);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

fn foreign(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}: not as `runbook evidence` writes it"))
}
