//! WAL files as the archive keeps them: as they are, or compressed and encrypted.
//!
//! What a reader must know stands in the object's metadata, since a segment has no manifest: the digest and size
//! of the plain bytes, and how the stored ones were made of them. A segment is small: it is packed in memory, so
//! that all of this is known before its first byte leaves.

use std::collections::BTreeMap;
use std::io::Cursor;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use super::fetch::graver;
use super::push::WalFile;
use super::{Identity, WalError};
use crate::action::{
    Encoding, Encrypted, NoSecrets, ObjectFacts, ObjectKey, PlainFacts, ReadStore, Secrets, StoreError,
};
use crate::base::Digest;
use crate::catalog::{self, CatalogError, packed_wal_key, wal_file_of, wal_objects};
use crate::language::inventory::StoreEntry;
use crate::pgformat::WalFileName;
use crate::transfer::{Expected, Packing, TransferError, Unpacking};

/// The largest file a WAL archive takes: the largest segment.
pub(super) const LIMIT_BYTES: u64 = 1 << 30;
/// Encryption and compression that does nothing make an object a little longer than its content.
const STORED_LIMIT_BYTES: u64 = LIMIT_BYTES + (LIMIT_BYTES >> 4);

const SHA256: &str = "sha256";
const PLAIN_SHA256: &str = "plain-sha256";
const PLAIN_SIZE: &str = "plain-size";
const ENCODING: &str = "encoding";
const SYSTEM_ID: &str = "system_id";

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
        let (mut body, packed) = packing.seal(Box::new(Cursor::new(file.bytes.clone()))).split();
        let mut stored = Vec::new();
        let broken = |source| TransferError::Io { what: "pack the file", source };
        body.read_to_end(&mut stored).await.map_err(broken)?;
        let packed = packed().ok_or_else(|| TransferError::Settings(format!("`{key}` was not packed to its end")))?;
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
        Ok(Self { key, stored: stored.into(), sha256: packed.stored_sha256, plain_sha256, metadata })
    }
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
    /// Reads an object whole. Both questions are asked at once: a round trip counts here.
    pub(super) async fn read(store: &dyn ReadStore, key: &ObjectKey) -> Result<Self, CatalogError> {
        let facts = async { Ok(store.head(key).await?) };
        let (facts, bytes) = tokio::try_join!(facts, catalog::read_small(store, key, STORED_LIMIT_BYTES))?;
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

    /// Gives the plain bytes.
    async fn unpack(self, keys: Keys<'_>) -> Result<Vec<u8>, TransferError> {
        let object = self.facts.key.to_string();
        let damaged = |what: &str| TransferError::Damaged { object: object.clone(), what: what.to_owned() };
        let told = |name: &str| self.facts.metadata.get(name);
        let name = object.rsplit('/').next().unwrap_or_default();
        let packed = wal_file_of(name).is_some_and(|(_, ending)| !ending.is_empty());
        let Some(encoding) = told(ENCODING) else {
            return if packed { Err(damaged("its metadata do not tell how it was packed")) } else { Ok(self.bytes) };
        };
        let encoding: Encoding =
            serde_json::from_str(encoding).map_err(|_| damaged("it was packed in a way that is not known"))?;
        let plain = told(PLAIN_SIZE).and_then(|text| text.parse().ok()).zip(self.plain_sha256());
        let plain = plain.filter(|(size, _)| *size <= LIMIT_BYTES);
        let (size_bytes, sha256) = plain.ok_or_else(|| damaged("its metadata do not tell the plain bytes"))?;
        let stored = PlainFacts { size_bytes: self.bytes.len() as u64, sha256: Digest::of(&self.bytes) };
        let expected = Expected { stored, plain: PlainFacts { size_bytes, sha256 }.into() };
        let unpacking =
            Unpacking::of(&encoding, keys.settings.and_then(|store| store.encryption.as_ref()), keys.secrets)?;
        // A buffer that grows would be copied, and twice as large in the end.
        let mut plain = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or_default());
        let mut body = unpacking.open(Box::new(Cursor::new(self.bytes)), expected);
        let broken = |error| TransferError::of_reading(&object, error);
        body.read_to_end(&mut plain).await.map_err(broken)?;
        Ok(plain)
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
    let Source { store, prefix, .. } = *source;
    let system_id = source.identity.system_id;
    let (mut likely, ending) = (vec![packed_wal_key(prefix, system_id, name, "")?], source.keys.ending());
    if !ending.is_empty() {
        likely.insert(0, packed_wal_key(prefix, system_id, name, &ending)?);
    }
    for key in &likely {
        if let Some(bytes) = read_object(source, key, name).await? {
            return Ok(bytes);
        }
    }
    // Packed in another way: the settings have changed since.
    for key in wal_objects(store, prefix, system_id, name).await? {
        if let Some(bytes) = read_object(source, &key, name).await? {
            return Ok(bytes);
        }
    }
    Err(StoreError::NotFound { store: store.name().to_owned(), key: likely.swap_remove(0).to_string() }.into())
}

/// Reads one file from the first of several archives of a cluster that has it whole.
///
/// # Errors
/// Fails with [`StoreError::NotFound`] when none of them has it, and with what one of them failed with when the others
/// lack it: it may be there.
pub async fn read_first(sources: &[Source<'_>], name: WalFileName) -> Result<Vec<u8>, WalError> {
    let (mut absent, mut failure) = (None, None);
    for source in sources {
        match read_file(source, name).await {
            Ok(bytes) => return Ok(bytes),
            Err(error @ WalError::Store(StoreError::NotFound { .. })) => absent = absent.or(Some(error)),
            Err(error) => failure = Some(graver(failure, error)),
        }
    }
    let none = || WalError::Usage("there is no store to read from".to_owned());
    Err(failure.or(absent).unwrap_or_else(none))
}

/// Reads the file out of one object; `None` when there is no such object.
async fn read_object(source: &Source<'_>, key: &ObjectKey, name: WalFileName) -> Result<Option<Vec<u8>>, WalError> {
    match Stored::read(source.store, key).await {
        Ok(stored) => stored.unpack(source.keys).await.map(Some).map_err(|error| in_archive(name, error)),
        Err(CatalogError::Store(StoreError::NotFound { .. })) => Ok(None),
        Err(CatalogError::Damaged { what, .. }) => Err(WalError::Damaged { name, what }),
        Err(error) => Err(error.into()),
    }
}

/// A failure to unpack what the archive holds.
fn in_archive(name: WalFileName, error: TransferError) -> WalError {
    match error {
        TransferError::Damaged { what, .. } => WalError::Damaged { name, what },
        other @ (TransferError::Store(_)
        | TransferError::Key(_)
        | TransferError::Io { .. }
        | TransferError::WrongKey { .. }
        | TransferError::Settings(_)) => WalError::Transfer(other),
    }
}
