//! Brings the objects of a backup into all its stores at once while their bytes arrive: compressed and encrypted as
//! each store's settings say. One store's failure never ends the others.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::tee::{Body, Tee, tee};
use crate::action::{ActionError, ByteStream, PutOptions, RunContext, Store};
use crate::actions::postgres::stores::archive;
use crate::base::units::{ByteSize, human_duration};
use crate::catalog::{BackupPlace, ManifestObject, ObjectRole};
use crate::transfer::{Packing, TransferError, Uploaded, upload};

/// A store that gets a backup.
pub(crate) struct BackupStore {
    /// The store.
    pub(crate) store: Arc<dyn Store>,
    /// How its objects are packed.
    pub(crate) packing: Packing,
}

impl BackupStore {
    /// Opens a store of the inventory, with the keys that writing needs.
    ///
    /// # Errors
    /// Fails when the store or a key cannot be had.
    pub(crate) fn open(name: &str, cx: &RunContext) -> Result<Self, ActionError> {
        let entry = cx.about.inventory.stores.get(name);
        let entry = entry.ok_or_else(|| ActionError::fatal(format!("the inventory has no store `{name}`")))?;
        let packing = Packing::of(entry, cx.about.secrets.as_ref());
        let packing = packing.map_err(|error| unpackable(name, &error))?;
        Ok(Self { store: cx.store(name)?, packing })
    }

    /// How an object is packed here.
    pub(crate) fn packing_of(&self, role: ObjectRole) -> Packing {
        match role {
            // Every file in them is proven by the server's own manifest when it is read.
            ObjectRole::Data | ObjectRole::Tablespace => self.packing.clone().self_proving(),
            ObjectRole::Wal
            | ObjectRole::BackupManifest
            | ObjectRole::Dump
            | ObjectRole::Globals
            | ObjectRole::Config
            | ObjectRole::File
            | ObjectRole::Unknown => self.packing.clone(),
        }
    }

    /// Packs and stores one object of a backup.
    ///
    /// # Errors
    /// Fails when the body or the store does.
    pub(crate) async fn put(
        &self,
        item: &Item,
        place: &BackupPlace,
        body: ByteStream,
    ) -> Result<ManifestObject, ActionError> {
        let packing = self.packing_of(item.role);
        let name = format!("{}{}", item.name, packing.suffix());
        let key = place.key(&name).map_err(|error| archive::broken(&error))?;
        let encoding = packing.encoding().clone();
        let uploaded = upload((self.store.as_ref(), &key), body, &packing, PutOptions::default()).await;
        let Uploaded { packed, .. } = uploaded.map_err(|error| archive::stream_failed(&error))?;
        let plain = (!encoding.is_plain()).then_some(packed.plain);
        let object = ManifestObject::new(name, packed.stored_size_bytes, packed.stored_sha256, item.role);
        Ok(ManifestObject { tablespace: item.tablespace, encoding, plain, ..object })
    }
}

/// The settings or keys of a store make no sense.
pub(crate) fn unpackable(store: &str, error: &TransferError) -> ActionError {
    ActionError::fatal(format!("nothing can be packed for store `{store}`")).because(error)
}

/// What one object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// Its name below the backup's folder, before it is packed.
    pub(crate) name: String,
    /// What it is.
    pub(crate) role: ObjectRole,
    /// Of which tablespace.
    pub(crate) tablespace: Option<u32>,
}

impl Item {
    /// An object that is of no tablespace.
    pub(crate) fn new(name: impl Into<String>, role: ObjectRole) -> Self {
        Self { name: name.into(), role, tablespace: None }
    }

    /// The archive of a tablespace, or of the data directory.
    pub(crate) fn archive(tablespace: Option<u32>) -> Self {
        match tablespace {
            Some(oid) => Self { name: format!("{oid}.tar"), role: ObjectRole::Tablespace, tablespace },
            None => Self::new("base.tar", ObjectRole::Data),
        }
    }
}

/// What came of one object in each store that it was brought to.
pub(crate) type Brought = Vec<(usize, Result<ManifestObject, Shortfall>)>;

/// What came of one store: its objects in order, or why not.
pub(crate) type Arrival = Result<Vec<ManifestObject>, Shortfall>;

/// Why a store did not get everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shortfall {
    /// Something failed in it, or for all of them.
    Failed(ActionError),
    /// It took everything as long as something came: it was stopped since too few others were left.
    Stopped,
}

impl From<Shortfall> for ActionError {
    fn from(shortfall: Shortfall) -> Self {
        match shortfall {
            Shortfall::Failed(error) => error,
            Shortfall::Stopped => Self::retryable("it was stopped before the end, since too few stores were left"),
        }
    }
}

/// A backup on its way.
pub(crate) struct Delivery<'a> {
    /// Where its objects go.
    pub(crate) backup_stores: &'a [BackupStore],
    /// Where they lie in each store.
    pub(crate) place: &'a BackupPlace,
    /// How many of these stores must get all of them; with fewer left it is pointless to go on.
    pub(crate) needed: usize,
}

/// What has arrived so far, store by store.
#[derive(Debug)]
pub(crate) struct Arrivals(Vec<Arrival>);

impl Arrivals {
    /// Nothing yet.
    pub(crate) fn new(backup_stores: &[BackupStore]) -> Self {
        Self(backup_stores.iter().map(|_| Ok(Vec::new())).collect())
    }

    /// What came of each store, in the order of the stores.
    pub(crate) fn into_inner(self) -> Vec<Arrival> {
        self.0
    }

    /// How many stores have everything so far.
    pub(crate) fn whole(&self) -> usize {
        self.0.iter().filter(|arrival| arrival.is_ok()).count()
    }

    /// Takes what the source failed with as the reason of the stores that it fed: theirs is only that it broke off.
    pub(crate) fn blame(&mut self, fed: &[usize], error: &ActionError) {
        for backup_store in fed {
            self.0[*backup_store] = Err(Shortfall::Failed(error.clone()));
        }
    }

    /// Keeps what came of one object, store by store.
    pub(crate) fn keep(&mut self, brought: Brought) {
        for (backup_store, object) in brought {
            match (&mut self.0[backup_store], object) {
                (Ok(objects), Ok(object)) => objects.push(object),
                (Ok(_), Err(error)) => self.0[backup_store] = Err(error),
                (Err(_), _) => {}
            }
        }
    }
}

impl Delivery<'_> {
    /// Opens one object in every store that has all others; what is put into the tee reaches each of them.
    pub(crate) fn open(&self, arrivals: &Arrivals) -> (Tee, Vec<(usize, Body)>) {
        let whole = arrivals.0.iter().enumerate().filter(|(_, arrival)| arrival.is_ok());
        let backup_stores: Vec<usize> = whole.map(|(backup_store, _)| backup_store).collect();
        let (tee, bodies) = tee(backup_stores.len(), self.needed);
        (tee, backup_stores.into_iter().zip(bodies).collect())
    }

    /// Stores one object from its bodies, all stores at the same time.
    pub(crate) async fn bring(&self, item: &Item, bodies: Vec<(usize, Body)>) -> Brought {
        let brought = bodies.into_iter().map(|(backup_store, body)| async move {
            let broke_off = body.broke_off();
            let put = self.backup_stores[backup_store].put(item, self.place, body.bytes).await;
            let shortfall = |error| match broke_off.is_told() {
                true => Shortfall::Stopped,
                false => Shortfall::Failed(error),
            };
            (backup_store, put.map_err(shortfall))
        });
        join_all(brought).await
    }

    /// Stores a small object.
    pub(crate) async fn bring_small(&self, item: &Item, bytes: &Bytes, arrivals: &mut Arrivals) {
        let (_, bodies) = self.open(arrivals);
        let body = |bytes: &Bytes| Body::whole(Box::new(Cursor::new(bytes.clone())));
        let bodies = bodies.into_iter().map(|(backup_store, _)| (backup_store, body(bytes))).collect();
        arrivals.keep(self.bring(item, bodies).await);
    }

    /// Says what was stored where, and how fast.
    pub(crate) fn close(&self, arrivals: &[Arrival], taken: Duration, cx: &RunContext) {
        for (backup_store, arrival) in self.backup_stores.iter().zip(arrivals) {
            let Ok(objects) = arrival else { continue };
            let plain_bytes: u64 = objects.iter().map(|object| object.plain_facts().size_bytes).sum();
            let stored_bytes: u64 = objects.iter().map(|object| object.size_bytes).sum();
            let rate = (u128::from(plain_bytes) * 1000 / taken.as_millis().max(1)) as u64;
            let message = format!(
                "store `{}` has the backup: {} as {}, in {} ({}/s)",
                backup_store.store.name(),
                ByteSize(plain_bytes),
                ByteSize(stored_bytes),
                human_duration(taken),
                ByteSize(rate)
            );
            let data = serde_json::json!({ "store": backup_store.store.name(), "plain_bytes": plain_bytes,
                "stored_bytes": stored_bytes, "elapsed_ms": taken.as_millis() as u64 });
            cx.reporter.note(message, data);
        }
    }
}
