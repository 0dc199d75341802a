//! `backup_manifest` of a base backup: every file with size and checksum, and the WAL it needs.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::Digest as _;

use super::lsn::{Lsn, SystemId, Timeline};
use super::segment::SegmentName;
use crate::base::Digest;

/// A stretch of WAL that the backup needs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct WalRange {
    /// The timeline.
    #[serde(rename = "Timeline")]
    pub timeline: Timeline,
    /// Where it begins.
    #[serde(rename = "Start-LSN")]
    pub start: Lsn,
    /// Where it ends.
    #[serde(rename = "End-LSN")]
    pub end: Lsn,
}

/// A file's checksum as the manifest gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileChecksum {
    /// None was taken.
    None,
    /// CRC-32C, PostgreSQL's default.
    Crc32c(u32),
    /// SHA-224.
    Sha224(Vec<u8>),
    /// SHA-256.
    Sha256(Vec<u8>),
    /// SHA-384.
    Sha384(Vec<u8>),
    /// SHA-512.
    Sha512(Vec<u8>),
}

/// What the manifest says of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    /// Its size.
    pub size_bytes: u64,
    /// Its checksum.
    pub checksum: FileChecksum,
}

/// A manifest whose own checksum was found right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupManifest {
    /// 1 up to PostgreSQL 16, 2 from 17 on.
    pub version: u32,
    /// The cluster, from version 2 on.
    pub system_id: Option<SystemId>,
    /// Files by their path inside the data directory (bytes, since names need not be UTF-8).
    pub files: BTreeMap<Vec<u8>, ManifestFile>,
    /// The WAL needed to make the backup consistent.
    pub wal_ranges: Vec<WalRange>,
}

/// The segment of WAL that a path of a data directory names. A base backup made with `--wal-method=fetch` has such files,
/// and its manifest does not list them.
#[must_use]
pub fn fetched_segment(path: &[u8]) -> Option<SegmentName> {
    std::str::from_utf8(path.strip_prefix(b"pg_wal/")?).ok()?.parse().ok()
}

/// Why a text is no valid manifest.
#[derive(Debug, thiserror::Error)]
pub enum BackupManifestError {
    /// It is not JSON of the known shape.
    #[error("backup_manifest cannot be read")]
    Json(#[source] serde_json::Error),
    /// Its own checksum is missing.
    #[error("backup_manifest has no checksum of its own: it is cut short")]
    NoChecksum,
    /// Its own checksum is wrong.
    #[error("backup_manifest is damaged: its checksum is {found}, not {stored}")]
    Checksum {
        /// The checksum of the text.
        found: Digest,
        /// The checksum it gives.
        stored: String,
    },
    /// A version that is not known.
    #[error("backup_manifest has version {0}, known are 1 and 2")]
    Version(u32),
    /// An entry that makes no sense.
    #[error("backup_manifest has an entry that makes no sense: {0}")]
    Entry(String),
}

#[derive(Deserialize)]
struct RawManifest {
    #[serde(rename = "PostgreSQL-Backup-Manifest-Version")]
    version: u32,
    #[serde(rename = "System-Identifier")]
    system_id: Option<u64>,
    #[serde(rename = "Files")]
    files: Vec<RawFile>,
    #[serde(rename = "WAL-Ranges", default)]
    wal_ranges: Vec<WalRange>,
    #[serde(rename = "Manifest-Checksum")]
    checksum: String,
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(rename = "Path")]
    path: Option<String>,
    #[serde(rename = "Encoded-Path")]
    encoded_path: Option<String>,
    #[serde(rename = "Size")]
    size_bytes: u64,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: Option<String>,
    #[serde(rename = "Checksum")]
    checksum: Option<String>,
}

impl BackupManifest {
    /// Reads a manifest and verifies its own checksum.
    ///
    /// # Errors
    /// Fails when it is cut short, changed, or of an unknown version.
    pub fn parse(bytes: &[u8]) -> Result<Self, BackupManifestError> {
        let marker = b"\"Manifest-Checksum\"";
        let last = bytes.windows(marker.len()).rposition(|window| window == marker);
        let last = last.ok_or(BackupManifestError::NoChecksum)?;
        let found = Digest::of(&bytes[..last]);
        let raw: RawManifest = serde_json::from_slice(bytes).map_err(BackupManifestError::Json)?;
        if !raw.checksum.eq_ignore_ascii_case(&found.to_string()) {
            return Err(BackupManifestError::Checksum { found, stored: raw.checksum });
        }
        if !(1..=2).contains(&raw.version) {
            return Err(BackupManifestError::Version(raw.version));
        }
        let mut files = BTreeMap::new();
        for file in raw.files {
            let (path, entry) = file.entry()?;
            let name = String::from_utf8_lossy(&path).into_owned();
            if files.insert(path, entry).is_some() {
                return Err(BackupManifestError::Entry(format!("`{name}` is there twice")));
            }
        }
        Ok(Self { version: raw.version, system_id: raw.system_id.map(SystemId), files, wal_ranges: raw.wal_ranges })
    }

    /// Returns what the manifest says of the file at `path`.
    #[must_use]
    pub fn file(&self, path: &[u8]) -> Option<&ManifestFile> {
        self.files.get(path)
    }

    /// Returns the sum of all sizes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.files.values().map(|file| file.size_bytes).sum()
    }
}

impl RawFile {
    fn entry(self) -> Result<(Vec<u8>, ManifestFile), BackupManifestError> {
        let wrong = |what: &str| BackupManifestError::Entry(what.to_owned());
        let path = match (self.path, self.encoded_path) {
            (Some(path), None) => path.into_bytes(),
            (None, Some(hex)) => from_hex(&hex).ok_or_else(|| wrong("an encoded path is not hex"))?,
            (Some(_), Some(_)) | (None, None) => return Err(wrong("a file without exactly one path")),
        };
        let checksum = match (self.algorithm.as_deref(), self.checksum.as_deref()) {
            (None | Some("NONE"), None) => FileChecksum::None,
            (Some(algorithm), Some(value)) => {
                let value = from_hex(value).ok_or_else(|| wrong("a checksum is not hex"))?;
                FileChecksum::of(algorithm, value)
                    .ok_or_else(|| BackupManifestError::Entry(format!("a checksum of kind `{algorithm}`")))?
            }
            (None, Some(_)) | (Some(_), None) => return Err(wrong("a checksum without its kind, or the reverse")),
        };
        Ok((path, ManifestFile { size_bytes: self.size_bytes, checksum }))
    }
}

impl FileChecksum {
    fn of(algorithm: &str, value: Vec<u8>) -> Option<Self> {
        let (checksum, length) = match algorithm {
            // PostgreSQL prints the four bytes in memory order.
            "CRC32C" => (Self::Crc32c(u32::from_le_bytes(value.as_slice().try_into().ok()?)), 4),
            "SHA224" => (Self::Sha224(value.clone()), 28),
            "SHA256" => (Self::Sha256(value.clone()), 32),
            "SHA384" => (Self::Sha384(value.clone()), 48),
            "SHA512" => (Self::Sha512(value.clone()), 64),
            _ => return None,
        };
        (value.len() == length).then_some(checksum)
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks_exact(2).map(pair).collect()
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// Another size.
    #[error("{found} bytes instead of {expected}")]
    Size {
        /// The size of what was read.
        found: u64,
        /// The size in the manifest.
        expected: u64,
    },
    /// Another content.
    #[error("its checksum differs from the manifest")]
    Checksum,
}

enum Running {
    None,
    Crc32c(u32),
    Sha224(sha2::Sha224),
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
}

/// Verifies one file against the manifest while its bytes pass by. Write the bytes, then [`Self::finish`].
pub struct FileVerifier {
    expected: ManifestFile,
    running: Running,
    found_bytes: u64,
}

impl FileVerifier {
    /// Begins with a file's entry.
    #[must_use]
    pub fn new(expected: &ManifestFile) -> Self {
        let running = match &expected.checksum {
            FileChecksum::None => Running::None,
            FileChecksum::Crc32c(_) => Running::Crc32c(0),
            FileChecksum::Sha224(_) => Running::Sha224(sha2::Sha224::new()),
            FileChecksum::Sha256(_) => Running::Sha256(sha2::Sha256::new()),
            FileChecksum::Sha384(_) => Running::Sha384(sha2::Sha384::new()),
            FileChecksum::Sha512(_) => Running::Sha512(sha2::Sha512::new()),
        };
        Self { expected: expected.clone(), running, found_bytes: 0 }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.found_bytes += bytes.len() as u64;
        match &mut self.running {
            Running::None => {}
            Running::Crc32c(crc) => *crc = crc32c::crc32c_append(*crc, bytes),
            Running::Sha224(hasher) => hasher.update(bytes),
            Running::Sha256(hasher) => hasher.update(bytes),
            Running::Sha384(hasher) => hasher.update(bytes),
            Running::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Judges the whole file.
    ///
    /// # Errors
    /// Fails when size or checksum differ from the manifest.
    pub fn finish(self) -> Result<(), FileFault> {
        if self.found_bytes != self.expected.size_bytes {
            return Err(FileFault::Size { found: self.found_bytes, expected: self.expected.size_bytes });
        }
        let found = match self.running {
            Running::None => FileChecksum::None,
            Running::Crc32c(crc) => FileChecksum::Crc32c(crc),
            Running::Sha224(hasher) => FileChecksum::Sha224(hasher.finalize().to_vec()),
            Running::Sha256(hasher) => FileChecksum::Sha256(hasher.finalize().to_vec()),
            Running::Sha384(hasher) => FileChecksum::Sha384(hasher.finalize().to_vec()),
            Running::Sha512(hasher) => FileChecksum::Sha512(hasher.finalize().to_vec()),
        };
        if found == self.expected.checksum { Ok(()) } else { Err(FileFault::Checksum) }
    }
}

impl std::io::Write for FileVerifier {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{BackupManifest, BackupManifestError, FileFault, FileVerifier};
    use crate::base::Digest;

    fn manifest() -> String {
        let head = "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n\
            { \"Path\": \"a\", \"Size\": 9, \"Last-Modified\": \"x\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"839206e3\" },\n\
            { \"Encoded-Path\": \"ff62\", \"Size\": 0, \"Last-Modified\": \"x\" }\n],\n\
            \"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }\n],\n";
        format!("{head}\"Manifest-Checksum\": \"{}\"}}\n", Digest::of(head.as_bytes()))
    }

    #[test]
    fn a_manifest_gives_its_files_and_its_wal() {
        let manifest = BackupManifest::parse(manifest().as_bytes()).expect("manifest");
        assert_eq!(manifest.total_bytes(), 9);
        assert_eq!(manifest.wal_ranges[0].end.to_string(), "0/2000100");
        assert!(manifest.file(b"\xffb").is_some());
        let mut verifier = FileVerifier::new(manifest.file(b"a").expect("entry"));
        verifier.update(b"12345");
        verifier.update(b"6789");
        assert_eq!(verifier.finish(), Ok(()));
        let mut verifier = FileVerifier::new(manifest.file(b"a").expect("entry"));
        verifier.update(b"123456780");
        assert_eq!(verifier.finish(), Err(FileFault::Checksum));
    }

    #[test]
    fn a_changed_or_short_manifest_is_refused() {
        let text = manifest();
        let changed = text.replace("\"Size\": 9", "\"Size\": 8");
        assert!(matches!(BackupManifest::parse(changed.as_bytes()), Err(BackupManifestError::Checksum { .. })));
        assert!(matches!(BackupManifest::parse(&text.as_bytes()[..200]), Err(BackupManifestError::NoChecksum)));
    }
}
