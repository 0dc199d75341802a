//! Brings a backup that one store has into another, object by object.
//!
//! A backup has one id in all its stores, so it must be one backup: another one that is taken later for the stores that
//! failed would begin elsewhere in the WAL, and an increment that rests on the first could not be put together with the
//! second. Where no key here can bring it over, a store gets one of its own, under an id of its own.

use super::delivery::{BackupStore, Item};
use super::increment;
use crate::action::{ActionError, Encoding, Encrypted, PutOptions, RunContext};
use crate::actions::postgres::stores::archive;
use crate::actions::postgres::stores::archive::stream_failed;
use crate::actions::postgres::stores::readable::{Reading, expected, unread};
use crate::catalog::{self, Backup, Manifest, ManifestObject};
use crate::event::{ErrorClass, Progress};
use crate::transfer::{Packing, TransferError, upload};

/// Copies every object of a backup into another store, packed as that one's settings say; gives the manifest that it has
/// there. Nothing is committed.
///
/// # Errors
/// Fails when an object is gone or damaged, when no key here reads one that must be packed anew, when the other store has
/// not what the backup rests on, and when it is cancelled.
pub(crate) async fn copied(
    original: &Backup,
    backup_store: &BackupStore,
    cx: &RunContext,
) -> Result<Manifest, ActionError> {
    let store = cx.store(&original.store)?;
    let links = catalog::lineage(store.as_read(), original).await.map_err(|error| archive::broken(&error))?;
    if let [.., parent, _] = links.as_slice() {
        increment::rests_in(backup_store.store.as_read(), parent, store.as_read()).await?;
    }
    let reading = Reading { store: store.as_read(), backup: original, about: &cx.about };
    let total = original.manifest.objects.len() as u64;
    let mut objects = Vec::new();
    for object in &original.manifest.objects {
        cx.reporter.progress(Progress::Units { done: objects.len() as u64, total: Some(total), unit: "objects" });
        let copied = tokio::select! {
            copied = copy(reading, object, backup_store) => copied?,
            () = cx.cancel.cancelled() => {
                return Err(ActionError::cancelled("the backup was cancelled while it was copied into another store"));
            }
        };
        objects.push(copied);
    }
    let message = format!(
        "store `{}` gets a copy of the backup that an earlier attempt brought into store `{}`",
        backup_store.store.name(),
        original.store
    );
    cx.reporter.note(message, serde_json::json!({ "store": backup_store.store.name(), "from": original.store }));
    Ok(Manifest { objects, ..original.manifest.clone() })
}

/// Which of the stores' copies can be brought into one that lacks it.
pub(crate) enum Readable<'a> {
    /// This one.
    By(&'a Backup),
    /// None: no key here reads one that it could have.
    ByNoKey(Option<ActionError>),
}

/// Finds a copy that the keys here read, where it must be packed anew.
///
/// # Errors
/// Fails when of none it is known, and of one it may be known later.
pub(crate) async fn readable<'a>(
    originals: &'a [Backup],
    backup_store: &BackupStore,
    cx: &RunContext,
) -> Result<Readable<'a>, ActionError> {
    let (mut unread, mut unknown) = (None, None);
    for original in originals {
        match unread_here(original, backup_store, cx).await {
            Ok(None) => return Ok(Readable::By(original)),
            Ok(why) => unread = unread.or(why),
            Err(error) => unknown = unknown.or(Some(error)),
        }
    }
    unknown.map_or(Ok(Readable::ByNoKey(unread)), Err)
}

/// Says why a backup cannot be copied into another store: an object must be packed anew there, and no key here reads it. The keys
/// at hand are tried on its smallest object: they may be of another time.
///
/// # Errors
/// Fails when nothing can be told of it: its store gives no answer, or what keeps the keys.
async fn unread_here(
    original: &Backup,
    backup_store: &BackupStore,
    cx: &RunContext,
) -> Result<Option<ActionError>, ActionError> {
    let store = cx.store(&original.store)?;
    let reading = Reading { store: store.as_read(), backup: original, about: &cx.about };
    let anew = original.manifest.objects.iter().filter(|object| {
        object.encoding.encryption.is_some()
            && !stays(&object.encoding, backup_store.packing_of(object.role).encoding())
    });
    let mut smallest: Option<&ManifestObject> = None;
    for object in anew {
        match reading.unpacking(object) {
            Ok(_) => {}
            Err(TransferError::Key(error)) if error.info().class == ErrorClass::Retryable => return Err(error),
            Err(error) => return Ok(Some(unread(&error))),
        }
        smallest = smallest.into_iter().chain([object]).min_by_key(|object| object.size_bytes);
    }
    let Some(object) = smallest else { return Ok(None) };
    match reading.judge_small(object).await {
        // Damage is told by whoever copies it.
        Ok(_) => Ok(None),
        Err(error) if error.info().class == ErrorClass::Fatal => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

async fn copy(
    reading: Reading<'_>,
    object: &ManifestObject,
    backup_store: &BackupStore,
) -> Result<ManifestObject, ActionError> {
    let (backup, place) = (reading.backup, reading.backup.place());
    let key = backup.manifest.key_of(&backup.prefix, object).map_err(|error| archive::broken(&error))?;
    let stored = async || reading.store.get(&key).await.map_err(|error| archive::failed(&error));
    if !stays(&object.encoding, backup_store.packing_of(object.role).encoding()) {
        let unpacking = reading.unpacking(object).map_err(|error| unread(&error))?;
        let item = Item { name: object.plain_name().to_owned(), role: object.role, tablespace: object.tablespace };
        let copied = backup_store.put(&item, &place, unpacking.open(stored().await?, expected(object))).await?;
        return Ok(ManifestObject { archive_of: object.archive_of.clone(), holds_wal: object.holds_wal, ..copied });
    }
    let to = place.key(&object.name).map_err(|error| archive::broken(&error))?;
    let uploaded =
        upload((backup_store.store.as_ref(), &to), stored().await?, &Packing::plain(), PutOptions::default()).await;
    let packed = uploaded.map_err(|error| stream_failed(&error))?.packed;
    if (packed.stored_size_bytes, packed.stored_sha256) == (object.size_bytes, object.sha256) {
        return Ok(object.clone());
    }
    let fact = format!("`{key}` in store `{}` is not what its manifest says", backup.store);
    Err(ActionError::fatal(fact).help("take another backup: this one is damaged"))
}

/// Whether the stored bytes can be taken as they are: public keys are the same key in every store, passwords may differ.
fn stays(theirs: &Encoding, wanted: &Encoding) -> bool {
    let same_keys = match &theirs.encryption {
        None | Some(Encrypted::Age { .. }) => true,
        Some(Encrypted::AgePassphrase | Encrypted::OpensslEnc { .. } | Encrypted::GpgSymmetric { .. }) => false,
    };
    // What one has no key for here is taken as it lies, however the other store would have compressed it.
    same_keys && theirs.encryption == wanted.encryption && (theirs == wanted || theirs.encryption.is_some())
}
