//! Looks at a backup as closely as is asked for, and says all that is wrong with it.

use std::io;
use std::path::{Path, PathBuf};

use super::copy::digest;
use super::dump_listing::{self, CLOSING_BYTES, Listed, Origin, is_text};
use super::failure::transfer_failed;
use super::pipe::{Read, read};
use super::tarball;
use crate::action::{ActionError, ReadHost, ReadStore, Secrets, StoreError};
use crate::actions::store::{catalog_failed, store_failed};
use crate::base::units::ByteSize;
use crate::catalog::attest::{Level, Verdict, Verification};
use crate::catalog::{self, Backup, CatalogError, Manifest, ManifestObject, ObjectRole, sidecar};
use crate::language::inventory::Encryption;
use crate::pgformat::{CUSTOM_DUMP_MAGIC, demand_whole_custom_dump};
use crate::transfer::Unpacking;

/// What a backup is looked at with.
#[derive(Clone, Copy)]
pub struct Inspector<'a> {
    /// Its store.
    pub store: &'a dyn ReadStore,
    /// The keys that the store's settings name.
    pub keys: Option<&'a Encryption>,
    /// Where they come from.
    pub secrets: &'a dyn Secrets,
    /// Runs `pg_restore --list`, where it is there.
    pub host: &'a dyn ReadHost,
    /// A folder for one unpacked dump at a time.
    pub scratch: &'a Path,
}

/// What a backup must be besides whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct Demands {
    /// Every object is encrypted.
    pub encrypted: Encrypted,
    /// It has at least this many bytes as stored.
    pub min_size: Option<ByteSize>,
    /// Its size differs by at most so many percent from the median of its like.
    pub within_percent: Option<u32>,
}

/// Whether a backup must be encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encrypted {
    /// It must.
    Required,
    /// It may.
    #[default]
    Any,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspected {
    /// The bytes that were read.
    pub read_bytes: u64,
    /// What is wrong, one a line; empty when everything holds.
    pub faults: Vec<String>,
    /// What could not be looked at, though it was asked for.
    pub skipped: Vec<String>,
    /// What is wrong beside the backup, which a restore by this program does not need.
    pub beside: Vec<String>,
}

impl Inspector<'_> {
    /// Looks at a backup of the catalog: at its manifest anew, since a listing may have it from what was read before, and
    /// then as [`Self::inspect_described`].
    ///
    /// # Errors
    /// Fails when the store gives no answer or no key fits; what is wrong with the backup is no failure.
    pub async fn inspect(&self, backup: &Backup, level: Level) -> Result<Inspected, ActionError> {
        let fault = match catalog::load(self.store, &backup.place()).await {
            Ok(now) if now.digest == backup.digest => None,
            Ok(now) => Some(format!("its manifest has SHA-256 {}, not {} as it was listed", now.digest, backup.digest)),
            Err(CatalogError::Damaged { what, .. }) => Some(format!("its manifest is damaged: {what}")),
            Err(CatalogError::Store(StoreError::NotFound { .. })) => Some("its manifest is missing".to_owned()),
            Err(error) => return Err(catalog_failed(error)),
        };
        let mut found = self.inspect_described(backup, level).await?;
        if let Some(fault) = fault {
            found.faults.insert(0, fault);
        }
        if level >= Level::Digests {
            found.beside.extend(self.sums(backup).await?);
        }
        Ok(found)
    }

    /// Holds `SHA256SUMS`, which a restore without this program needs, against the manifest.
    async fn sums(&self, backup: &Backup) -> Result<Option<String>, ActionError> {
        let key = backup.place().key(sidecar::NAME).map_err(catalog_failed)?;
        let expected = sidecar::text(&backup.manifest);
        match catalog::read_small(self.store, &key, expected.len() as u64 + 1).await {
            Ok(text) if text == expected.as_bytes() => Ok(None),
            Ok(_) | Err(CatalogError::Damaged { .. }) => Ok(Some(
                "`SHA256SUMS` is not what the manifest says: by hand nothing can be held against it".to_owned(),
            )),
            Err(CatalogError::Store(StoreError::NotFound { .. })) => Ok(Some("`SHA256SUMS` is missing".to_owned())),
            Err(error) => Err(catalog_failed(error)),
        }
    }

    /// Looks at the objects of a backup whose manifest lies in no catalog or was read already.
    ///
    /// # Errors
    /// Fails as [`Self::inspect`].
    pub async fn inspect_described(&self, backup: &Backup, level: Level) -> Result<Inspected, ActionError> {
        let mut found = Inspected::default();
        if level == Level::Manifest {
            return Ok(found);
        }
        let missing = backup.missing_objects(self.store).await.map_err(catalog_failed)?;
        found.faults.extend(missing.iter().map(|name| format!("`{name}` is missing or has another size")));
        match catalog::lineage(self.store, backup).await {
            Ok(_) => {}
            Err(CatalogError::Torn { what, .. }) => found.faults.push(what),
            Err(error) => return Err(catalog_failed(error)),
        }
        if level == Level::Sizes {
            return Ok(found);
        }
        for object in backup.manifest.objects.iter().filter(|object| !missing.contains(&object.name)) {
            let wrong = match level {
                Level::Manifest | Level::Sizes | Level::Digests => self.stored(backup, object).await?,
                Level::Content => self.content(backup, object, &mut found).await?,
            };
            found.read_bytes += object.size_bytes;
            found.faults.extend(wrong);
        }
        Ok(found)
    }

    /// Digests the stored bytes of an object.
    async fn stored(&self, backup: &Backup, object: &ManifestObject) -> Result<Option<String>, ActionError> {
        let key = backup.manifest.key_of(&backup.prefix, object).map_err(catalog_failed)?;
        let name = &object.name;
        let body = match self.store.get(&key).await {
            Ok(body) => body,
            Err(StoreError::NotFound { .. }) => return Ok(Some(format!("`{name}` is missing"))),
            Err(error) => return Err(store_failed(error)),
        };
        match digest(body).await {
            Ok(read) if read == (object.size_bytes, object.sha256) => Ok(None),
            Ok((size_bytes, sha256)) => Ok(Some(format!(
                "`{name}` has {size_bytes} bytes with SHA-256 {sha256}, not {} with {}",
                object.size_bytes, object.sha256
            ))),
            // The store itself found that the bytes are not what was put.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(format!("`{name}`: {error}"))),
            Err(error) => {
                Err(ActionError::retryable(format!("reading `{key}` from `{}` broke off", self.store.name()))
                    .because(&error))
            }
        }
    }

    /// Decrypts and decompresses an object, and lists what is in it.
    async fn content(
        &self,
        backup: &Backup,
        object: &ManifestObject,
        found: &mut Inspected,
    ) -> Result<Option<String>, ActionError> {
        let key = backup.manifest.key_of(&backup.prefix, object).map_err(catalog_failed)?;
        let unpacking = Unpacking::of(&object.encoding, self.keys, self.secrets).map_err(transfer_failed)?;
        let whole = match inside(object) {
            Inside::Archive => read((self.store, &key), &unpacking, object, |from| tarball::walk(from)).await?,
            Inside::Folder => read((self.store, &key), &unpacking, object, |from| tarball::walk_folder(from)).await?,
            Inside::DumpFolder => {
                let folder = self.scratch.join("verified.dir");
                let begun = std::fs::create_dir(&folder);
                begun.map_err(|error| ActionError::retryable("a folder cannot be made").because(&error))?;
                let contents = folder.join("toc.dat");
                let kept =
                    read((self.store, &key), &unpacking, object, move |from| tarball::keep(from, "toc.dat", &contents));
                let kept = kept.await;
                let listed = match &kept {
                    Ok(Read::Whole(_)) => self.list_dump(&folder, (backup, object), found).await,
                    Ok(Read::Damaged(_)) | Err(_) => Ok(None),
                };
                // It lies in a folder of the attempt's own, which goes as a whole.
                let _ = std::fs::remove_dir_all(&folder);
                match listed? {
                    Some(fault) => return Ok(Some(fault)),
                    None => kept?,
                }
            }
            Inside::Bytes => {
                read((self.store, &key), &unpacking, object, |from| io::copy(from, &mut io::sink())).await?
            }
            Inside::Dump => {
                let path = self.scratch.join("verified.dump");
                let into = path.clone();
                let unpacked = read((self.store, &key), &unpacking, object, move |from| unpack(from, &into)).await?;
                let listed = match &unpacked {
                    Read::Whole(_) => self.list_dump(&path, (backup, object), found).await,
                    Read::Damaged(_) => Ok(None),
                };
                // It lies in a folder of the attempt's own, which goes as a whole.
                let _ = std::fs::remove_file(&path);
                match listed? {
                    Some(fault) => return Ok(Some(fault)),
                    None => unpacked,
                }
            }
        };
        Ok(match whole {
            Read::Whole(_) => None,
            Read::Damaged(what) => Some(what),
        })
    }

    /// Lists a dump; what cannot be listed here is told as skipped.
    async fn list_dump(
        &self,
        path: &Path,
        (backup, object): (&Backup, &ManifestObject),
        found: &mut Inspected,
    ) -> Result<Option<String>, ActionError> {
        let name = &object.name;
        let origin = if backup.manifest.dump.is_some() { Origin::Dumped } else { Origin::Given };
        Ok(match dump_listing::list(self.host, path, origin).await? {
            Listed::Whole => None,
            Listed::Fault(what) => Some(format!("`{name}`: {what}")),
            Listed::Unknown(why) => {
                found.skipped.push(format!("`{name}` was not listed: {why}"));
                None
            }
        })
    }
}

/// What the plain bytes of an object are.
enum Inside {
    Archive,
    /// An archive of a folder, which may be empty.
    Folder,
    Dump,
    /// An archive of the folder of a dump.
    DumpFolder,
    Bytes,
}

fn inside(object: &ManifestObject) -> Inside {
    if object.archive_of.is_some() {
        return if object.role == ObjectRole::Dump { Inside::DumpFolder } else { Inside::Folder };
    }
    match object.role {
        ObjectRole::Data | ObjectRole::Tablespace | ObjectRole::Wal => Inside::Archive,
        ObjectRole::Dump => Inside::Dump,
        ObjectRole::BackupManifest
        | ObjectRole::Globals
        | ObjectRole::Config
        | ObjectRole::File
        | ObjectRole::Unknown => Inside::Bytes,
    }
}

/// No table of contents is larger; `pg_restore --list` reads nothing behind it.
const CONTENTS_BYTES: u64 = 256 << 20;

/// Reads a dump to its end, and keeps what is needed to list it: where it begins, and of text where it ends. The whole
/// would want as much room as the database.
fn unpack(from: &mut impl io::Read, into: &PathBuf) -> io::Result<u64> {
    use io::{Read as _, Write as _};
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(into)?;
    let mut from = Keeping { from, file: &file, left: CONTENTS_BYTES, read: 0 };
    let mut begin = Vec::new();
    from.by_ref().take(CUSTOM_DUMP_MAGIC.len() as u64).read_to_end(&mut begin)?;
    if begin == CUSTOM_DUMP_MAGIC {
        // Its table of contents lists as a whole one's, however much is lacking behind it.
        demand_whole_custom_dump(&mut begin.as_slice().chain(&mut from))?;
    }
    let (mut chunk, mut closing) = (vec![0; 1 << 20], Vec::new());
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        closing.extend_from_slice(&chunk[count.saturating_sub(CLOSING_BYTES)..count]);
        closing.drain(..closing.len().saturating_sub(CLOSING_BYTES));
    }
    let (read, left) = (from.read, from.left);
    // What was kept of a short one has its end already.
    if left == 0 && is_text(into)? {
        file.write_all(&closing)?;
    }
    Ok(read)
}

/// A stream of which the first part is written to a file as it is read.
struct Keeping<'a, R> {
    from: &'a mut R,
    file: &'a std::fs::File,
    left: u64,
    read: u64,
}

impl<R: io::Read> io::Read for Keeping<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        let kept = usize::try_from(self.left).unwrap_or(usize::MAX).min(count);
        io::Write::write_all(&mut self.file, &into[..kept])?;
        (self.left, self.read) = (self.left - kept as u64, self.read + count as u64);
        Ok(count)
    }
}

/// Holds a backup against what is demanded of it and against its like.
#[must_use]
pub fn judge(backup: &Backup, like: &[Backup], demands: &Demands) -> Vec<String> {
    let manifest = &backup.manifest;
    let mut faults = Vec::new();
    let bare = manifest.objects.iter().find(|object| object.encoding.encryption.is_none());
    if let (Encrypted::Required, Some(object)) = (demands.encrypted, bare) {
        faults.push(format!("`{}` is not encrypted", object.name));
    }
    let size = manifest.size_bytes();
    if let Some(least) = demands.min_size.filter(|least| size < least.0) {
        faults.push(format!("it has {size} bytes, less than {}", least.0));
    }
    let others = like.iter().map(|other| &other.manifest).filter(|other| is_like(manifest, other));
    if let (Some(percent), Some(median)) =
        (demands.within_percent, median(others.map(|other| other.size_bytes()).collect()))
    {
        let allowed = u128::from(median) * u128::from(percent) / 100;
        if u128::from(size.abs_diff(median)) > allowed {
            faults
                .push(format!("it has {size} bytes, more than {percent} % away from the median of its like, {median}"));
        }
    }
    faults
}

/// Whether the size of another backup says what this one's should be: dumps of another database say nothing, nor does a
/// part of one of the whole.
fn is_like(manifest: &Manifest, other: &Manifest) -> bool {
    let of = |one: &Manifest| one.dump.as_ref().map(|dump| (dump.dbname.clone(), dump.partial));
    other.id != manifest.id
        && (&other.kind, &other.tier, &other.source) == (&manifest.kind, &manifest.tier, &manifest.source)
        && of(other) == of(manifest)
}

/// The middle one; `None` of none.
fn median(mut sizes: Vec<u64>) -> Option<u64> {
    sizes.sort_unstable();
    sizes.get(sizes.len() / 2).copied()
}

/// Sorts backups by which is due to be verified: those never looked at so closely first, then by the age of that look. One
/// that was found damaged was looked at: it waits for its turn like the others.
pub fn sort_by_due(backups: &mut [Backup], level: Level) {
    backups.sort_by_cached_key(|backup| {
        let is_such = |note: &&Verification| note.level >= level || note.verdict == Verdict::Failed;
        let last = backup.attested.last_verified.as_ref().filter(is_such);
        (last.map(|note| note.at), backup.manifest.stopped_at)
    });
}

/// How many stored bytes may be read in one go. What could not be read has read nothing.
#[derive(Debug, Clone, Copy)]
pub struct ReadBudget {
    limit: ByteSize,
    read_bytes: u64,
    is_spent: bool,
}

impl ReadBudget {
    /// A budget of which nothing is spent.
    #[must_use]
    pub fn new(limit: ByteSize) -> Self {
        Self { limit, read_bytes: 0, is_spent: false }
    }

    /// Tells whether one more backup may be read: the first may, however large it is. Where one does not fit, none that
    /// comes after it does.
    pub fn covers(&mut self, backup: &Backup) -> bool {
        let after = self.read_bytes.saturating_add(backup.manifest.size_bytes());
        self.is_spent |= self.read_bytes > 0 && after > self.limit.0;
        !self.is_spent
    }

    /// Says how many bytes were read of one.
    pub fn took(&mut self, read_bytes: u64) {
        self.read_bytes = self.read_bytes.saturating_add(read_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{Demands, judge};
    use crate::base::Digest;
    use crate::catalog::attest::Attested;
    use crate::catalog::{Backup, DumpFacts, DumpFormat, KIND_POSTGRES_DUMP, Manifest, ManifestObject, ObjectRole};

    fn dump(id: u32, (dbname, partial): (&str, bool), size_bytes: u64) -> Backup {
        let at = "2026-01-28T14:30:00Z".parse().expect("a time");
        let mut manifest = Manifest::new(format!("b{id}"), KIND_POSTGRES_DUMP, "main", (at, at));
        manifest.dump = Some(DumpFacts {
            dbname: dbname.to_owned(),
            format: DumpFormat::Custom,
            server_version: "18.1".to_owned(),
            program_version: "18.1".to_owned(),
            system_id: None,
            partial,
            state: Default::default(),
        });
        manifest.objects = vec![ManifestObject::new("database.dump", size_bytes, Digest::of(b""), ObjectRole::Dump)];
        let (store, prefix, digest) = ("primary".to_owned(), "main".to_owned(), Digest::of(b"manifest"));
        Backup { store, prefix, manifest, digest, attested: Attested::default(), missing: Vec::new() }
    }

    #[test]
    fn the_size_of_a_dump_is_held_against_whole_dumps_of_the_same_database_only() {
        let (shop, part, small) = (("shop", false), ("shop", true), ("zeta", false));
        let like = [dump(1, shop, 1000), dump(2, part, 10), dump(3, part, 12), dump(4, small, 10), dump(5, small, 11)];
        let faults =
            |backup: &Backup| judge(backup, &like, &Demands { within_percent: Some(20), ..Demands::default() });
        assert!(faults(&dump(9, shop, 1100)).is_empty());
        assert!(faults(&dump(9, small, 10)).is_empty() && faults(&dump(9, part, 11)).is_empty());
        assert_eq!(faults(&dump(9, shop, 100)).len(), 1);
        assert!(faults(&dump(9, ("new", false), 7)).is_empty(), "nothing is known of it yet");
    }
}
