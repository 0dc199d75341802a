//! Size and CRC-32C of a file, taken while its bytes pass by and before anybody knows what they must be.

use super::backup_manifest::{FileChecksum, FileFault, ManifestFile};

/// A running sum of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileSum {
    size_bytes: u64,
    crc: u32,
}

impl FileSum {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size_bytes += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
    }

    /// Returns the bytes so far.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Compares with what a manifest of CRC-32C checksums says.
    ///
    /// # Errors
    /// Fails when size or checksum differ; a checksum of another kind differs too.
    pub fn check(&self, expected: &ManifestFile) -> Result<(), FileFault> {
        if self.size_bytes != expected.size_bytes {
            return Err(FileFault::Size { found: self.size_bytes, expected: expected.size_bytes });
        }
        let same = expected.checksum == FileChecksum::Crc32c(self.crc);
        if same { Ok(()) } else { Err(FileFault::Checksum) }
    }
}

#[cfg(test)]
mod tests {
    use super::{FileChecksum, FileFault, FileSum, ManifestFile};

    #[test]
    fn a_sum_is_the_one_postgresql_takes() {
        let mut sum = FileSum::default();
        sum.update(b"1234");
        sum.update(b"56789");
        let mut expected = ManifestFile { size_bytes: 9, checksum: FileChecksum::Crc32c(0xE306_9283) };
        assert_eq!(sum.check(&expected), Ok(()));
        expected.checksum = FileChecksum::None;
        assert_eq!(sum.check(&expected), Err(FileFault::Checksum));
        expected.size_bytes = 8;
        assert_eq!(sum.check(&expected), Err(FileFault::Size { found: 9, expected: 8 }));
    }
}
