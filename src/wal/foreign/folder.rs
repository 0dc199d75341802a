//! The folder: what lies there, and one file of it, plain and proven.

use std::collections::VecDeque;
use std::io::{self, Cursor};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::sync::OnceCell;

use super::content;
use super::name::foreign_wal_file;
use crate::action::{ObjectFacts, ObjectKey, ReadStore, Secrets, StoreError};
use crate::language::inventory::Encryption;
use crate::pgformat::{SegmentHeader, SegmentName, SystemId, WalFileName};
use crate::transfer::{Encoding, Recognition, TransferError, Unpacking};
use crate::wal::packed::LIMIT_BYTES;

/// How many files are kept in memory: the one that is asked for, and the one before it.
const KEPT: usize = 2;
/// How many files are asked whose they are.
const ASKED: usize = 4;

/// A folder of WAL in a store, as another program filled it.
pub struct ForeignFolder {
    /// The store.
    store: Arc<dyn ReadStore>,
    /// The folder, with a `/` at the end unless it is the store's root.
    folder: String,
    /// The keys of the store's settings.
    keys: Option<Encryption>,
    /// The secrets they name.
    secrets: Arc<dyn Secrets>,
    owner: OnceCell<SystemId>,
    kept: Mutex<VecDeque<(ObjectKey, Slot)>>,
}

type Slot = Arc<OnceCell<Arc<Loaded>>>;

/// A file of the folder: plain, and what its name says.
pub(super) struct Loaded {
    /// Its plain bytes.
    pub(super) bytes: Bytes,
    /// What the store tells of it.
    pub(super) facts: ObjectFacts,
}

/// A file that lies in the folder.
pub(super) struct Lying {
    /// What it holds.
    pub(super) name: WalFileName,
    /// How its name ends.
    pub(super) ending: String,
    /// What the store tells of it.
    pub(super) facts: ObjectFacts,
}

impl ForeignFolder {
    /// The folder `prefix` of a store; the settings' keys read what is encrypted there. Touches nothing yet.
    #[must_use]
    pub fn new(
        store: Arc<dyn ReadStore>,
        prefix: &str,
        (keys, secrets): (Option<&Encryption>, Arc<dyn Secrets>),
    ) -> Self {
        let trimmed = prefix.trim_end_matches('/');
        let folder = if trimmed.is_empty() { String::new() } else { format!("{trimmed}/") };
        Self { store, folder, keys: keys.cloned(), secrets, owner: OnceCell::new(), kept: Mutex::default() }
    }

    /// Where it is, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{}/{}", self.store.name(), self.folder.trim_end_matches('/'))
    }

    /// Lists the WAL files whose names begin with `start`.
    pub(super) async fn list(&self, start: &str) -> Result<Vec<Lying>, StoreError> {
        let listed = self.store.list(&format!("{}{start}", self.folder)).await?;
        let lying = listed.into_iter().filter_map(|facts| {
            let (name, ending) = foreign_wal_file(facts.key.as_str().strip_prefix(&self.folder)?)?;
            let ending = ending.to_owned();
            Some(Lying { name, ending, facts })
        });
        Ok(lying.collect())
    }

    /// Tells whose WAL it is, as its first readable segment says.
    ///
    /// # Errors
    /// Fails as a passing failure when no segment lies there: then nothing says that what is absent is absent.
    pub(super) async fn owner(&self) -> Result<SystemId, StoreError> {
        self.owner.get_or_try_init(|| self.ask_owner()).await.copied()
    }

    async fn ask_owner(&self) -> Result<SystemId, StoreError> {
        let mut lying = self.list("").await?;
        lying.retain(|file| match file.name {
            WalFileName::Segment(_) => true,
            WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. } => false,
        });
        for file in lying.iter().take(ASKED) {
            let bytes = match self.plain(&file.facts.key).await {
                Ok((bytes, _)) => bytes,
                Err(StoreError::Refused { .. }) if lying.len() > 1 => continue,
                Err(error) => return Err(error),
            };
            if let Ok(header) = SegmentHeader::parse(&bytes) {
                return Ok(header.system_id);
            }
        }
        Err(StoreError::Unavailable {
            store: self.store.name().to_owned(),
            what: format!("no readable WAL segment lies in the folder `{}`", self.folder),
            source: io::Error::from(io::ErrorKind::NotFound),
        })
    }

    /// Reads a file by its name in the folder, plain and proven to be what it says, of this cluster.
    ///
    /// # Errors
    /// Fails as the store does, and refuses what is damaged, of another cluster, or cannot be decrypted.
    pub(super) async fn read(&self, file: &str, system_id: SystemId) -> Result<Arc<Loaded>, StoreError> {
        let text = format!("{}{file}", self.folder);
        let key: ObjectKey = text.parse().map_err(|_| self.refused(format!("`{text}` is no key")))?;
        let slot = self.slot(&key);
        let loaded = slot.get_or_try_init(|| self.load(&key, system_id)).await?;
        Ok(Arc::clone(loaded))
    }

    /// As [`Self::read`], and the record that crosses into it from the segment before is held against its checksum.
    pub(super) async fn read_joined(&self, file: &str, system_id: SystemId) -> Result<Arc<Loaded>, StoreError> {
        let loaded = self.read(file, system_id).await?;
        let Some((WalFileName::Segment(segment), ending)) = foreign_wal_file(file) else { return Ok(loaded) };
        if !content::is_continued(&loaded.bytes) {
            return Ok(loaded);
        }
        let size = SegmentHeader::parse(&loaded.bytes).map(|header| header.segment_size);
        let Some(before) = size.ok().and_then(|size| segment.prev(size)) else { return Ok(loaded) };
        let Some(earlier) = self.beside(before, ending, system_id).await? else { return Ok(loaded) };
        let (bytes, name) = (loaded.bytes.clone(), file.to_owned());
        let joined = aside(move || content::join((before, &earlier.bytes), (segment, &bytes)));
        match joined.await? {
            Ok(()) => Ok(loaded),
            Err(halt) => Err(self.refused(format!("`{name}` does not go on where `{before}` ends: {halt}"))),
        }
    }

    /// The segment before one; `None` when it does not lie there or proves nothing itself.
    async fn beside(
        &self,
        before: SegmentName,
        ending: &str,
        system_id: SystemId,
    ) -> Result<Option<Arc<Loaded>>, StoreError> {
        match self.read(&format!("{before}{ending}"), system_id).await {
            Ok(loaded) => Ok(Some(loaded)),
            Err(StoreError::NotFound { .. } | StoreError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn slot(&self, key: &ObjectKey) -> Slot {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, slot)) = kept.iter().find(|(held, _)| held == key) {
            return Arc::clone(slot);
        }
        let slot = Slot::default();
        kept.push_back((key.clone(), Arc::clone(&slot)));
        if kept.len() > KEPT {
            kept.pop_front();
        }
        slot
    }

    async fn load(&self, key: &ObjectKey, system_id: SystemId) -> Result<Arc<Loaded>, StoreError> {
        let file = key.as_str().strip_prefix(&self.folder).unwrap_or_default();
        let held = foreign_wal_file(file).map(|(name, _)| name);
        let name = held.ok_or_else(|| self.refused(format!("`{key}` is no WAL file")))?;
        let (bytes, facts) = self.plain(key).await?;
        let shared = bytes.clone();
        let proven = aside(move || content::prove(name, &shared, Some(system_id))).await?;
        proven.map_err(|error| self.refused(format!("`{key}` cannot be used: {error}")))?;
        Ok(Arc::new(Loaded { bytes, facts }))
    }

    /// Reads an object whole and unpacks it; nothing is proven yet.
    async fn plain(&self, key: &ObjectKey) -> Result<(Bytes, ObjectFacts), StoreError> {
        let facts = self.store.head(key);
        let body = async { self.bounded(key, Box::new(self.store.get(key).await?)).await };
        let (facts, stored) = tokio::try_join!(facts, body)?;
        let encoding = self.encoding(key, &stored).await?;
        if encoding.is_plain() {
            return Ok((stored, facts));
        }
        let unpacking = Unpacking::of(&encoding, self.keys.as_ref(), &*self.secrets);
        let unpacking = unpacking.map_err(|error| self.broken(error))?;
        let plain = self.bounded(key, unpacking.open_foreign(Box::new(Cursor::new(stored)), None)).await?;
        Ok((plain, facts))
    }

    async fn encoding(&self, key: &ObjectKey, stored: &[u8]) -> Result<Encoding, StoreError> {
        if SegmentHeader::parse(stored).is_ok() {
            return Ok(Encoding::default());
        }
        let recognition = Recognition { store: &*self.store, keys: self.keys.as_ref(), secrets: &*self.secrets };
        recognition.encoding(key).await.map_err(|error| self.broken(error))
    }

    /// Reads to the end what may not be longer than the largest segment.
    async fn bounded(&self, key: &ObjectKey, body: crate::action::ByteStream) -> Result<Bytes, StoreError> {
        let mut bytes = Vec::new();
        let read = body.take(LIMIT_BYTES + 1).read_to_end(&mut bytes).await;
        read.map_err(|error| self.broken(TransferError::of_reading(key.as_str(), error)))?;
        if bytes.len() as u64 > LIMIT_BYTES {
            return Err(self.refused(format!("`{key}` is longer than any WAL file")));
        }
        Ok(bytes.into())
    }

    fn broken(&self, error: TransferError) -> StoreError {
        match error {
            TransferError::Store(error) => error,
            TransferError::Io { what, source } => {
                StoreError::Unavailable { store: self.store.name().to_owned(), what: format!("cannot {what}"), source }
            }
            TransferError::Key(error) => self.refused(error.to_string()),
            other @ (TransferError::Damaged { .. } | TransferError::WrongKey { .. } | TransferError::Settings(_)) => {
                self.refused(other.to_string())
            }
        }
    }

    fn refused(&self, what: String) -> StoreError {
        StoreError::Refused { store: self.store.name().to_owned(), what }
    }
}

/// Does work that keeps a processor busy without holding up what waits for the store.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Unavailable {
        store: "wal".to_owned(),
        what: "proving WAL broke off".to_owned(),
        source: io::Error::other(error),
    })
}
