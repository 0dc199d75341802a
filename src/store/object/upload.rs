//! The two ways of storing: one request, or parts that become an object together.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, MultipartUpload, ObjectStoreExt as _, PutMode, PutMultipartOptions, PutPayload,
};

use super::client::Client;
use super::fault::fault;
use super::metadata;
use super::parts::Parts;
use crate::action::{ObjectKey, PutOptions, StoreError};
use crate::base::Digest;
use crate::store::deferred_cleanup::deferred_cleanup;

/// Where an object goes and how it is told of.
pub(super) struct Upload<'a> {
    pub(super) client: &'a Arc<dyn Client>,
    pub(super) store: &'a str,
    pub(super) key: &'a ObjectKey,
    pub(super) options: &'a PutOptions,
    pub(super) class: Option<&'a str>,
}

/// An upload in parts; dropped before its end, it is aborted.
struct Begun(Option<Box<dyn MultipartUpload>>);

/// An object under a hidden name; dropped before it was removed, it is removed.
pub(super) struct Hidden {
    client: Arc<dyn Client>,
    path: Option<Path>,
}

impl Upload<'_> {
    fn fault(&self, error: Error) -> StoreError {
        fault(self.store, &format!("cannot write `{}`", self.key), error)
    }

    fn attributes(&self, sha256: Option<Digest>) -> Attributes {
        let mut given = self.options.metadata.clone();
        if let Some(sha256) = sha256 {
            given.entry("sha256".to_owned()).or_insert_with(|| sha256.to_string());
        }
        let mut attributes = metadata::write(&given);
        if let Some(class) = self.options.storage_class.as_deref().or(self.class) {
            attributes.insert(Attribute::StorageClass, class.to_owned().into());
        }
        attributes
    }

    /// Stores a body that is whole in memory. `Ok(false)`: the name is taken and must stay what it is.
    pub(super) async fn at_once(&self, path: &Path, (bytes, sha256): (Bytes, Digest)) -> Result<bool, StoreError> {
        let mode = if self.options.if_absent { PutMode::Create } else { PutMode::Overwrite };
        let options = object_store::PutOptions {
            mode,
            attributes: self.attributes(Some(sha256)),
            ..object_store::PutOptions::default()
        };
        match self.client.put_opts(path, PutPayload::from(bytes), options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// Stores a body in parts, the first of which has been read.
    pub(super) async fn in_parts(&self, path: &Path, first: Bytes, parts: &mut Parts) -> Result<(), StoreError> {
        let options = PutMultipartOptions { attributes: self.attributes(None), ..PutMultipartOptions::default() };
        let begun = self.client.put_multipart_opts(path, options).await.map_err(|error| self.fault(error))?;
        let mut begun = Begun(Some(begun));
        let sent = self.send(&mut begun, first, parts).await;
        if sent.is_err() {
            begun.abort().await;
        }
        sent
    }

    async fn send(&self, begun: &mut Begun, first: Bytes, parts: &mut Parts) -> Result<(), StoreError> {
        let Some(upload) = begun.0.as_mut() else { return Ok(()) };
        let mut flight = FuturesUnordered::new();
        let mut part = first;
        loop {
            let last = part.len() < parts.part_bytes();
            if !part.is_empty() {
                flight.push(upload.put_part(PutPayload::from(part)));
            }
            while flight.len() >= if last { 1 } else { parts.at_once() } {
                if let Some(sent) = flight.next().await {
                    sent.map_err(|error| self.fault(error))?;
                }
            }
            if last {
                break;
            }
            let mut reading = pin!(parts.next());
            part = loop {
                tokio::select! {
                    read = &mut reading => break read?,
                    Some(sent) = flight.next() => sent.map_err(|error| self.fault(error))?,
                }
            };
        }
        drop(flight);
        let (_, sha256) = parts.so_far();
        self.options.prove(self.store, self.key, sha256)?;
        upload.complete().await.map_err(|error| self.fault(error))?;
        begun.0 = None;
        Ok(())
    }
}

impl Begun {
    async fn abort(&mut self) {
        if let Some(mut upload) = self.0.take() {
            // Parts that cannot be removed are no object; the provider's own rules remove them.
            let _ = upload.abort().await;
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(mut upload) = self.0.take() {
            deferred_cleanup(async move {
                let _ = upload.abort().await;
            });
        }
    }
}

impl Hidden {
    /// A hidden name beside `key`.
    pub(super) fn beside(client: &Arc<dyn Client>, path: Path) -> Self {
        Self { client: Arc::clone(client), path: Some(path) }
    }

    /// Removes the object, and waits for that.
    pub(super) async fn remove(mut self) {
        if let Some(path) = self.path.take() {
            // What cannot be removed stays hidden.
            let _ = self.client.delete(&path).await;
        }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            let client = Arc::clone(&self.client);
            deferred_cleanup(async move {
                let _ = client.delete(&path).await;
            });
        }
    }
}
