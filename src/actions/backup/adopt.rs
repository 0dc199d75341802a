//! Dumps that another program made, where they lie: recognised by their names, described by reading them.
//!
//! Dated dumps only: `orders_20260128_143002.sql.gz`. Nothing is moved or written here; what is encrypted cannot be
//! described, since its name and bytes do not say how its key was derived.

use std::io::{self, BufRead as _, BufReader, Read, Write};

use tokio_util::io::SyncIoBridge;

use crate::action::{ActionError, Compressed, Encoding, ObjectFacts, ObjectKey, PlainFacts, ReadStore};
use crate::actions::store::store_failed;
use crate::base::Timestamp;
use crate::base::digest::Hasher;
use crate::catalog::{KIND_POSTGRES_DUMP, Manifest, ManifestObject, ObjectRole, backup_id};
use crate::language::inventory::CompressionFormat;

/// Endings of dumps, before compression.
const ENDINGS: [&str; 5] = ["sql", "dump", "backup", "pgdump", "custom"];
/// Endings of compressed files.
const COMPRESSED: [&str; 3] = [".gz", ".zst", ".lz4"];

/// A dump that another program made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Where it lies.
    pub key: ObjectKey,
    /// Its size.
    pub size_bytes: u64,
    /// What its name has before the time: most often the database.
    pub name: String,
    /// When it was taken, as its name says, in UTC.
    pub taken_at: Timestamp,
}

impl Foreign {
    /// Recognises a dated dump by its name.
    #[must_use]
    pub fn of(facts: &ObjectFacts) -> Option<Self> {
        let file = facts.key.as_str().rsplit('/').next()?;
        let bare = COMPRESSED.iter().find_map(|ending| file.strip_suffix(ending)).unwrap_or(file);
        let (stem, ending) = bare.rsplit_once('.')?;
        if !ENDINGS.contains(&ending) || !stem.is_ascii() || stem.len() < 17 {
            return None;
        }
        let (name, stamp) = stem.split_at(stem.len() - 15);
        let name = name.strip_suffix(['_', '-'])?;
        let digits = stamp
            .bytes()
            .enumerate()
            .all(|(at, byte)| if at == 8 { b"_-T".contains(&byte) } else { byte.is_ascii_digit() });
        if !digits || name.is_empty() {
            return None;
        }
        let (date, time) = (&stamp[..8], &stamp[9..]);
        let text =
            format!("{}-{}-{}T{}:{}:{}Z", &date[..4], &date[4..6], &date[6..], &time[..2], &time[2..4], &time[4..]);
        let (key, size_bytes) = (facts.key.clone(), facts.size_bytes);
        Some(Self { key, size_bytes, name: name.to_owned(), taken_at: text.parse().ok()? })
    }

    /// Reads all of it and describes it as a backup of `source`.
    ///
    /// # Errors
    /// Fails when the store does, and when it is encrypted or cannot be decompressed.
    pub async fn describe(&self, store: &dyn ReadStore, source: &str) -> Result<Manifest, ActionError> {
        let mut body = store.get(&self.key).await.map_err(store_failed)?;
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        let reading = tokio::task::spawn_blocking(move || describe(SyncIoBridge::new(theirs)));
        let copied = tokio::io::copy(&mut body, &mut ours).await;
        drop(ours);
        let unreadable =
            |error: &io::Error| ActionError::fatal(format!("`{}` cannot be described", self.key)).because(error);
        let read = reading.await.map_err(|error| ActionError::fatal("the reader broke off").because(&error))?;
        let Described { stored, plain, encoding } = read.map_err(|error| unreadable(&error))?;
        copied.map_err(|error| unreadable(&error))?;
        let file = self.key.as_str().rsplit('/').next().unwrap_or_default();
        let object = ManifestObject::new(file, stored.size_bytes, stored.sha256, ObjectRole::Dump);
        let plain = (!encoding.is_plain()).then_some(plain);
        let id = backup_id("imported", file);
        Ok(Manifest {
            objects: vec![ManifestObject { encoding, plain, key: Some(self.key.to_string()), ..object }],
            label: Some(format!("imported from {}", self.key)),
            ..Manifest::new(id, KIND_POSTGRES_DUMP, source, (self.taken_at, self.taken_at))
        })
    }
}

/// What was found by reading.
struct Described {
    stored: PlainFacts,
    plain: PlainFacts,
    encoding: Encoding,
}

/// Counts and digests what passes.
struct Counting<T> {
    inner: T,
    hasher: Hasher,
    size_bytes: u64,
}

impl<T> Counting<T> {
    fn new(inner: T) -> Self {
        Self { inner, hasher: Hasher::default(), size_bytes: 0 }
    }

    fn facts(self) -> PlainFacts {
        PlainFacts { size_bytes: self.size_bytes, sha256: self.hasher.finish() }
    }
}

impl<T: Read> Read for Counting<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size_bytes += count as u64;
        Ok(count)
    }
}

impl Write for Counting<io::Sink> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.size_bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn describe(from: impl Read) -> io::Result<Described> {
    let mut stored = BufReader::new(Counting::new(from));
    let begin = stored.fill_buf()?;
    let encrypted = [&b"age-encryption.org"[..], b"-----BEGIN AGE", b"Salted__", b"-----BEGIN PGP"];
    let is_gpg = matches!(begin.first(), Some(0x8c | 0x85 | 0xc3 | 0xc1)) && !begin.starts_with(b"PGDMP");
    if encrypted.iter().any(|mark| begin.starts_with(mark)) || is_gpg {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is encrypted"));
    }
    let format = match begin {
        [0x1f, 0x8b, ..] => CompressionFormat::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => CompressionFormat::Zstd,
        [0x04, 0x22, 0x4d, 0x18, ..] => CompressionFormat::Lz4,
        _ => CompressionFormat::None,
    };
    let mut plain = Counting::new(io::sink());
    match format {
        CompressionFormat::Gzip => io::copy(&mut flate2::bufread::MultiGzDecoder::new(&mut stored), &mut plain)?,
        CompressionFormat::Zstd => io::copy(&mut zstd::Decoder::with_buffer(&mut stored)?, &mut plain)?,
        CompressionFormat::Lz4 => io::copy(&mut lz4_flex::frame::FrameDecoder::new(&mut stored), &mut plain)?,
        CompressionFormat::None => io::copy(&mut stored, &mut plain)?,
    };
    if io::copy(&mut stored, &mut io::sink())? > 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "something follows its compressed bytes"));
    }
    let compression = (format != CompressionFormat::None).then_some(Compressed { format, level: None });
    Ok(Described {
        stored: stored.into_inner().facts(),
        plain: plain.facts(),
        encoding: Encoding { compression, encryption: None },
    })
}

#[cfg(test)]
mod tests {
    use super::Foreign;
    use crate::action::ObjectFacts;
    use crate::base::Timestamp;

    fn of(key: &str) -> Option<(String, String)> {
        let facts = ObjectFacts::new(key.parse().ok()?, 1, Timestamp::UNIX_EPOCH);
        Foreign::of(&facts).map(|found| (found.name, found.taken_at.to_string()))
    }

    #[test]
    fn dated_dumps_are_recognised_and_nothing_else() {
        let at = |name: &str| Some((name.to_owned(), "2026-01-28T14:30:02Z".to_owned()));
        assert_eq!(of("daily/orders_20260128_143002.sql.gz"), at("orders"));
        assert_eq!(of("my-db-20260128-143002.dump"), at("my-db"));
        for other in [
            "orders_20260128.sql",
            "orders_20261328_143002.sql",
            "_20260128_143002.sql",
            "orders_20260128_143002.txt",
            "wal/000000010000000000000002",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
