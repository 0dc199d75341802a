//! Looks at every byte of one archive of a base backup, without writing any of it: files against the server's manifest,
//! pages against their own checksums.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use tar::{Archive, Entry, EntryType};

use crate::catalog::PostgresFacts;
use crate::pgformat::{
    BackupLabel, BackupManifest, ControlFile, DATA_PAGE_BYTES, FileVerifier, PageVerdict, fetched_segment, first_block,
    judge_page,
};

/// Faults of one archive that are told one by one.
const TOLD: usize = 20;
/// Files that are read into memory whole: a label, `pg_control`.
const SMALL_BYTES: u64 = 1 << 16;

/// What an archive is compared with.
#[derive(Clone)]
pub(crate) struct TarVerifier {
    /// What the manifest's paths have in front of the archive's.
    pub(crate) prefix: Vec<u8>,
    /// The server's manifest.
    pub(crate) manifest: Arc<BackupManifest>,
    /// What our own manifest says of the cluster.
    pub(crate) facts: Arc<PostgresFacts>,
    /// Whether WAL lies among the data, which the server's manifest does not list; it is judged apart.
    pub(crate) holds_wal: bool,
    /// The backup that it is an increment to, by our own manifest.
    pub(crate) parent: Option<String>,
}

/// What was found in archives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Findings {
    /// The manifest paths of the files that were read.
    pub(crate) seen: BTreeSet<Vec<u8>>,
    /// Pages whose checksum was computed and is right.
    pub(crate) pages: u64,
    /// What is wrong.
    pub(crate) faults: Vec<String>,
}

impl Findings {
    /// Adds what was found in another archive.
    pub(crate) fn merge(&mut self, other: Self) {
        self.seen.extend(other.seen);
        self.pages += other.pages;
        self.faults.extend(other.faults);
    }

    fn fault(&mut self, what: String) {
        if self.faults.len() < TOLD {
            self.faults.push(what);
        }
    }
}

impl TarVerifier {
    /// Reads an archive to its end, or up to where it is none any more. Blocking.
    pub(crate) fn read(&self, key: &str, from: &mut dyn Read) -> Findings {
        let mut found = Findings::default();
        if let Err(error) = self.entries(from, &mut found) {
            found.faults.push(format!("`{key}` is damaged: it cannot be unpacked: {error}"));
        }
        found
    }

    fn entries(&self, from: &mut dyn Read, found: &mut Findings) -> std::io::Result<()> {
        for entry in Archive::new(from).entries()? {
            let mut entry = entry?;
            if entry.header().entry_type() == EntryType::Regular {
                self.file(&mut entry, found)?;
            }
        }
        Ok(())
    }

    /// Looks at a file that the server's manifest may know; of one that it does not know nothing can be said.
    pub(crate) fn listed(&self, entry: &mut Entry<'_, &mut dyn Read>, found: &mut Findings) -> std::io::Result<()> {
        let path = self.path(entry)?;
        if self.manifest.file(&path).is_some() { self.file(entry, found) } else { Ok(()) }
    }

    /// The path that the server's manifest has for a file of the archive.
    fn path(&self, entry: &Entry<'_, &mut dyn Read>) -> std::io::Result<Vec<u8>> {
        let own = entry.path()?.into_owned();
        let own = own.strip_prefix("./").unwrap_or(&own).as_os_str().as_bytes().to_vec();
        Ok([self.prefix.as_slice(), &own].concat())
    }

    fn file(&self, entry: &mut Entry<'_, &mut dyn Read>, found: &mut Findings) -> std::io::Result<()> {
        let path = self.path(entry)?;
        let shown = String::from_utf8_lossy(&path).into_owned();
        let Some(known) = self.manifest.file(&path) else {
            if self.holds_wal && fetched_segment(&path).is_some() {
                return Ok(());
            }
            found.fault(format!("`{shown}` is not in backup_manifest"));
            return Ok(());
        };
        found.seen.insert(path.clone());
        let mut verifier = FileVerifier::new(known);
        let mut pages = first_block(&path).filter(|_| self.facts.data_checksums == Some(true)).map(Pages::new);
        let mut small = (entry.size() <= SMALL_BYTES).then(Vec::new);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = entry.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            verifier.update(&buffer[..count]);
            if let Some(pages) = &mut pages {
                pages.update(&buffer[..count], self.facts.start_lsn);
            }
            if let Some(small) = &mut small {
                small.extend_from_slice(&buffer[..count]);
            }
        }
        if let Err(fault) = verifier.finish() {
            found.fault(format!("`{shown}` is damaged: {fault}"));
        }
        if let Some(pages) = pages {
            found.pages += pages.sound;
            for block in &pages.damaged {
                found.fault(format!("the checksum of block {block} of `{shown}` is wrong"));
            }
        }
        if let Some(fault) = small.and_then(|bytes| self.claims(&path, &bytes)) {
            found.fault(fault);
        }
        Ok(())
    }

    /// Compares what the backup says of itself with our own manifest.
    fn claims(&self, path: &[u8], bytes: &[u8]) -> Option<String> {
        match path {
            b"backup_label" => match BackupLabel::parse(&String::from_utf8_lossy(bytes)) {
                Ok(label) if label.incremental_from.is_some() && self.parent.is_none() => Some(
                    "`backup_label` says that it is an increment, and nothing says to which backup: it restores nothing"
                        .to_owned(),
                ),
                Ok(label) if label.start == self.facts.start_lsn => None,
                Ok(label) => Some(format!("`backup_label` begins at {}, not at {}", label.start, self.facts.start_lsn)),
                Err(error) => Some(format!("`backup_label` makes no sense: {error}")),
            },
            path if path == ControlFile::PATH.as_bytes() => match ControlFile::parse(bytes) {
                Ok(control) if control.system_id == self.facts.system_id => None,
                Ok(control) => {
                    Some(format!("`pg_control` is of cluster {}, not {}", control.system_id, self.facts.system_id))
                }
                Err(error) => Some(error.to_string()),
            },
            _ => None,
        }
    }
}

/// The pages of one file on their way.
struct Pages {
    block: u32,
    page: [u8; DATA_PAGE_BYTES],
    filled: usize,
    sound: u64,
    damaged: Vec<u32>,
}

impl Pages {
    fn new(first: u32) -> Self {
        Self { block: first, page: [0; DATA_PAGE_BYTES], filled: 0, sound: 0, damaged: Vec::new() }
    }

    fn update(&mut self, mut bytes: &[u8], since: crate::pgformat::Lsn) {
        while !bytes.is_empty() {
            let count = bytes.len().min(DATA_PAGE_BYTES - self.filled);
            self.page[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
            if self.filled == DATA_PAGE_BYTES {
                match judge_page(&self.page, self.block, since) {
                    PageVerdict::Sound => self.sound += 1,
                    PageVerdict::New | PageVerdict::Replayed => {}
                    PageVerdict::Damaged => self.damaged.push(self.block),
                }
                (self.block, self.filled) = (self.block.wrapping_add(1), 0);
            }
        }
    }
}
