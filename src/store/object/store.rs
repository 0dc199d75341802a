//! The store over a bucket or container.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::TryStreamExt as _;
use object_store::list::PaginatedListOptions;
use object_store::path::Path;
use object_store::{CopyMode, CopyOptions, Error, GetRange, ObjectMeta, ObjectStoreExt as _};
use tokio::sync::OnceCell;
use tokio_util::io::StreamReader;

use super::client::{Account, Client, Provider};
use super::fault::{fault, unread};
use super::metadata;
use super::parts::Parts;
use super::pending::{By, Looks, is_unfilled};
use super::upload::{Hidden, Upload};
use crate::action::{
    BoxFuture, ByteStream, GetOptions, Listing, ObjectFacts, ObjectKey, PutOptions, PutOutcome, ReadStore, Secrets,
    Store, StoreError,
};
use crate::base::{Digest, Timestamp};
use crate::language::inventory::{BucketPlace, StoreEntry};
use crate::store::access::Access;
use crate::store::sidecar::{RESERVED_PREFIX, hidden_name};

struct Place {
    name: String,
    prefix: String,
    access: Access,
    class: Option<String>,
    account: Account,
    client: OnceCell<Arc<dyn Client>>,
    /// Whether the bucket has answered: without that no absence is believed.
    seen: AtomicBool,
}

/// A bucket or container as a store.
#[derive(Clone)]
pub struct ObjectStorage(Arc<Place>);

impl ObjectStorage {
    /// A store in that bucket. Asks for credentials at the first use.
    #[must_use]
    pub fn new(
        name: &str,
        (provider, at): (Provider, BucketPlace),
        (entry, access): (&StoreEntry, Access),
        secrets: Arc<dyn Secrets>,
    ) -> Self {
        Self(Arc::new(Place {
            name: name.to_owned(),
            prefix: at.prefix,
            access,
            class: entry.storage_class.clone(),
            account: Account::new(provider, at.bucket, entry, secrets),
            client: OnceCell::new(),
            seen: AtomicBool::new(false),
        }))
    }
}

impl Place {
    async fn client(self: &Arc<Self>) -> Result<&Arc<dyn Client>, StoreError> {
        let made = self.client.get_or_try_init(async || {
            let place = Arc::clone(self);
            match tokio::task::spawn_blocking(move || place.account.client(&place.name)).await {
                Ok(client) => client,
                Err(error) => Err(self.refused(format!("its client cannot be made: {error}"))),
            }
        });
        made.await
    }

    fn refused(&self, what: String) -> StoreError {
        StoreError::Refused { store: self.name.clone(), what }
    }

    fn writable(&self) -> Result<(), StoreError> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(StoreError::ReadOnly { store: self.name.clone() }),
        }
    }

    fn path(&self, key: &ObjectKey) -> Result<Path, StoreError> {
        if key.as_str().split('/').any(|part| part.starts_with(RESERVED_PREFIX)) {
            return Err(self.refused(format!("the key `{key}` has a part that begins with `{RESERVED_PREFIX}`")));
        }
        self.raw(key.as_str())
    }

    fn raw(&self, key: &str) -> Result<Path, StoreError> {
        Path::parse(format!("{}{key}", self.prefix)).map_err(|error| self.refused(format!("`{key}`: {error}")))
    }

    /// The key of an object in the bucket; none for what is not the store's, is hidden or is no key.
    fn key(&self, path: &str) -> Option<ObjectKey> {
        let key = path.strip_prefix(self.prefix.as_str())?;
        let hidden = key.split('/').any(|part| part.starts_with(RESERVED_PREFIX));
        if hidden { None } else { key.parse().ok() }
    }

    /// Proves that the bucket is there.
    async fn present(&self, client: &Arc<dyn Client>) -> Result<(), StoreError> {
        if self.seen.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.page(client, "", PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() })
            .await
            .map(drop)
    }

    /// Believes that an object is absent, once the bucket proved to be there.
    async fn absent(&self, client: &Arc<dyn Client>, key: &ObjectKey) -> StoreError {
        match self.present(client).await {
            Ok(()) => StoreError::NotFound { store: self.name.clone(), key: key.to_string() },
            Err(error) => error,
        }
    }

    /// A bucket that is not there is no empty one.
    fn no_bucket(&self, error: Error) -> StoreError {
        let what =
            format!("there is no `{}`, or these credentials may not see it: create it first", self.account.bucket);
        StoreError::Unavailable { store: self.name.clone(), what, source: std::io::Error::other(error) }
    }

    async fn page(
        &self,
        client: &Arc<dyn Client>,
        prefix: &str,
        options: PaginatedListOptions,
    ) -> Result<object_store::list::PaginatedListResult, StoreError> {
        let prefix = format!("{}{prefix}", self.prefix);
        let asked = if prefix.is_empty() { None } else { Some(prefix.as_str()) };
        match client.list_paginated(asked, options).await {
            Ok(page) => {
                self.seen.store(true, Ordering::Relaxed);
                Ok(page)
            }
            Err(error @ Error::NotFound { .. }) => Err(self.no_bucket(error)),
            Err(error) => Err(fault(&self.name, "cannot list", error)),
        }
    }

    async fn list(self: &Arc<Self>, prefix: &str, delimiter: Option<&'static str>) -> Result<Listing, StoreError> {
        let (client, mut level, mut token) = (self.client().await?, Listing::default(), None);
        loop {
            let options = PaginatedListOptions {
                page_token: token,
                delimiter: delimiter.map(Into::into),
                ..PaginatedListOptions::default()
            };
            let page = self.page(client, prefix, options).await?;
            level.objects.extend(page.result.objects.iter().filter_map(|meta| self.facts(meta)));
            let folders = page.result.common_prefixes.iter().filter_map(|folder| self.key(folder.as_ref()));
            level.folders.extend(folders.map(|folder| format!("{folder}/")));
            token = page.page_token;
            if token.is_none() {
                break;
            }
        }
        self.add_itself(prefix, &mut level).await?;
        level.objects.sort_by(|one, other| one.key.cmp(&other.key));
        level.folders.sort();
        level.folders.dedup();
        Ok(level)
    }

    /// The client leaves out of a list the object whose key is the prefix itself.
    async fn add_itself(self: &Arc<Self>, prefix: &str, level: &mut Listing) -> Result<(), StoreError> {
        let Ok(key) = prefix.parse::<ObjectKey>() else { return Ok(()) };
        // What cannot be the store's is not in it.
        if self.path(&key).is_err() {
            return Ok(());
        }
        if level.objects.iter().any(|facts| facts.key == key) {
            return Ok(());
        }
        match self.head(&key).await {
            Ok(facts) => {
                let ObjectFacts { key, size_bytes, modified_at, etag, .. } = facts;
                level.objects.push(ObjectFacts { etag, ..ObjectFacts::new(key, size_bytes, modified_at) });
                Ok(())
            }
            Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn facts(&self, meta: &ObjectMeta) -> Option<ObjectFacts> {
        let nanos = i32::try_from(meta.last_modified.timestamp_subsec_nanos()).unwrap_or_default();
        let at = Timestamp::new(meta.last_modified.timestamp(), nanos).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut facts = ObjectFacts::new(self.key(meta.location.as_ref())?, meta.size, at);
        // A head quotes it and a list does not.
        facts.etag = meta.e_tag.as_ref().map(|etag| etag.trim_matches('"').to_owned());
        Some(facts)
    }

    async fn get(self: &Arc<Self>, key: &ObjectKey, options: GetOptions) -> Result<ByteStream, StoreError> {
        let (path, client) = (self.path(key)?, self.client().await?);
        let range = options.range.clone();
        if range.as_ref().is_some_and(|range| range.is_empty()) {
            return Ok(Box::new(tokio::io::empty()));
        }
        let asked = object_store::GetOptions::new()
            .with_range(range.map(GetRange::Bounded))
            .with_version(options.version)
            .with_if_match(options.if_match.map(|etag| format!("\"{etag}\"")));
        match client.get_opts(&path, asked).await {
            Ok(found) => Ok(Box::new(StreamReader::new(found.into_stream().map_err(std::io::Error::other)))),
            Err(Error::NotFound { .. }) => Err(self.absent(client, key).await),
            Err(error) => Err(unread(&self.name, key, error)),
        }
    }

    async fn head(self: &Arc<Self>, key: &ObjectKey) -> Result<ObjectFacts, StoreError> {
        let (path, client) = (self.path(key)?, self.client().await?);
        let found = match client.get_opts(&path, object_store::GetOptions::new().with_head(true)).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Err(self.absent(client, key).await),
            Err(error) => return Err(unread(&self.name, key, error)),
        };
        self.seen.store(true, Ordering::Relaxed);
        let mut facts = self.facts(&found.meta).ok_or_else(|| self.refused(format!("`{key}` is no key")))?;
        facts.version.clone_from(&found.meta.version);
        facts.metadata = metadata::read(&found.attributes);
        facts.storage_class = metadata::class(&found.attributes);
        Ok(facts)
    }

    async fn put(
        self: &Arc<Self>,
        key: &ObjectKey,
        body: ByteStream,
        options: PutOptions,
    ) -> Result<PutOutcome, StoreError> {
        self.writable()?;
        options.announced(&self.name)?;
        options.lockless(&self.name)?;
        let (path, client) = (self.path(key)?, self.client().await?);
        let class = self.class.as_deref();
        let upload = Upload { client, store: &self.name, key, options: &options, class };
        let mut parts = Parts::of(&self.name, body, options.size_bytes);
        let first = parts.next().await?;
        let new = if first.len() < parts.part_bytes() {
            let (_, sha256) = parts.so_far();
            options.prove(&self.name, key, sha256)?;
            upload.at_once(&path, (first, sha256)).await?
        } else if options.if_absent {
            self.put_large_if_absent(&upload, &path, (first, &mut parts)).await?
        } else {
            upload.in_parts(&path, first, &mut parts).await?;
            true
        };
        let (size_bytes, sha256) = parts.so_far();
        if new || self.holds(key, (size_bytes, sha256)).await? {
            return Ok(PutOutcome { size_bytes, sha256, existed: !new, version: None });
        }
        Err(StoreError::Exists { store: self.name.clone(), key: key.to_string() })
    }

    /// Parts cannot be made an object under a condition; a copy can.
    async fn put_large_if_absent(
        self: &Arc<Self>,
        upload: &Upload<'_>,
        path: &Path,
        (first, parts): (bytes::Bytes, &mut Parts),
    ) -> Result<bool, StoreError> {
        match self.head(upload.key).await {
            Ok(there) if !is_unfilled(&there) => {
                while !parts.next().await?.is_empty() {}
                upload.options.prove(&self.name, upload.key, parts.so_far().1)?;
                return Ok(false);
            }
            Ok(_) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let name = hidden_name(&uuid::Uuid::now_v7().simple().to_string(), "tmp");
        let beside = match upload.key.as_str().rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{name}"),
            None => name,
        };
        let beside = self.raw(&beside)?;
        let hidden = Hidden::beside(upload.client, beside.clone());
        let sent = upload.in_parts(&beside, first, parts).await;
        let copied = match sent {
            Ok(()) => self.copy_new(upload.key, (&beside, path), parts.so_far().0).await,
            Err(error) => Err(error),
        };
        // Not before the copy is done: it would fail for good.
        hidden.remove().await;
        match copied? {
            (new, Some(_)) => Ok(new),
            (new, None) => Err(self.give_up(upload.key, By::of(new)).await),
        }
    }

    /// Copies to a name that must be free, and waits for what has the name then; gives whether it is new, and its size.
    async fn copy_new(
        self: &Arc<Self>,
        key: &ObjectKey,
        names: (&Path, &Path),
        size_bytes: u64,
    ) -> Result<(bool, Option<u64>), StoreError> {
        let new = self.copy_object(self.client().await?, names, CopyMode::Create).await?;
        let there = self.copied_size(key, size_bytes, By::of(new)).await?;
        match new && there.is_some_and(|there| there != size_bytes) {
            true => Err(self.unfinished(key)),
            false => Ok((new, there)),
        }
    }

    /// Waits until a copy is done, and tells the size; `None` where it came to no end.
    async fn copied_size(
        self: &Arc<Self>,
        key: &ObjectKey,
        size_bytes: u64,
        by: By,
    ) -> Result<Option<u64>, StoreError> {
        let mut looks = Looks::at(size_bytes);
        loop {
            let there = self.head(key).await?;
            let is_awaited = size_bytes > 0 && by.left_unfilled(&there);
            match looks.next_in().filter(|_| is_awaited) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Ok((!is_awaited).then_some(there.size_bytes)),
            }
        }
    }

    /// Frees a name that a copy took and never filled, so that a later attempt can have it. One that is still under way, by
    /// whomever, keeps it: the provider refuses to delete it.
    async fn give_up(self: &Arc<Self>, key: &ObjectKey, by: By) -> StoreError {
        if self.head(key).await.is_ok_and(|there| by.left_unfilled(&there)) {
            // What cannot be removed is looked at again by the next attempt.
            let _ = self.delete(key).await;
        }
        self.unfinished(key)
    }

    fn unfinished(&self, key: &ObjectKey) -> StoreError {
        let what = format!("the copy to `{key}` inside the store came to no end");
        StoreError::Unavailable { store: self.name.clone(), what, source: std::io::ErrorKind::TimedOut.into() }
    }

    /// Copies inside the store. `Ok(false)`: the name is taken and must stay what it is.
    async fn copy_object(
        &self,
        client: &Arc<dyn Client>,
        (from, to): (&Path, &Path),
        mode: CopyMode,
    ) -> Result<bool, StoreError> {
        match client.copy_opts(from, to, CopyOptions { mode, ..CopyOptions::default() }).await {
            Ok(()) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(fault(&self.name, &format!("cannot copy to `{to}`"), error)),
        }
    }

    /// Compares the object with a content, by its recorded digest or byte for byte.
    async fn holds(self: &Arc<Self>, key: &ObjectKey, content: (u64, Digest)) -> Result<bool, StoreError> {
        let facts = self.head(key).await?;
        if facts.size_bytes != content.0 {
            return Ok(false);
        }
        if facts.sha256().is_some_and(|recorded| recorded != content.1) {
            return Ok(false);
        }
        let body = self.get(key, GetOptions { if_match: facts.etag, ..GetOptions::default() }).await?;
        let mut there = Parts::of(&self.name, body, None);
        while !there.next().await?.is_empty() {}
        Ok(there.so_far() == content)
    }

    async fn copy(
        self: &Arc<Self>,
        (from, to): (&ObjectKey, &ObjectKey),
        options: &PutOptions,
    ) -> Result<PutOutcome, StoreError> {
        self.writable()?;
        let (source, target, client) = (self.path(from)?, self.path(to)?, self.client().await?);
        let facts = self.head(from).await?;
        let sha256 = match facts.sha256() {
            Some(sha256) => sha256,
            None => self.digest(from, facts.etag.clone()).await?,
        };
        let mode = if options.if_absent { CopyMode::Create } else { CopyMode::Overwrite };
        let new = self.copy_object(client, (&source, &target), mode).await?;
        // Until the copy is done the name has no bytes.
        let Some(there) = self.copied_size(to, facts.size_bytes, By::of(new)).await? else {
            return Err(self.unfinished(to));
        };
        if !new && !self.holds(to, (facts.size_bytes, sha256)).await? {
            return Err(StoreError::Exists { store: self.name.clone(), key: to.to_string() });
        }
        if there != facts.size_bytes {
            return Err(self.refused(format!("the copy of `{from}` is not whole")));
        }
        Ok(PutOutcome { size_bytes: facts.size_bytes, sha256, existed: !new, version: None })
    }

    async fn digest(self: &Arc<Self>, key: &ObjectKey, etag: Option<String>) -> Result<Digest, StoreError> {
        let body = self.get(key, GetOptions { if_match: etag, ..GetOptions::default() }).await?;
        let mut parts = Parts::of(&self.name, body, None);
        while !parts.next().await?.is_empty() {}
        Ok(parts.so_far().1)
    }

    async fn delete(self: &Arc<Self>, key: &ObjectKey) -> Result<(), StoreError> {
        self.writable()?;
        let (path, client) = (self.path(key)?, self.client().await?);
        match client.delete(&path).await {
            Ok(()) => Ok(()),
            Err(Error::NotFound { .. }) => self.present(client).await,
            Err(error) => Err(fault(&self.name, &format!("cannot delete `{key}`"), error)),
        }
    }
}

impl ReadStore for ObjectStorage {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn get_with(&self, key: &ObjectKey, options: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
        let key = key.clone();
        Box::pin(async move { self.0.get(&key, options).await })
    }

    fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
        let key = key.clone();
        Box::pin(async move { self.0.head(&key).await })
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move { Ok(self.0.list(&prefix, None).await?.objects) })
    }

    fn browse(&self, prefix: &str) -> BoxFuture<'_, Result<Listing, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move { self.0.list(&prefix, Some("/")).await })
    }
}

impl Store for ObjectStorage {
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

    fn as_read(&self) -> &dyn ReadStore {
        self
    }

    fn copy(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        options: PutOptions,
    ) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        let (from, to) = (from.clone(), to.clone());
        Box::pin(async move {
            // A copy inside the store keeps what it has; other metadata or another class takes the bytes through here.
            if options.metadata.is_empty() && options.storage_class.is_none() && options.locked_until.is_none() {
                return self.0.copy((&from, &to), &options).await;
            }
            let facts = self.0.head(&from).await?;
            let body = self.0.get(&from, GetOptions { if_match: facts.etag, ..GetOptions::default() }).await?;
            let metadata = if options.metadata.is_empty() { facts.metadata } else { options.metadata.clone() };
            self.0.put(&to, body, PutOptions { metadata, size_bytes: Some(facts.size_bytes), ..options }).await
        })
    }
}
