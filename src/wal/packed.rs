//! WAL files as the archive keeps them: as they are, or compressed and encrypted.
//!
//! What a reader must know stands in the object's metadata, since a segment has no manifest: the digest and size
//! of the plain bytes, and how the stored ones were made of them. A segment is small: its stored bytes are made in memory,
//! so that all of this is known before the first one leaves.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;

use super::push::WalFile;
use super::unfinished::Unfinished;
use super::{Identity, WalError};
use crate::action::{
    Encoding, Encrypted, NoSecrets, ObjectFacts, ObjectKey, PlainFacts, ReadStore, Secrets, StoreError,
};
use crate::base::Digest;
use crate::catalog::{self, CatalogError, packed_wal_key, wal_file_of, wal_objects};
use crate::language::inventory::StoreEntry;
use crate::pgformat::WalFileName;
use crate::transfer::{AtOnce, Expected, Packed, Packing, TransferError, Unpacking};

/// The largest file a WAL archive takes: the largest segment.
pub(super) const LIMIT_BYTES: u64 = 1 << 30;
/// Encryption and compression that does nothing make an object a little longer than its content.
const STORED_LIMIT_BYTES: u64 = LIMIT_BYTES + (LIMIT_BYTES >> 4);

/// What is unpacked at a time where it flows.
const BLOCK_BYTES: usize = 256 << 10;

pub(super) const SHA256: &str = "sha256";
pub(super) const PLAIN_SHA256: &str = "plain-sha256";
pub(super) const PLAIN_SIZE: &str = "plain-size";
pub(super) const ENCODING: &str = "encoding";
pub(super) const SYSTEM_ID: &str = "system_id";

/// What encrypted WAL is read with.
#[derive(Clone, Copy)]
pub struct Keys<'a> {
    /// The settings of the store: they name the secrets, and tell how new objects are packed.
    pub settings: Option<&'a StoreEntry>,
    /// Where the secrets come from.
    pub secrets: &'a dyn Secrets,
}

impl Keys<'_> {
    /// No keys: for whoever only looks at names.
    #[must_use]
    pub fn none() -> Self {
        Self { settings: None, secrets: &NoSecrets }
    }

    /// How names of new segments end, which are looked for first. Nothing where the settings make no sense: who
    /// writes is told.
    fn ending(&self) -> String {
        let packing = self.settings.and_then(|settings| Packing::of(settings, self.secrets).ok());
        packing.map(|packing| packing.suffix()).unwrap_or_default()
    }
}

/// Where the WAL of one cluster is read from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The store.
    pub store: &'a dyn ReadStore,
    /// The prefix inside it.
    pub prefix: &'a str,
    /// The cluster.
    pub identity: Identity,
    /// The keys.
    pub keys: Keys<'a>,
}

/// A file ready to be stored.
pub(super) struct Parcel {
    pub(super) key: ObjectKey,
    pub(super) stored: Bytes,
    pub(super) sha256: Digest,
    pub(super) plain_sha256: Digest,
    pub(super) metadata: BTreeMap<String, String>,
}

impl Parcel {
    /// Packs a file under the name it gets in the archive. Only segments are packed.
    pub(super) async fn of(
        file: &WalFile,
        (prefix, identity): (&str, &Identity),
        packing: &Packing,
    ) -> Result<Self, WalError> {
        let (plain, name) = (Packing::plain(), file.name);
        let packing = match name {
            WalFileName::Segment(_) | WalFileName::PartialSegment(_) => packing,
            WalFileName::History(_) | WalFileName::BackupHistory { .. } => &plain,
        };
        let key = packed_wal_key(prefix, identity.system_id, name, &packing.suffix())?;
        let (stored, packed) = match AtOnce::packing(packing) {
            Some(at_once) => pack(file, at_once).await?,
            None => seal(file, packing).await?,
        };
        let no_digest = || TransferError::Settings(format!("no digest of the plain bytes of `{key}` was taken"));
        let plain_sha256 = packed.plain.sha256.ok_or_else(no_digest)?;
        let mut metadata = BTreeMap::from([
            (SHA256.to_owned(), packed.stored_sha256.to_string()),
            (SYSTEM_ID.to_owned(), identity.system_id.to_string()),
        ]);
        if !packing.encoding().is_plain() {
            let encoding = serde_json::to_string(&brief(packing.encoding()));
            let encoding = encoding.map_err(|error| TransferError::Settings(error.to_string()))?;
            metadata.insert(ENCODING.to_owned(), encoding);
            metadata.insert(PLAIN_SHA256.to_owned(), plain_sha256.to_string());
            metadata.insert(PLAIN_SIZE.to_owned(), packed.plain.size_bytes.to_string());
        }
        if let Some(unfinished) = &file.unfinished {
            unfinished.tell(&mut metadata);
        }
        Ok(Self { key, stored: stored.into(), sha256: packed.stored_sha256, plain_sha256, metadata })
    }
}

/// Packs a file as it is read.
async fn pack(file: &WalFile, at_once: AtOnce) -> Result<(Vec<u8>, Packed), WalError> {
    let file = file.clone();
    let packing = tokio::task::spawn_blocking(move || {
        let broken = |source| TransferError::Io { what: "pack the file", source };
        let packed = at_once.pack(&mut file.open()?).map_err(broken)?;
        file.proves(packed.1.plain.size_bytes)?;
        Ok(packed)
    });
    packing.await.map_err(|error| WalError::Usage(format!("packing broke off: {error}")))?
}

/// Packs a file in ways that take a journey.
async fn seal(file: &WalFile, packing: &Packing) -> Result<(Vec<u8>, Packed), WalError> {
    let body = Box::new(tokio::fs::File::from_std(file.open()?));
    let (mut body, packed) = packing.seal(body).split();
    let mut stored = Vec::new();
    let broken = |source| TransferError::Io { what: "pack the file", source };
    body.read_to_end(&mut stored).await.map_err(broken)?;
    let packed =
        packed().ok_or_else(|| TransferError::Settings(format!("`{}` was not packed to its end", file.name)))?;
    file.proves(packed.plain.size_bytes)?;
    Ok((stored, packed))
}

/// The encoding without the public keys: none is needed to read, and S3 takes no more than 2 KB of metadata.
fn brief(encoding: &Encoding) -> Encoding {
    let mut brief = encoding.clone();
    if let Some(Encrypted::Age { recipients }) = &mut brief.encryption {
        recipients.clear();
    }
    brief
}

/// An object of the archive with its stored bytes, proven against the digest it was stored with.
pub(super) struct Stored {
    pub(super) bytes: Vec<u8>,
    pub(super) facts: ObjectFacts,
}

impl Stored {
    /// Reads an object whole.
    pub(super) async fn read(store: &dyn ReadStore, key: &ObjectKey) -> Result<Self, CatalogError> {
        let (facts, bytes) = catalog::read_told(store, key, STORED_LIMIT_BYTES).await?;
        let damaged = |what: &str| CatalogError::Damaged { key: key.to_string(), what: what.to_owned() };
        match facts.sha256() {
            None => Err(damaged("its digest is missing")),
            Some(digest) if digest != Digest::of(&bytes) => Err(damaged("its SHA-256 differs")),
            Some(_) => Ok(Self { bytes, facts }),
        }
    }

    /// SHA-256 of the plain bytes, as they were when it was stored.
    pub(super) fn plain_sha256(&self) -> Option<Digest> {
        plain_sha256(&self.facts)
    }

    /// Gives the plain bytes to what is made for so many of them. They are proven when it is given back.
    pub(super) async fn unpack<W: Plainly>(
        self,
        keys: Keys<'_>,
        make: &(dyn Fn(u64) -> Result<W, WalError> + Sync),
    ) -> Result<W, WalError> {
        let object = self.facts.key.to_string();
        let damaged = |what: &str| TransferError::Damaged { object: object.clone(), what: what.to_owned() };
        let name = object.rsplit('/').next().unwrap_or_default();
        let packed = wal_file_of(name).is_some_and(|(_, ending)| !ending.is_empty());
        let Some(encoding) = self.facts.metadata.get(ENCODING) else {
            if packed {
                return Err(damaged("its metadata do not tell how it was packed").into());
            }
            let mut to = make(self.bytes.len() as u64)?;
            return to.write_all(&self.bytes).map(|()| to).map_err(|error| in_reading(&object, error).into());
        };
        let encoding: Encoding =
            serde_json::from_str(encoding).map_err(|_| damaged("it was packed in a way that is not known"))?;
        let plain = self.facts.metadata.get(PLAIN_SIZE).and_then(|text| text.parse().ok()).zip(self.plain_sha256());
        let plain = plain.filter(|(size, _)| *size <= LIMIT_BYTES);
        let (size_bytes, sha256) = plain.ok_or_else(|| damaged("its metadata do not tell the plain bytes"))?;
        let packed = Contents { object, encoding, bytes: self.bytes.into(), plain: PlainFacts { size_bytes, sha256 } };
        let to = make(size_bytes)?;
        let (packed, to) = match AtOnce::of(&packed.encoding) {
            Some(at_once) => match packed.at_once(at_once, to).await? {
                Ok(to) => return Ok(to),
                Err(left) => *left,
            },
            None => (packed, to),
        };
        packed.by_journey(keys, to).await
    }
}

/// What plain bytes are given to.
pub trait Plainly: Write + Send + 'static {}

impl<W: Write + Send + 'static> Plainly for W {}

/// A packed object in memory, its stored bytes proven.
struct Contents {
    object: String,
    encoding: Encoding,
    bytes: Bytes,
    plain: PlainFacts,
}

impl Contents {
    /// Unpacks it, unless only a journey can: then nothing was written.
    async fn at_once<W: Plainly>(self, at_once: AtOnce, mut to: W) -> Result<Result<W, Box<(Self, W)>>, WalError> {
        let unpacking =
            tokio::task::spawn_blocking(move || match at_once.unpack(&self.bytes, self.plain.into(), &mut to) {
                Some(done) => done.map(|()| Ok(to)).map_err(|error| in_reading(&self.object, error)),
                None => Ok(Err(Box::new((self, to)))),
            });
        let done = unpacking.await.map_err(|error| WalError::Usage(format!("unpacking broke off: {error}")))?;
        Ok(done?)
    }

    async fn by_journey<W: Plainly>(self, keys: Keys<'_>, mut to: W) -> Result<W, WalError> {
        let stored = PlainFacts { size_bytes: self.bytes.len() as u64, sha256: Digest::of(&self.bytes) };
        let expected = Expected { stored, plain: self.plain.into() };
        let settings = keys.settings.and_then(|store| store.encryption.as_ref());
        let mut body =
            Unpacking::of(&self.encoding, settings, keys.secrets)?.open(Box::new(Cursor::new(self.bytes)), expected);
        let mut block = BytesMut::with_capacity(BLOCK_BYTES);
        let broken = |error| in_reading(&self.object, error);
        while body.read_buf(&mut block).await.map_err(broken)? > 0 {
            to.write_all(&block).map_err(broken)?;
            block.clear();
        }
        Ok(to)
    }
}

/// Names what failed: the object, or where its content was written to.
fn in_reading(object: &str, error: std::io::Error) -> TransferError {
    match TransferError::of_reading(object, error) {
        TransferError::Io { source, .. } => TransferError::Io { what: "unpack the file", source },
        other @ (TransferError::Store(_)
        | TransferError::Key(_)
        | TransferError::Damaged { .. }
        | TransferError::WrongKey { .. }
        | TransferError::Settings(_)) => other,
    }
}

/// SHA-256 of an object's plain bytes, as they were when it was stored.
pub(super) fn plain_sha256(facts: &ObjectFacts) -> Option<Digest> {
    match facts.metadata.get(PLAIN_SHA256) {
        Some(text) => text.parse().ok(),
        None => facts.sha256(),
    }
}

/// Reads one file of the archive, verified and unpacked, whatever the settings were when it was stored.
///
/// # Errors
/// Fails with [`StoreError::NotFound`] when no object holds it; what is damaged or cannot be decrypted is
/// an error of its own.
pub async fn read_file(source: &Source<'_>, name: WalFileName) -> Result<Vec<u8>, WalError> {
    // A buffer that grows would be copied, and twice as large in the end.
    read_into(source, name, &|size| Ok(Vec::with_capacity(usize::try_from(size).unwrap_or_default()))).await
}

/// Reads one file of the archive as [`read_file`] does, into what is made for so many bytes. What was made for an object
/// that is damaged is dropped.
///
/// # Errors
/// Fails as [`read_file`], and when nothing can be made or written.
pub(super) async fn read_into<W: Plainly>(
    source: &Source<'_>,
    name: WalFileName,
    make: &(dyn Fn(u64) -> Result<W, WalError> + Sync),
) -> Result<W, WalError> {
    load(source, name).await?.unpack(make).await
}

/// A file of an archive with its stored bytes in memory and proven, not unpacked yet.
pub struct Loaded<'a> {
    name: WalFileName,
    stored: Stored,
    keys: Keys<'a>,
}

impl Loaded<'_> {
    /// The file.
    pub(super) fn name(&self) -> WalFileName {
        self.name
    }

    /// SHA-256 of the plain bytes, as they were when it was stored.
    pub(super) fn plain_sha256(&self) -> Option<Digest> {
        self.stored.plain_sha256()
    }

    /// Gives the plain bytes to what is made for so many of them. They are proven when it is given back.
    ///
    /// # Errors
    /// Fails when it is damaged or cannot be decrypted.
    pub(super) async fn unpack<W: Plainly>(
        self,
        make: &(dyn Fn(u64) -> Result<W, WalError> + Sync),
    ) -> Result<W, WalError> {
        self.stored.unpack(self.keys, make).await.map_err(|error| in_archive(self.name, error))
    }
}

/// Loads one file from one archive, however it was packed.
pub(super) async fn load<'a>(source: &Source<'a>, name: WalFileName) -> Result<Loaded<'a>, WalError> {
    let Source { store, prefix, keys, .. } = *source;
    let system_id = source.identity.system_id;
    let (mut likely, ending) = (vec![packed_wal_key(prefix, system_id, name, "")?], keys.ending());
    if !ending.is_empty() {
        likely.insert(0, packed_wal_key(prefix, system_id, name, &ending)?);
    }
    let (mut begun, wanted) = (None, (store, name));
    if let Some(stored) = first_finished(wanted, &likely, &mut begun).await? {
        return Ok(Loaded { name, stored, keys });
    }
    // Packed in another way: the settings have changed since, and where nothing may be removed the beginning of a segment
    // stays beside the whole of it.
    let mut others = wal_objects(store, prefix, system_id, name).await?;
    others.retain(|key| !likely.contains(key));
    let found = first_finished(wanted, &others, &mut begun).await?;
    match found.or(begun.map(|(_, stored)| stored)) {
        Some(stored) => Ok(Loaded { name, stored, keys }),
        None => {
            Err(StoreError::NotFound { store: store.name().to_owned(), key: likely.swap_remove(0).to_string() }.into())
        }
    }
}

/// Loads the file out of the first of several objects that does not say that it is only its beginning; of those that do,
/// the longest is kept in `begun`.
async fn first_finished(
    (store, name): (&dyn ReadStore, WalFileName),
    keys: &[ObjectKey],
    begun: &mut Option<(Unfinished, Stored)>,
) -> Result<Option<Stored>, WalError> {
    for key in keys {
        let Some(stored) = load_object((store, key), name).await? else { continue };
        let Some(copy) = Unfinished::told(&stored.facts) else { return Ok(Some(stored)) };
        if begun.as_ref().is_none_or(|(longest, _)| longest.is_shorter_than(&copy)) {
            *begun = Some((copy, stored));
        }
    }
    Ok(None)
}

/// Loads the file out of one object; `None` when there is no such object.
async fn load_object(
    (store, key): (&dyn ReadStore, &ObjectKey),
    name: WalFileName,
) -> Result<Option<Stored>, WalError> {
    match Stored::read(store, key).await {
        Ok(stored) => Ok(Some(stored)),
        Err(CatalogError::Store(StoreError::NotFound { .. })) => Ok(None),
        Err(CatalogError::Damaged { what, .. }) => Err(WalError::Damaged { name, what }),
        Err(error) => Err(error.into()),
    }
}

/// A failure to unpack what the archive holds.
fn in_archive(name: WalFileName, error: WalError) -> WalError {
    if let WalError::Transfer(TransferError::Damaged { what, .. }) = error {
        return WalError::Damaged { name, what };
    }
    error
}
