//! Brings the objects of a dump into its stores while they are made: nothing lies on our own disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;

use super::params::{Compressor, DumpParams};
use crate::action::{ActionError, ByteStream, ObjectKey, PutOptions, RunContext};
use crate::actions::postgres::backup::delivery::{BackupStore, unpackable};
use crate::actions::postgres::backup::fan_out::{Seen, fan_out};
use crate::actions::postgres::stores::archive::stream_failed;
use crate::catalog::{BackupPlace, CatalogError, ManifestObject, ObjectRole};
use crate::event::Progress;
use crate::language::inventory::{Compression, CompressionFormat, StoreEntry};
use crate::transfer::{Packing, upload};

/// A store with what has arrived in it.
pub(super) struct Destination {
    /// The store.
    pub(super) backup_store: BackupStore,
    /// The objects it has, in order, or why it gets none any more.
    pub(super) objects: Result<Vec<ManifestObject>, ActionError>,
}

impl Destination {
    /// Opens a store; its objects are packed as the arguments and its own settings say.
    ///
    /// # Errors
    /// Fails when the store or a key cannot be had, or a level makes no sense.
    pub(super) fn open(name: &str, params: &DumpParams, cx: &RunContext) -> Result<Self, ActionError> {
        let mut backup_store = BackupStore::open(name, cx)?;
        let mut entry = cx.about.inventory.stores.get(name).cloned().unwrap_or_default();
        if let Some(compression) = compression(params, &entry) {
            entry.compression = Some(compression);
            let packing = Packing::of(&entry, cx.about.secrets.as_ref());
            backup_store.packing = packing.map_err(|error| unpackable(name, &error))?;
        }
        Ok(Self { backup_store, objects: Ok(Vec::new()) })
    }

    fn keep(&mut self, object: Result<ManifestObject, ActionError>) {
        match (&mut self.objects, object) {
            (Ok(objects), Ok(object)) => objects.push(object),
            (Ok(_), Err(error)) => self.objects = Err(error),
            (Err(_), _) => {}
        }
    }
}

/// How a dump is compressed, where that is not as the store's settings say.
fn compression(params: &DumpParams, store: &StoreEntry) -> Option<Compression> {
    let own = || store.compression.clone().unwrap_or_default();
    match params.compression {
        Compressor::Program => Some(Compression { format: CompressionFormat::None, level: None }),
        Compressor::Store => params.level.map(|level| Compression { level: Some(level), ..own() }),
    }
}

/// An object on its way.
pub(super) struct Shipment<'a> {
    /// Its name below the backup's folder, before it is packed.
    pub(super) name: &'a str,
    /// What it is.
    pub(super) role: ObjectRole,
    /// The folder whose content it is, where it is an archive of one.
    pub(super) archive_of: Option<&'a str>,
    /// Where the backup lies in each store.
    pub(super) place: &'a BackupPlace,
}

impl Shipment<'_> {
    /// Brings a stream into every store that has not failed yet. What fails in a store is kept there.
    ///
    /// # Errors
    /// Fails as the stream does, and when it was cancelled or no store takes anything.
    pub(super) async fn bring(
        &self,
        source: ByteStream,
        destinations: &mut [Destination],
        cx: &RunContext,
    ) -> Result<Seen, ActionError> {
        let open: Vec<&mut Destination> =
            destinations.iter_mut().filter(|destination| destination.objects.is_ok()).collect();
        let done = Arc::new(AtomicU64::new(0));
        let (fan_out, streams) = fan_out(open.len(), Arc::clone(&done));
        let (pumped, arrived) = {
            let arriving = join_all(
                open.iter().zip(streams).map(|(destination, stream)| self.put(&destination.backup_store, stream)),
            );
            let work = async { tokio::join!(fan_out.pump(source), arriving) };
            tokio::pin!(work);
            loop {
                tokio::select! {
                    done = &mut work => break done,
                    () = tokio::time::sleep(Duration::from_millis(250)) => {
                        let done = done.load(Ordering::Relaxed);
                        cx.reporter.progress(Progress::Units { done, total: None, unit: "bytes" });
                    }
                    () = cx.cancel.cancelled() => {
                        return Err(ActionError::cancelled("the dump was cancelled before its manifest"));
                    }
                }
            }
        };
        let nobody = arrived.iter().all(Result::is_err);
        for (destination, arrival) in open.into_iter().zip(arrived) {
            destination.keep(arrival);
        }
        match pumped {
            Ok(seen) => Ok(seen),
            // What the stores say tells more than that nobody read on.
            Err(error) if !nobody => Err(ActionError::retryable("the dump broke off").because(&error)),
            Err(error) => Err(destinations
                .iter()
                .find_map(|destination| destination.objects.as_ref().err().cloned())
                .unwrap_or_else(|| ActionError::retryable("no store takes the dump").because(&error))),
        }
    }

    async fn put(&self, backup_store: &BackupStore, body: ByteStream) -> Result<ManifestObject, ActionError> {
        let encoding = backup_store.packing.encoding().clone();
        let name = format!("{}{}", self.name, backup_store.packing.suffix());
        let key = key(self.place, &name)?;
        let uploaded =
            upload((backup_store.store.as_ref(), &key), body, &backup_store.packing, PutOptions::default()).await;
        let packed = uploaded.map_err(|error| stream_failed(&error))?.packed;
        let plain = (!encoding.is_plain()).then_some(packed.plain);
        let object = ManifestObject::new(name, packed.stored_size_bytes, packed.stored_sha256, self.role);
        Ok(ManifestObject { encoding, plain, archive_of: self.archive_of.map(str::to_owned), ..object })
    }
}

/// The key of an object of a backup.
pub(super) fn key(place: &BackupPlace, name: &str) -> Result<ObjectKey, ActionError> {
    place.key(name).map_err(|error: CatalogError| crate::actions::postgres::stores::archive::broken(&error))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::compression;
    use crate::actions::postgres::DumpParams;
    use crate::language::inventory::{Compression, CompressionFormat, StoreEntry};

    #[test]
    fn a_dump_is_compressed_by_its_program_or_by_the_store_and_never_by_both() {
        let gzip = Compression { format: CompressionFormat::Gzip, level: None };
        let store = StoreEntry { compression: Some(gzip.clone()), ..StoreEntry::default() };
        let with = |who: &str, level: Value| -> DumpParams {
            let text = json!({ "database": "orders", "compression": who, "level": level });
            serde_json::from_value(text).expect("params")
        };
        let ours = with("store", Value::Null);
        assert_eq!((ours.program_level(), compression(&ours, &store)), (0, None), "as the store's settings say");
        let harder = with("store", json!(9));
        let hard = Compression { level: Some(9), ..gzip };
        assert_eq!((harder.program_level(), compression(&harder, &store)), (0, Some(hard)));
        let theirs = with("program", json!(9));
        let none = Compression { format: CompressionFormat::None, level: None };
        assert_eq!((theirs.program_level(), compression(&theirs, &store)), (9, Some(none)));
    }
}
