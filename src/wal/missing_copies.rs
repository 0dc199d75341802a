//! What a store lacks that others have: noted in the spool, and copied over when the store answers again.

use std::io::{self, Cursor};
use std::path::Path;

use super::packed::{Stored, plain_sha256};
use super::spool::{self, Spool};
use super::spread::bring_over;
use super::target_store::{Arrival, TargetStore, TargetStores};
use super::{Config, WalError};
use crate::action::{ObjectKey, PutOptions};
use crate::catalog::wal_objects;
use crate::pgformat::{SystemId, WalFileName};

/// How many files are copied in one push at most: the server waits for it.
const AT_ONCE: usize = 8;

/// The notes of what each store lacks.
pub(super) struct MissingCopies<'a> {
    spool: &'a Spool,
}

impl<'a> MissingCopies<'a> {
    pub(super) fn of(spool: &'a Spool) -> Self {
        Self { spool }
    }

    /// Notes which stores lack a file.
    ///
    /// # Errors
    /// Fails when a note cannot be made: then nobody would ever know.
    pub(super) fn note(
        &self,
        target_stores: &TargetStores,
        name: WalFileName,
        arrival: &Arrival,
    ) -> Result<(), WalError> {
        for (number, _) in &arrival.lagging {
            let noted = self
                .spool
                .owed(&target_stores.all[*number].url)
                .and_then(|folder| spool::note_durably(&folder.join(name.to_string())));
            noted.map_err(|error| target_stores.unnoted(name, arrival, &error.to_string()))?;
        }
        Ok(())
    }

    /// Copies into the stores that answer what they lack. Gives the words for what is still lacking.
    pub(super) async fn pay(&self, target_stores: &TargetStores, arrival: &Arrival) -> Option<String> {
        let mut words = Vec::new();
        for (number, target_store) in target_stores.all.iter().enumerate() {
            let Ok(folder) = self.spool.owed(&target_store.url) else { continue };
            let mut owed = by_turn(&folder).unwrap_or_default();
            let (mut left, mut why) = (owed.len(), "it is their turn in the next pushes".to_owned());
            let answers = !arrival.lagging.iter().any(|(lagging, _)| *lagging == number);
            owed.truncate(if answers { AT_ONCE } else { 0 });
            for name in owed {
                let note = folder.join(name.to_string());
                // Whatever becomes of it, the others have their turn before it is tried again.
                let _ = spool::put_back(&note);
                match settle(target_stores, target_store, name).await {
                    // One that stays is looked at again, and found to be there.
                    Ok(()) => left -= usize::from(std::fs::remove_file(&note).is_ok()),
                    Err(error) => why = error.to_string(),
                }
            }
            if left > 0 {
                let why = if answers { format!(": {why}") } else { String::new() };
                words.push(format!("store `{}` lacks {left} files that others have{why}", target_store.url));
            }
        }
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// The files that are owed, those whose last turn is longest ago first.
fn by_turn(folder: &Path) -> io::Result<Vec<WalFileName>> {
    let mut owed = Vec::new();
    for name in spool::names(folder)? {
        let Ok(file) = name.parse::<WalFileName>() else { continue };
        owed.push((std::fs::metadata(folder.join(name))?.modified()?, file));
    }
    owed.sort_unstable();
    Ok(owed.into_iter().map(|(_, file)| file).collect())
}

/// Tells how many files each store of a configuration is known to lack that others have. Reads only.
///
/// # Errors
/// Fails when the notes are there and cannot be read.
pub fn owed(config: &Config, system_id: SystemId) -> io::Result<Vec<(String, usize)>> {
    let Some(root) = &config.spool else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for entry in config.stores() {
        let folder = root.join(system_id.to_string()).join(spool::owed_folder(&entry.url));
        match spool::names(&folder) {
            Ok(names) if names.is_empty() => {}
            Ok(names) => all.push((entry.url.clone(), names.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Sees that a store has a file, and the same one as the others: copied as it is stored from one that packs in the
/// same way, else unpacked and packed anew as far as this machine has the keys. What no store has any more is owed to
/// nobody.
async fn settle(target_stores: &TargetStores, to: &TargetStore, name: WalFileName) -> Result<(), WalError> {
    let (prefix, system_id) = (target_stores.prefix.as_str(), target_stores.identity.system_id);
    let own = wal_objects(to.store.as_read(), prefix, system_id, name).await?.into_iter().next();
    let mut failure = None;
    let mut others: Vec<&TargetStore> = target_stores.all.iter().filter(|other| other.url != to.url).collect();
    others.sort_by_key(|other| other.packing.encoding() != to.packing.encoding());
    for from in others {
        let found = match wal_objects(from.store.as_read(), prefix, system_id, name).await {
            Ok(found) => found.into_iter().next(),
            Err(error) => {
                failure = Some(WalError::from(error));
                continue;
            }
        };
        match (&own, found) {
            (_, None) => {}
            (Some(own), Some(theirs)) => match same((to, own), (from, &theirs), name).await {
                // An unfinished copy gives way to the segment that goes on from it, and nothing else does.
                Err(WalError::Differs(_)) => {
                    return bring_over(&[target_stores.source(from)], target_stores.destination(to), name)
                        .await
                        .map(drop);
                }
                other => return other,
            },
            (None, Some(key)) if from.packing.encoding() == to.packing.encoding() => return copy(from, to, &key).await,
            (None, Some(_)) => {
                match bring_over(&[target_stores.source(from)], target_stores.destination(to), name).await {
                    Ok(_) => return Ok(()),
                    Err(error) => failure = Some(error),
                }
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Copies an object as it is stored.
async fn copy(from: &TargetStore, to: &TargetStore, key: &ObjectKey) -> Result<(), WalError> {
    let Stored { bytes, facts } = Stored::read(from.store.as_read(), key).await?;
    let size_bytes = Some(bytes.len() as u64);
    let options = PutOptions { if_absent: true, metadata: facts.metadata, size_bytes, ..PutOptions::default() };
    to.store.put(key, Box::new(Cursor::new(bytes)), options).await?;
    Ok(())
}

/// Compares the plain bytes of two objects, as they were when each was stored.
async fn same(
    (to, own): (&TargetStore, &ObjectKey),
    (from, theirs): (&TargetStore, &ObjectKey),
    name: WalFileName,
) -> Result<(), WalError> {
    let own = plain_sha256(&to.store.as_read().head(own).await?);
    let theirs = plain_sha256(&from.store.as_read().head(theirs).await?);
    if own.is_some() && own == theirs { Ok(()) } else { Err(WalError::Differs(name)) }
}
