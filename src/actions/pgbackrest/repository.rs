//! The archive in pgBackRest's repository, shown as a store whose keys are those of our own archive.
//!
//! So the one model of what can be recovered, the reader of commit times and the proof of an archive work on it as on
//! every other one. Names come from `repo-ls`, histories from `repo-get`, segments from `archive-get`, which verifies,
//! decrypts and decompresses them. It is only read: what goes into it goes through `archive-push`.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::KIND;
use super::stanza::{QUIET, Stanza};
use super::view::{Listed, StanzaStatus};
use crate::action::{
    ActionError, BoxFuture, ByteStream, Files, GetOptions, ObjectFacts, ObjectKey, PutOptions, PutOutcome, ReadHost,
    ReadStore, Store, StoreError,
};
use crate::base::{Digest, Timestamp};
use crate::catalog::wal_key;
use crate::pgformat::{SegmentName, SegmentSize, SystemId, WalFileName};

/// How many hex digits of a segment's name its folder has.
const FOLDER_DIGITS: usize = 16;

/// The exit code for a file that is not there.
const MISSING: i32 = 55;

/// Which archive of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shelved {
    /// Its id, for example `15-1`.
    pub(super) id: String,
    /// The repository.
    pub(super) repo: u32,
    /// The cluster.
    pub(super) system_id: SystemId,
    /// The size of its segments.
    pub(super) size: SegmentSize,
}

impl Shelved {
    /// The archive beside a backup; `None` for one that has no place in the WAL.
    pub(super) fn beside(backup: &Listed) -> Option<Self> {
        let size = backup.segment_size()?;
        Some(Self { id: backup.archive_id.clone()?, repo: backup.repo, system_id: backup.system_id?, size })
    }
}

/// Where segments are read to.
#[derive(Clone)]
pub(super) struct Desk {
    /// A folder that the server's user may write to; a segment is in it only while it is read.
    pub(super) folder: PathBuf,
    /// A data directory of the cluster: pgBackRest asks it which archive is its own.
    pub(super) pgdata: PathBuf,
    /// The files of the host.
    pub(super) files: Arc<dyn Files>,
}

/// An archive in a repository.
pub(super) struct Repository {
    name: String,
    stanza: Stanza,
    shelved: Shelved,
    host: Arc<dyn ReadHost>,
    /// `None`: nothing but names and histories is read.
    desk: Option<Desk>,
    /// The last file that was read: whoever asks for its bytes asks for its digest, too.
    last: Mutex<Option<(WalFileName, Bytes)>>,
    /// One file at a time: bytes and digest are asked for at once, and the second one finds the file read.
    turn: Semaphore,
}

impl Repository {
    /// An archive of a stanza. Without a desk only names and histories can be read.
    pub(super) fn new(stanza: &Stanza, shelved: Shelved, host: Arc<dyn ReadHost>, desk: Option<Desk>) -> Self {
        let name = format!("{KIND}:{}", stanza.name);
        Self { name, stanza: stanza.clone(), shelved, host, desk, last: Mutex::new(None), turn: Semaphore::new(1) }
    }

    /// The prefix of its keys.
    pub(super) fn prefix(&self) -> &str {
        &self.stanza.name
    }

    /// Lists one folder of the archive.
    async fn folder(&self, path: &str) -> Result<BTreeMap<String, Entry>, ActionError> {
        let repo = format!("--repo={}", self.shelved.repo);
        let options = [repo, QUIET.to_owned(), "--output=json".to_owned()];
        let text = self.stanza.ask(self.host.as_ref(), self.stanza.words(("repo-ls", &options), &[path])).await?;
        serde_json::from_slice(&text)
            .map_err(|error| ActionError::fatal("the answer of `pgbackrest repo-ls` makes no sense").because(&error))
    }

    fn place(&self) -> String {
        format!("archive/{}/{}", self.stanza.name, self.shelved.id)
    }

    /// Lists the WAL files whose names, or whose timeline's folder, begin with `only`.
    async fn names(&self, only: &Wanted) -> Result<BTreeMap<WalFileName, Entry>, ActionError> {
        let mut found = BTreeMap::new();
        for (name, entry) in self.folder(&self.place()).await? {
            match (entry.is_folder(), name.parse::<WalFileName>()) {
                (true, _) if name.len() == FOLDER_DIGITS && only.may_be_in(&name) => {
                    for (file, entry) in self.folder(&format!("{}/{name}", self.place())).await? {
                        found.extend(wal_file(&file).map(|file| (file, entry)));
                    }
                }
                (false, Ok(history @ WalFileName::History(_))) => {
                    found.insert(history, entry);
                }
                (true | false, Ok(_) | Err(_)) => {}
            }
        }
        Ok(found)
    }

    /// The files that hold a segment, as paths within the repository.
    ///
    /// # Errors
    /// Fails when pgBackRest gives no answer.
    pub(super) async fn files_of(&self, segment: SegmentName) -> Result<Vec<String>, ActionError> {
        Ok(self.entries_of(segment).await?.into_iter().map(|(path, _)| path).collect())
    }

    /// The same, each with what is told of it.
    async fn entries_of(&self, segment: SegmentName) -> Result<Vec<(String, Entry)>, ActionError> {
        let folder = format!("{}/{}", self.place(), &segment.to_string()[..FOLDER_DIGITS]);
        let listed = self.folder(&folder).await?.into_iter();
        let holding = listed.filter(|(file, _)| wal_file(file) == Some(WalFileName::Segment(segment)));
        Ok(holding.map(|(file, entry)| (format!("{folder}/{file}"), entry)).collect())
    }

    /// When a segment was stored; `None` when it is not there.
    async fn stored_at(&self, segment: SegmentName) -> Result<Option<Timestamp>, ActionError> {
        let entries = self.entries_of(segment).await?;
        let times = entries.iter().filter_map(|(_, entry)| entry.time);
        Ok(times.max().and_then(|at| Timestamp::from_second(at).ok()))
    }

    /// Reads one file; `None` when the repository does not have it.
    async fn read(&self, name: WalFileName) -> Result<Option<Bytes>, ActionError> {
        let turn = self.turn.acquire().await;
        let _turn = turn.map_err(|error| ActionError::fatal("the repository is closed").because(&error))?;
        if let Some((known, bytes)) = &*self.last.lock().unwrap_or_else(PoisonError::into_inner)
            && *known == name
        {
            return Ok(Some(bytes.clone()));
        }
        let bytes = match name {
            WalFileName::History(_) => self.history(name).await?,
            WalFileName::Segment(_) | WalFileName::PartialSegment(_) | WalFileName::BackupHistory { .. } => {
                self.segment(name).await?
            }
        };
        if let Some(bytes) = &bytes {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((name, bytes.clone()));
        }
        Ok(bytes)
    }

    async fn history(&self, name: WalFileName) -> Result<Option<Bytes>, ActionError> {
        let options = [format!("--repo={}", self.shelved.repo), QUIET.to_owned()];
        let path = format!("{}/{name}", self.place());
        let words = self.stanza.words(("repo-get", &options), &[&path]);
        let output = self.stanza.ended(self.host.as_ref(), words).await?;
        match output.exit_code {
            Some(0) => Ok(Some(output.stdout.into())),
            Some(MISSING) => Ok(None),
            _ => Err(super::failure::of("pgbackrest repo-get", &output)),
        }
    }

    async fn segment(&self, name: WalFileName) -> Result<Option<Bytes>, ActionError> {
        let desk = self.desk.as_ref().ok_or_else(|| ActionError::fatal("a check reads no segments"))?;
        let path = desk.folder.join(name.to_string());
        let options = [
            format!("--repo={}", self.shelved.repo),
            format!("--pg1-path={}", desk.pgdata.display()),
            QUIET.to_owned(),
            "--no-archive-async".to_owned(),
        ];
        let words = self.stanza.words(("archive-get", &options), &[&name.to_string(), &path.to_string_lossy()]);
        let output = self.stanza.ended(self.host.as_ref(), words).await?;
        match output.exit_code {
            Some(0) => {}
            Some(1) => return Ok(None),
            _ => return Err(super::failure::of("pgbackrest archive-get", &output)),
        }
        let unread = |error| ActionError::retryable(format!("segment `{name}` cannot be read")).because(&error);
        let bytes = desk.files.read(&path, self.shelved.size.bytes()).map_err(unread)?;
        desk.files.remove_file(&path).map_err(unread)?;
        Ok(Some(bytes.into()))
    }

    fn key(&self, name: WalFileName) -> Result<ObjectKey, StoreError> {
        wal_key(self.prefix(), self.shelved.system_id, name).map_err(|error| self.refused(error.to_string()))
    }

    fn refused(&self, what: String) -> StoreError {
        StoreError::Refused { store: self.name.clone(), what }
    }

    fn unavailable(&self, error: &ActionError) -> StoreError {
        let info = error.info();
        // A cause is wanted: where there is none, the advice says more than nothing would.
        let why = if info.causes.is_empty() { info.help.clone().unwrap_or_default() } else { info.causes.join("; ") };
        let source = std::io::Error::other(why);
        StoreError::Unavailable { store: self.name.clone(), what: error.to_string(), source }
    }

    async fn bytes(&self, key: &ObjectKey) -> Result<Bytes, StoreError> {
        let absent = || StoreError::NotFound { store: self.name.clone(), key: key.to_string() };
        let name = key.as_str().rsplit('/').next().and_then(|name| name.parse().ok()).ok_or_else(absent)?;
        let read = self.read(name).await.map_err(|error| self.unavailable(&error))?;
        read.ok_or_else(absent)
    }
}

impl ReadStore for Repository {
    fn name(&self) -> &str {
        &self.name
    }

    fn get_with(&self, key: &ObjectKey, options: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        let key = key.clone();
        Box::pin(async move {
            let bytes = self.bytes(&key).await?;
            let whole = 0..bytes.len() as u64;
            let range = options.range.unwrap_or(whole.clone());
            let at = |offset: u64| usize::try_from(offset.min(whole.end)).unwrap_or(bytes.len());
            Ok(Box::new(Cursor::new(bytes.slice(at(range.start)..at(range.end)))) as ByteStream)
        })
    }

    /// pgBackRest verified the bytes when it gave them; their digest is what later reads are held against.
    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
        let key = key.clone();
        Box::pin(async move {
            let bytes = self.bytes(&key).await?;
            let mut facts = ObjectFacts::new(key, bytes.len() as u64, Timestamp::UNIX_EPOCH);
            facts.metadata.insert("sha256".to_owned(), Digest::of(&bytes).to_string());
            Ok(facts)
        })
    }

    /// A segment counts with its plain size, which pgBackRest saw to when it stored it.
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move {
            let wanted = Wanted::of(&prefix);
            let names = self.names(&wanted).await.map_err(|error| self.unavailable(&error))?;
            let mut all = Vec::new();
            for (name, entry) in names {
                let size_bytes = match name {
                    WalFileName::Segment(_) => self.shelved.size.bytes(),
                    WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. } => {
                        entry.size.unwrap_or_default()
                    }
                };
                let key = self.key(name)?;
                if key.as_str().starts_with(&prefix) {
                    all.push(ObjectFacts::new(key, size_bytes, entry.written_at()));
                }
            }
            all.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(all)
        })
    }
}

impl Store for Repository {
    fn put(&self, _: &ObjectKey, _: ByteStream, _: PutOptions) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        Box::pin(async { Err(self.refused("only pgBackRest writes into its repository".to_owned())) })
    }

    fn delete(&self, _: &ObjectKey) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Err(self.refused("only pgBackRest removes from its repository".to_owned())) })
    }

    fn as_read(&self) -> &dyn ReadStore {
        self
    }
}

/// Which names are asked for: a repository may hold hundreds of folders.
struct Wanted(String);

impl Wanted {
    fn of(prefix: &str) -> Self {
        Self(prefix.rsplit('/').next().unwrap_or_default().to_owned())
    }

    fn may_be_in(&self, folder: &str) -> bool {
        self.0.starts_with(folder) || folder.starts_with(&self.0)
    }
}

/// When the newest segment of the cluster that archives now was stored, in whichever repository.
///
/// # Errors
/// Fails when pgBackRest gives no answer.
pub(super) async fn newest_wal_at(
    stanza: &Stanza,
    standing: &StanzaStatus,
    host: &Arc<dyn ReadHost>,
) -> Result<Option<Timestamp>, ActionError> {
    let mut newest = None;
    let Some(system_id) = standing.system_id() else { return Ok(None) };
    for archive in standing.archives.iter().filter(|archive| archive.system_id == Some(system_id)) {
        let Some(segment) = archive.newest.as_deref().and_then(|name| name.parse().ok()) else { continue };
        let shelved = Shelved { id: archive.id.clone(), repo: archive.repo, system_id, size: SegmentSize::DEFAULT };
        newest = newest.max(Repository::new(stanza, shelved, Arc::clone(host), None).stored_at(segment).await?);
    }
    Ok(newest)
}

/// A file or a folder as `repo-ls` tells of it.
#[derive(Debug, Clone, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    time: Option<i64>,
}

impl Entry {
    fn is_folder(&self) -> bool {
        self.kind == "path"
    }

    fn written_at(&self) -> Timestamp {
        self.time.and_then(|at| Timestamp::from_second(at).ok()).unwrap_or(Timestamp::MAX)
    }
}

/// The WAL file that a file of the repository holds: its name goes on with a checksum and an ending.
fn wal_file(file: &str) -> Option<WalFileName> {
    let (name, _) = file.split_once('-')?;
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::{Wanted, wal_file};

    #[test]
    fn a_segment_is_known_without_its_checksum_and_ending() {
        let name = |file: &str| wal_file(file).map(|name| name.to_string());
        assert_eq!(name("000000010000000000000001-0ef8fbfd.gz").as_deref(), Some("000000010000000000000001"));
        assert_eq!(
            name("000000010000000000000001.partial-0ef8fbfd.zst").as_deref(),
            Some("000000010000000000000001.partial")
        );
        assert_eq!((name("archive.info"), name("000000010000000000000002.00000028.backup")), (None, None));
    }

    #[test]
    fn only_folders_that_can_hold_a_name_are_listed() {
        let one = Wanted::of("demo/wal/7/00000002/000000020000000000000007");
        assert!(one.may_be_in("0000000200000000") && !one.may_be_in("0000000100000000"));
        assert!(Wanted::of("demo/wal/7/").may_be_in("0000000100000000"));
    }
}
