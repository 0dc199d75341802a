//! The store over a folder.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::claim::Claim;
use super::fault::fault;
use super::folder::{create_below, create_one, sync_folder, write_whole};
use super::known::{self, CLAIM};
use super::publish::{Clobber, Published, publish};

use crate::action::{
    BoxFuture, ByteStream, Capacity, GetOptions, ObjectFacts, ObjectKey, PutOptions, PutOutcome, ReadStore, Store,
    StoreError, Unfinished,
};
use crate::base::{Timestamp, digest::Hasher};
use crate::store::access::{Access, Birth};
use crate::store::sidecar::{Known, MARKER, MARKER_TEXT, MAX_DEPTH, RESERVED_PREFIX, hidden_name, no_store, unfit};

const CHUNK_BYTES: usize = 256 << 10;

struct Place {
    name: String,
    root: PathBuf,
    access: Access,
    birth: Birth,
}

/// A folder as a store.
#[derive(Clone)]
pub struct LocalStore(Arc<Place>);

impl LocalStore {
    /// A store at `root`. Touches nothing yet.
    #[must_use]
    pub fn new(name: &str, root: PathBuf, access: Access, birth: Birth) -> Self {
        Self(Arc::new(Place { name: name.to_owned(), root, access, birth }))
    }

    /// Makes the folder a store, durably, if it is none yet. Blocking.
    ///
    /// # Errors
    /// Fails when the folder's parent does not exist or the folder cannot be written.
    pub fn initialize(&self) -> Result<(), StoreError> {
        self.0.writable()?;
        self.0.initialize()
    }
}

impl Place {
    fn fault(&self, what: impl Into<String>, error: io::Error) -> StoreError {
        fault(&self.name, what, error)
    }

    fn refused(&self, what: String) -> StoreError {
        StoreError::Refused { store: self.name.clone(), what }
    }

    fn not_found(&self, key: &ObjectKey) -> StoreError {
        StoreError::NotFound { store: self.name.clone(), key: key.to_string() }
    }

    fn path(&self, key: &ObjectKey) -> Result<PathBuf, StoreError> {
        if let Some(why) = unfit(key) {
            return Err(self.refused(why));
        }
        Ok(self.root.join(key.as_str()))
    }

    /// Proves that the store is there: without this no absence may be believed.
    fn present(&self) -> Result<(), StoreError> {
        match std::fs::metadata(self.root.join(MARKER)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_filled_by_others() => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.unborn(error)),
            Err(error) => Err(self.fault(format!("cannot look into `{}`", self.root.display()), error)),
        }
    }

    /// Says that there is no store, and what makes one; a folder that is there is not told to be absent.
    fn unborn(&self, absent: io::Error) -> StoreError {
        let is_there = self.root.is_dir();
        let what = no_store(&format!("`{}`", self.root.display()), is_there, self.access);
        let source = match is_there {
            true => io::Error::new(io::ErrorKind::NotFound, format!("it has no `{MARKER}`")),
            false => absent,
        };
        StoreError::Unavailable { store: self.name.clone(), what, source }
    }

    /// Whether other programs fill it: it is only read, and holds something. Where a disk is mounted, nothing lies
    /// beneath it.
    fn is_filled_by_others(&self) -> bool {
        let holds = || std::fs::read_dir(&self.root).is_ok_and(|mut entries| entries.next().is_some());
        self.access == Access::ReadOnly && holds()
    }

    fn writable(&self) -> Result<(), StoreError> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(StoreError::ReadOnly { store: self.name.clone() }),
        }
    }

    fn initialize(&self) -> Result<(), StoreError> {
        let at = |error| self.fault(format!("cannot make a store of `{}`", self.root.display()), error);
        if self.present().is_ok() {
            return Ok(());
        }
        let parent = self.root.parent().unwrap_or(Path::new("/"));
        create_one(&self.root, parent).map_err(at)?;
        let temporary = self.root.join(format!("{MARKER}-{}", uuid::Uuid::now_v7().simple()));
        write_whole(&self.root.join(MARKER), &temporary, MARKER_TEXT).map_err(at)
    }

    /// Readies the folder of an object for writing.
    fn prepare(&self, key: &ObjectKey) -> Result<PathBuf, StoreError> {
        self.writable()?;
        let path = self.path(key)?;
        match self.birth {
            Birth::AtFirstWrite => self.initialize()?,
            Birth::Never => self.present()?,
        }
        let folder = path.parent().unwrap_or(&self.root);
        create_below(&self.root, folder)
            .map_err(|error| self.fault(format!("cannot create the folder of `{key}`"), error))?;
        if path.is_dir() {
            return Err(self.refused(format!("`{key}` is a folder of other objects")));
        }
        Ok(path)
    }

    /// Opens an object; absent only when the store is there and says so.
    fn open(&self, key: &ObjectKey) -> Result<(File, Metadata), StoreError> {
        let path = self.path(key)?;
        let opened = File::open(&path).and_then(|file| file.metadata().map(|meta| (file, meta)));
        match opened {
            Ok((file, meta)) if meta.is_file() => Ok((file, meta)),
            Ok(_) => self.present().and(Err(self.not_found(key))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                self.present().and(Err(self.not_found(key)))
            }
            Err(error) => Err(self.fault(format!("cannot open `{key}`"), error)),
        }
    }

    /// Opens a body or a part of one.
    fn body(&self, key: &ObjectKey, options: &GetOptions) -> Result<ByteStream, StoreError> {
        if options.version.is_some() {
            return Err(self.refused("it keeps no versions".to_owned()));
        }
        let (mut file, meta) = self.open(key)?;
        if options.if_match.as_ref().is_some_and(|wanted| *wanted != etag(&meta)) {
            return Err(StoreError::Replaced { store: self.name.clone(), key: key.to_string() });
        }
        let range = options.range.clone().unwrap_or(0..meta.len());
        let end = range.end.min(meta.len());
        if range.start > end {
            return Err(self.refused(format!("`{key}` has {} bytes and no byte {}", meta.len(), range.start)));
        }
        io::Seek::seek(&mut file, io::SeekFrom::Start(range.start))
            .map_err(|error| self.fault(format!("cannot read `{key}`"), error))?;
        Ok(Box::new(tokio::fs::File::from_std(file).take(end - range.start)))
    }

    fn head(&self, key: &ObjectKey) -> Result<ObjectFacts, StoreError> {
        let (_, meta) = self.open(key)?;
        let known = known::read(&self.path(key)?).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => self.refused(format!("`{key}`: {error}")),
            _ => self.fault(format!("cannot read the metadata of `{key}`"), error),
        })?;
        let mut facts = facts(key.clone(), &meta);
        if let Some(known) = known {
            facts.metadata = known.told();
        }
        Ok(facts)
    }

    fn capacity(&self) -> Result<Capacity, StoreError> {
        self.present()?;
        let found = rustix::fs::statvfs(&self.root)
            .map_err(|error| self.fault("cannot ask how much room there is", error.into()))?;
        Ok(Capacity { free_bytes: found.f_bavail * found.f_frsize, total_bytes: found.f_blocks * found.f_frsize })
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectFacts>, StoreError> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        if folder.split('/').any(|part| part == ".." || part == ".") || folder.starts_with('/') {
            return Err(self.refused(format!("`{prefix}` is no prefix of keys")));
        }
        let mut found = Vec::new();
        self.collect((folder, prefix), 0, is_visible, &mut |name, meta| {
            found.extend(name.parse().ok().map(|key| facts(key, meta)));
        })?;
        self.present()?;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// What writers began below a prefix and did not finish.
    fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>, StoreError> {
        let mut found = Vec::new();
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.collect((folder, prefix), 0, |name| claimed(name).is_some(), &mut |path, meta| {
            let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
            let key = claimed(name).and_then(|name| [folder, name].join("/").trim_start_matches('/').parse().ok());
            let (size_bytes, touched_at, upload) = (meta.len(), Some(modified_at(meta)), name.to_owned());
            found.extend(key.map(|key| Unfinished { key, size_bytes, touched_at, upload }));
        })?;
        self.present()?;
        found.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(found)
    }

    fn which(&self, keys: Vec<ObjectKey>) -> Result<Vec<ObjectKey>, StoreError> {
        let mut found = Vec::new();
        for key in keys {
            match std::fs::metadata(self.path(&key)?) {
                Ok(meta) if meta.is_file() => found.push(key),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(self.fault(format!("cannot look for `{key}`"), error)),
            }
        }
        self.present()?;
        Ok(found)
    }

    /// Removes the file of a writer that is gone; `false` where one is at work.
    fn discard(&self, unfinished: &Unfinished) -> Result<bool, StoreError> {
        self.writable()?;
        let path = self.path(&unfinished.key)?;
        let at = |error| self.fault(format!("cannot remove what was begun of `{}`", unfinished.key), error);
        let Some(claim) = Claim::of_dead(&path).map_err(at)? else { return Ok(false) };
        drop(claim);
        sync_folder(path.parent().unwrap_or(&self.root)).map_err(at)?;
        Ok(true)
    }

    /// Gives each file that is wanted by its name, below a folder, where its path in the store begins with `prefix`.
    fn collect(
        &self,
        (folder, prefix): (&str, &str),
        depth: usize,
        wanted: fn(&str) -> bool,
        found: &mut dyn FnMut(&str, &Metadata),
    ) -> Result<(), StoreError> {
        if depth > MAX_DEPTH {
            return Err(self.refused(format!("`{folder}` lies more than {MAX_DEPTH} folders deep")));
        }
        let at = |error| self.fault(format!("cannot list `{folder}`"), error);
        let entries = match std::fs::read_dir(self.root.join(folder)) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(at(error)),
        };
        for entry in entries {
            let entry = entry.map_err(at)?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| is_visible(name) || wanted(name)) else { continue };
            let key = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            if !key.starts_with(prefix) && !prefix.starts_with(&format!("{key}/")) {
                continue;
            }
            // Follows links: a part of the store may lie on another disk.
            let meta = match std::fs::metadata(entry.path()) {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !entry.path().is_symlink() => continue,
                Err(error) => return Err(at(error)),
            };
            if meta.is_dir() {
                self.collect((&key, prefix), depth + 1, wanted, found)?;
            } else if meta.is_file() && wanted(name) {
                found(&key, &meta);
            }
        }
        Ok(())
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        let folder = path.parent().unwrap_or(&self.root);
        gone(std::fs::remove_file(path))?;
        sync_folder(folder)?;
        gone(std::fs::remove_file(known::hidden(path, "meta")))?;
        sync_folder(folder)
    }
}

fn facts(key: ObjectKey, meta: &Metadata) -> ObjectFacts {
    ObjectFacts { etag: Some(etag(meta)), ..ObjectFacts::new(key, meta.len(), modified_at(meta)) }
}

fn modified_at(meta: &Metadata) -> Timestamp {
    meta.modified().ok().and_then(|at| Timestamp::try_from(at).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Whether a name is none of the store's own.
fn is_visible(name: &str) -> bool {
    !name.starts_with(RESERVED_PREFIX)
}

/// The name of the object whose next content a file is.
fn claimed(name: &str) -> Option<&str> {
    name.strip_prefix(&hidden_name("", CLAIM))
}

/// Tells one content of a file from another: its place on the disk, its size and when it was written.
fn etag(meta: &Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;
    format!("{:x}-{:x}-{:x}.{:x}", meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())
}

/// Does file work off the runtime's thread.
async fn blocking<T: Send + 'static>(
    place: &Arc<Place>,
    work: impl FnOnce(&Place) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let theirs = Arc::clone(place);
    match tokio::task::spawn_blocking(move || work(&theirs)).await {
        Ok(result) => result,
        Err(error) => Err(place.fault("the work on its files broke off", io::Error::other(error))),
    }
}

/// Copies a body into the claim's file. Returns its size and digest.
async fn write_body(place: &Place, claim: &Claim, mut body: ByteStream) -> Result<Known, StoreError> {
    let at = |error| place.fault("cannot write the object", error);
    let mut file = tokio::fs::File::from_std(claim.file().try_clone().map_err(at)?);
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut size_bytes = 0;
    loop {
        let count = body.read(&mut buffer).await.map_err(|error| place.fault("cannot read the body", error))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).await.map_err(at)?;
        size_bytes += count as u64;
    }
    file.flush().await.map_err(at)?;
    Ok(Known { sha256: hasher.finish(), size_bytes, metadata: std::collections::BTreeMap::new() })
}

async fn put(
    place: Arc<Place>,
    key: ObjectKey,
    body: ByteStream,
    options: PutOptions,
) -> Result<PutOutcome, StoreError> {
    options.announced(&place.name)?;
    options.lockless(&place.name)?;
    let prepared = key.clone();
    let path = blocking(&place, move |place| place.prepare(&prepared)).await?;
    let mut claim =
        Claim::take(&path).await.map_err(|error| place.fault(format!("cannot begin to write `{key}`"), error))?;
    let written = write_body(&place, &claim, body).await?;
    options.prove(&place.name, &key, written.sha256)?;
    let known = Known { metadata: options.metadata, ..written };
    let (sha256, size_bytes) = (known.sha256, known.size_bytes);
    let clobber = if options.if_absent { Clobber::Refuse } else { Clobber::Replace };
    let named = key.clone();
    let published = blocking(&place, move |place| {
        publish(&mut claim, &path, &known, clobber)
            .map_err(|error| place.fault(format!("cannot make `{named}` durable"), error))
    })
    .await?;
    match published {
        Published::New => Ok(PutOutcome { size_bytes, sha256, existed: false, version: None }),
        Published::Same => Ok(PutOutcome { size_bytes, sha256, existed: true, version: None }),
        Published::Other => Err(StoreError::Exists { store: place.name.clone(), key: key.to_string() }),
    }
}

async fn delete(place: Arc<Place>, key: ObjectKey) -> Result<(), StoreError> {
    place.writable()?;
    let path = place.path(&key)?;
    let looked = key.clone();
    match blocking(&place, move |place| place.open(&looked).map(drop)).await {
        Ok(()) => {}
        Err(StoreError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    }
    let claim = Claim::take(&path).await.map_err(|error| place.fault(format!("cannot delete `{key}`"), error))?;
    blocking(&place, move |place| {
        let deleted = place.delete(&path).map_err(|error| place.fault(format!("cannot delete `{key}`"), error));
        drop(claim);
        deleted
    })
    .await
}

impl ReadStore for LocalStore {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn get_with(&self, key: &ObjectKey, options: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        let key = key.clone();
        Box::pin(async move { blocking(&self.0, move |place| place.body(&key, &options)).await })
    }

    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
        let key = key.clone();
        Box::pin(async move { blocking(&self.0, move |place| place.head(&key)).await })
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move { blocking(&self.0, move |place| place.list(&prefix)).await })
    }

    fn unfinished(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Unfinished>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move { blocking(&self.0, move |place| place.unfinished(&prefix)).await })
    }

    fn which(&self, stem: &str, endings: &[String]) -> BoxFuture<'_, Result<Vec<ObjectKey>, StoreError>> {
        let keys = endings.iter().filter_map(|ending| format!("{stem}{ending}").parse().ok()).collect();
        Box::pin(async move { blocking(&self.0, move |place| place.which(keys)).await })
    }

    fn capacity(&self) -> BoxFuture<'_, Result<Option<Capacity>, StoreError>> {
        Box::pin(async move { blocking(&self.0, Place::capacity).await.map(Some) })
    }
}

impl Store for LocalStore {
    fn put(
        &self,
        key: &ObjectKey,
        body: ByteStream,
        options: PutOptions,
    ) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        Box::pin(put(Arc::clone(&self.0), key.clone(), body, options))
    }

    fn delete(&self, key: &ObjectKey) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(delete(Arc::clone(&self.0), key.clone()))
    }

    fn discard(&self, unfinished: &Unfinished) -> BoxFuture<'_, Result<bool, StoreError>> {
        let unfinished = unfinished.clone();
        Box::pin(async move { blocking(&self.0, move |place| place.discard(&unfinished)).await })
    }

    fn as_read(&self) -> &dyn ReadStore {
        self
    }
}
