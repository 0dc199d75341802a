//! The store over SFTP.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Mutex;

use super::fault::{Verdict, verdict};
use super::lock::KeyLock;
use super::place::{Place, etag, is_file, object_facts, stat};
use super::publish::{Published, publish_new, publish_over, write_known};
use super::reader::Reader;
use super::session::Session;
use super::temporary::{CopyError, Temporary};
use crate::action::{
    BoxFuture, ByteStream, Capacity, GetOptions, ObjectFacts, ObjectKey, PutOptions, PutOutcome, ReadStore, Store,
    StoreError, Unfinished,
};
use crate::base::Digest;
use crate::base::digest::Hasher;
use crate::language::inventory::{SftpPlace, SshAccess};
use crate::store::access::{Access, Birth};
use crate::store::sidecar::{Known, hidden_name};

/// A folder of another machine as a store.
#[derive(Clone)]
pub struct SftpStore(Arc<Place>);

impl SftpStore {
    /// A store in that folder. Connects at the first use.
    #[must_use]
    pub fn new(name: &str, at: SftpPlace, ssh: SshAccess, (access, birth): (Access, Birth)) -> Self {
        let session = Mutex::new(None);
        Self(Arc::new(Place { name: name.to_owned(), at, ssh, access, birth, session }))
    }
}

impl Place {
    async fn open(&self, key: &ObjectKey, options: &GetOptions) -> Result<Reader, StoreError> {
        if options.version.is_some() {
            return Err(self.refused("it keeps no versions".to_owned()));
        }
        let (path, session) = (self.path(key)?, self.session().await?);
        let what = format!("cannot open `{key}`");
        let mut file = match session.sftp().open(&path).await {
            Ok(file) => file,
            Err(error) if verdict(&error) == Verdict::Absent => return Err(self.absent(&session, key).await),
            Err(error) => return Err(self.fault(&session, &what, error)),
        };
        let facts = file.metadata().await.map_err(|error| self.fault(&session, &what, error))?;
        if !is_file(&facts) {
            return Err(self.absent(&session, key).await);
        }
        if options.if_match.as_ref().is_some_and(|wanted| *wanted != etag(&facts)) {
            return Err(StoreError::Replaced { store: self.name.clone(), key: key.to_string() });
        }
        let size_bytes = facts.len().unwrap_or_default();
        let range = options.range.clone().unwrap_or(0..size_bytes);
        if range.start > size_bytes {
            return Err(self.refused(format!("`{key}` has {size_bytes} bytes and no byte {}", range.start)));
        }
        Ok(Reader::new(session, file, range.start..range.end.min(size_bytes)))
    }

    async fn digest(&self, key: &ObjectKey) -> Result<Digest, StoreError> {
        let mut reader = self.open(key, &GetOptions::default()).await?;
        let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 256 << 10]);
        loop {
            let read = reader.read(&mut buffer).await.map_err(|source| StoreError::Unavailable {
                store: self.name.clone(),
                what: format!("cannot read `{key}`: {source}"),
                source,
            })?;
            match read {
                0 => return Ok(hasher.finish()),
                count => hasher.update(&buffer[..count]),
            }
        }
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectFacts, StoreError> {
        let (path, session) = (self.path(key)?, self.session().await?);
        let what = format!("cannot look at `{key}`");
        let there = stat(&session, &path).await.map_err(|error| self.fault(&session, &what, error))?;
        let Some(there) = there.filter(is_file) else { return Err(self.absent(&session, key).await) };
        let mut facts = object_facts(key.clone(), &there);
        let mut known = self.known(&session, &path).await?;
        if known.len() > 1 {
            known.retain(|known| known.size_bytes == facts.size_bytes);
        }
        if known.len() > 1 {
            let digest = self.digest(key).await?;
            known.retain(|known| known.sha256 == digest);
        }
        if let Some(known) = known.pop() {
            facts.metadata = known.told();
        }
        Ok(facts)
    }

    async fn put(&self, key: &ObjectKey, mut body: ByteStream, options: PutOptions) -> Result<PutOutcome, StoreError> {
        self.writable()?;
        options.announced(&self.name)?;
        options.lockless(&self.name)?;
        let session = self.session().await?;
        let path = self.prepare(&session, key).await?;
        let what = format!("cannot write `{key}`");
        let mut temporary =
            Temporary::create(&session, &path).await.map_err(|error| self.fault(&session, &what, error))?;
        let stored = async {
            let written = temporary.fill(&mut *body).await.map_err(|error| match error {
                CopyError::Source(source) => {
                    let what = format!("cannot read the body: {source}");
                    StoreError::Unavailable { store: self.name.clone(), what, source }
                }
                CopyError::Server(error) => self.fault(&session, &what, error),
            })?;
            options.prove(&self.name, key, written.sha256)?;
            let content = Known { metadata: options.metadata.clone(), ..written };
            self.publish(&session, &mut temporary, (key, &path), (&content, options.if_absent)).await
        };
        let stored = stored.await;
        if !temporary.is_published() {
            temporary.discard().await;
        }
        stored
    }

    async fn publish(
        &self,
        session: &Arc<Session>,
        temporary: &mut Temporary,
        (key, path): (&ObjectKey, &Path),
        (content, if_absent): (&Known, bool),
    ) -> Result<PutOutcome, StoreError> {
        let (sha256, size_bytes) = (content.sha256, content.size_bytes);
        let done = |existed| PutOutcome { size_bytes, sha256, existed, version: None };
        let what = format!("cannot make `{key}` durable");
        let at = |error| self.fault(session, &what, error);
        if !if_absent {
            let old = self.known(session, path).await?;
            publish_over(session, temporary, path, (content, old)).await.map_err(at)?;
            return Ok(done(false));
        }
        let free = stat(session, path).await.map_err(at)?.is_none();
        if free && publish_new(session, temporary, path, content).await.map_err(at)? == Published::New {
            return Ok(done(false));
        }
        match self.holds(session, (key, path), content).await? {
            true => Ok(done(true)),
            false => Err(StoreError::Exists { store: self.name.clone(), key: key.to_string() }),
        }
    }

    /// Compares the object, byte for byte by digest, with the content that was to be stored; the same is made durable.
    async fn holds(
        &self,
        session: &Arc<Session>,
        (key, path): (&ObjectKey, &Path),
        content: &Known,
    ) -> Result<bool, StoreError> {
        let what = format!("cannot compare `{key}`");
        let at = |error| self.fault(session, &what, error);
        let there = stat(session, path).await.map_err(at)?;
        if there.is_none_or(|there| there.len() != Some(content.size_bytes))
            || self.digest(key).await? != content.sha256
        {
            return Ok(false);
        }
        let mut file = session.sftp().options().read(true).write(true).open(path).await.map_err(at)?;
        let syncing = session.syncing();
        file.sync_all().await.map_err(at)?;
        drop(syncing);
        if self.known(session, path).await.is_ok_and(|known| known.iter().any(|known| known.sha256 == content.sha256)) {
            return Ok(true);
        }
        let lock = KeyLock::take(session, path).await.map_err(at)?;
        let written = write_known(session, path, vec![content.clone()]).await;
        lock.release().await;
        written.map_err(at)?;
        Ok(true)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.writable()?;
        let (path, session) = (self.path(key)?, self.session().await?);
        let what = format!("cannot delete `{key}`");
        let at = |error| self.fault(&session, &what, error);
        if stat(&session, &path).await.map_err(at)?.filter(is_file).is_none() {
            return self.present(&session).await;
        }
        let lock = KeyLock::take(&session, &path).await.map_err(at)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut removed = Ok(());
        for path in [path.clone(), path.with_file_name(hidden_name(&name, "meta"))] {
            removed = match session.fs().remove_file(&path).await {
                Err(error) if verdict(&error) != Verdict::Absent => Err(error),
                Ok(()) | Err(_) => Ok(()),
            };
            if removed.is_err() {
                break;
            }
        }
        lock.release().await;
        removed.map_err(at)
    }

    /// Looks for each of several names, all at once: to list a folder with very many is a request for each hundred of them.
    async fn which(&self, keys: Vec<ObjectKey>) -> Result<Vec<ObjectKey>, StoreError> {
        let paths = keys.iter().map(|key| self.path(key)).collect::<Result<Vec<_>, _>>()?;
        let session = self.session().await?;
        let answers = join_all(paths.iter().map(|path| stat(&session, path))).await;
        let mut found = Vec::new();
        for (key, answer) in keys.into_iter().zip(answers) {
            let there = answer.map_err(|error| self.fault(&session, &format!("cannot look for `{key}`"), error))?;
            if there.is_some_and(|there| is_file(&there)) {
                found.push(key);
            }
        }
        self.present(&session).await?;
        Ok(found)
    }

    async fn capacity(&self) -> Result<Option<Capacity>, StoreError> {
        let session = self.session().await?;
        if !session.sftp().support_statvfs() {
            return Ok(None);
        }
        let what = "cannot ask for free space";
        let facts = session.fs().statvfs(&self.at.path).await.map_err(|error| self.fault(&session, what, error))?;
        let bytes = |blocks: u64| blocks.saturating_mul(facts.frsize);
        Ok(Some(Capacity { free_bytes: bytes(facts.bavail), total_bytes: bytes(facts.blocks) }))
    }
}

impl ReadStore for SftpStore {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn get_with(&self, key: &ObjectKey, options: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        let key = key.clone();
        Box::pin(async move { Ok(Box::new(self.0.open(&key, &options).await?) as ByteStream) })
    }

    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
        let key = key.clone();
        Box::pin(async move { self.0.head(&key).await })
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move {
            let session = self.0.session().await?;
            self.0.present(&session).await?;
            let mut found = self.0.list(&session, &prefix).await?;
            found.sort_by(|one, other| one.key.cmp(&other.key));
            Ok(found)
        })
    }

    fn unfinished(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Unfinished>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move {
            let session = self.0.session().await?;
            self.0.present(&session).await?;
            let mut found = self.0.unfinished(&session, &prefix).await?;
            found.sort_by(|one, other| one.key.cmp(&other.key));
            Ok(found)
        })
    }

    fn which(&self, stem: &str, endings: &[String]) -> BoxFuture<'_, Result<Vec<ObjectKey>, StoreError>> {
        let keys = endings.iter().filter_map(|ending| format!("{stem}{ending}").parse().ok()).collect();
        Box::pin(async move { self.0.which(keys).await })
    }

    fn capacity(&self) -> BoxFuture<'_, Result<Option<Capacity>, StoreError>> {
        Box::pin(self.0.capacity())
    }
}

impl Store for SftpStore {
    fn put(
        &self,
        key: &ObjectKey,
        body: ByteStream,
        options: PutOptions,
    ) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        let key = key.clone();
        Box::pin(async move { self.0.put(&key, body, options).await })
    }

    fn delete(&self, key: &ObjectKey) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.clone();
        Box::pin(async move { self.0.delete(&key).await })
    }

    fn discard(&self, unfinished: &Unfinished) -> BoxFuture<'_, Result<bool, StoreError>> {
        let unfinished = unfinished.clone();
        Box::pin(async move { self.0.discard(&unfinished).await })
    }

    fn as_read(&self) -> &dyn ReadStore {
        self
    }
}
