//! The archives of a base backup: every file held against `backup_manifest`, and the few that tell what it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::Arc;

use tar::{Archive, EntryType};

use crate::actions::archive::Bounded;
use crate::pgformat::{
    BackupManifest, ControlFile, FileVerifier, SegmentHeader, SegmentName, WAL_PAGE_BYTES, fetched_segment,
};

/// Files that tell what the backup is.
const TELLING: [&str; 4] = ["PG_VERSION", "backup_label", "tablespace_map", ControlFile::PATH];
/// None of them is longer.
const TELLING_BYTES: u64 = 4 << 20;

/// What an archive held.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The manifest's paths of its files.
    pub(super) seen: BTreeSet<Vec<u8>>,
    /// Those that tell what the backup is, by their paths.
    pub(super) telling: BTreeMap<String, Vec<u8>>,
    /// The segments of WAL that lie among the data (`--wal-method=fetch`): the server's manifest does not list them.
    pub(super) segments: BTreeSet<SegmentName>,
}

/// How the archive of one tablespace is judged.
pub(super) struct Judge {
    /// What the manifest's paths have in front of the archive's.
    pub(super) prefix: String,
    /// The server's manifest; none for the archive of the WAL, which it does not list.
    pub(super) manifest: Option<Arc<BackupManifest>>,
}

impl Judge {
    /// Reads an archive to its end mark. Blocking.
    pub(super) fn read(&self, from: &mut dyn Read) -> io::Result<Held> {
        let (bounded, allowance) = Bounded::new(from);
        let mut archive = Archive::new(bounded);
        let mut held = Held::default();
        for entry in archive.entries()? {
            let mut entry = entry?;
            allowance.content();
            if entry.header().entry_type() == EntryType::Regular {
                let own = entry.path_bytes().into_owned();
                let path = [self.prefix.as_bytes(), own.strip_prefix(b"./").unwrap_or(&own)].concat();
                self.file(path, &mut entry, &mut held)?;
            }
            allowance.next(&mut entry)?;
        }
        Ok(held)
    }

    fn file(&self, path: Vec<u8>, entry: &mut impl Read, held: &mut Held) -> io::Result<()> {
        let Some(manifest) = &self.manifest else { return Ok(()) };
        let shown = String::from_utf8_lossy(&path).into_owned();
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let Some(known) = manifest.file(&path) else {
            let segment = fetched_segment(&path);
            let segment = segment.ok_or_else(|| invalid(format!("`{shown}` is not in backup_manifest")))?;
            let mut head = Vec::new();
            entry.by_ref().take(WAL_PAGE_BYTES as u64).read_to_end(&mut head)?;
            let size_bytes = head.len() as u64 + io::copy(entry, &mut io::sink())?;
            let header = SegmentHeader::parse(&head).map_err(|error| invalid(format!("`{shown}`: {error}")))?;
            header.check(segment, size_bytes).map_err(|error| invalid(format!("`{shown}`: {error}")))?;
            held.segments.insert(segment);
            return Ok(());
        };
        let is_telling = TELLING.contains(&shown.as_str()) && known.size_bytes <= TELLING_BYTES;
        let mut checked = Checked { verifier: FileVerifier::new(known), kept: is_telling.then(Vec::new) };
        io::copy(entry, &mut checked)?;
        checked.verifier.finish().map_err(|fault| invalid(format!("`{shown}` is damaged: {fault}")))?;
        held.telling.extend(checked.kept.map(|bytes| (shown, bytes)));
        held.seen.insert(path);
        Ok(())
    }
}

struct Checked {
    verifier: FileVerifier,
    kept: Option<Vec<u8>>,
}

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.verifier.update(bytes);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
