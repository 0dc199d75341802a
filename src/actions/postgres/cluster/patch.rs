//! Writes a file's new content over what is there: bytes that are the same already are left as they are.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

/// A file that takes new content from its beginning.
pub(crate) struct Patch {
    file: File,
    /// How much of the old content there is.
    old_bytes: u64,
    /// How much of the new content came.
    at: u64,
    buffer: Vec<u8>,
    /// The bytes that were there already.
    pub(crate) same_bytes: u64,
}

impl Patch {
    /// Takes a file that is open for reading and writing; `None` for one that has another name elsewhere, which
    /// would change with it.
    ///
    /// # Errors
    /// Fails when the file cannot be looked at.
    pub(crate) fn over(file: File) -> io::Result<Option<Self>> {
        let facts = file.metadata()?;
        let patch = Self { old_bytes: facts.len(), ..Self::new(file) };
        Ok((facts.nlink() == 1).then_some(patch))
    }

    /// Takes a new file.
    pub(crate) fn new(file: File) -> Self {
        Self { file, old_bytes: 0, at: 0, buffer: Vec::new(), same_bytes: 0 }
    }

    /// The file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Takes the bytes that come next.
    ///
    /// # Errors
    /// Fails when the file cannot be read or written.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_there(bytes)? {
            self.same_bytes += bytes.len() as u64;
        } else {
            self.file.write_all_at(bytes, self.at)?;
        }
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Cuts off what the old content was longer.
    ///
    /// # Errors
    /// Fails when the file cannot be cut.
    pub(crate) fn finish(self) -> io::Result<u64> {
        if self.at < self.old_bytes {
            self.file.set_len(self.at)?;
        }
        Ok(self.same_bytes)
    }

    fn is_there(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if self.at + bytes.len() as u64 > self.old_bytes {
            return Ok(false);
        }
        self.buffer.resize(bytes.len(), 0);
        self.file.read_exact_at(&mut self.buffer, self.at)?;
        Ok(self.buffer == bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::allow_attributes, reason = "tests")]
    use std::fs::{self, OpenOptions};

    use super::*;

    #[test]
    fn what_is_there_is_left_and_what_differs_is_written_whatever_the_lengths() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        for (old, same) in [("", 0), ("one two", 6), ("one two threE more", 6), ("one two three", 11)] {
            fs::write(&path, old).unwrap();
            let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            let mut patch = Patch::over(file).unwrap().unwrap();
            for piece in ["one", " tw", "o th", "r", "ee"] {
                patch.put(piece.as_bytes()).unwrap();
            }
            let found = patch.finish().unwrap();
            assert!(found >= same, "{old}: {found}");
            assert_eq!(fs::read_to_string(&path).unwrap(), "one two three");
        }
    }

    #[test]
    fn a_file_with_a_second_name_is_not_written_over() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        fs::write(&path, "old").unwrap();
        fs::hard_link(&path, home.path().join("other")).unwrap();
        assert!(Patch::over(fs::File::open(&path).unwrap()).unwrap().is_none());
    }
}
