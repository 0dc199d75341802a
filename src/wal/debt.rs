//! What a store lacks that others have: noted in the spool, and copied over when the store answers again.

use std::io::Cursor;

use super::depot::{Arrival, Depot, Depots};
use super::packed::Stored;
use super::spool::{self, Spool};
use super::{Config, WalError};
use crate::action::PutOptions;
use crate::catalog::wal_objects;
use crate::pgformat::{SystemId, WalFileName};

/// How many files are copied in one push at most: the server waits for it.
const AT_ONCE: usize = 8;

/// The notes of what each store lacks.
pub(super) struct Debts<'a> {
    spool: &'a Spool,
}

impl<'a> Debts<'a> {
    pub(super) fn of(spool: &'a Spool) -> Self {
        Self { spool }
    }

    /// Notes which stores lack a file.
    ///
    /// # Errors
    /// Fails when a note cannot be made: then nobody would ever know.
    pub(super) fn note(&self, depots: &Depots, name: WalFileName, arrival: &Arrival) -> Result<(), WalError> {
        for (number, _) in &arrival.lagging {
            let noted = self
                .spool
                .owed(&depots.all[*number].url)
                .and_then(|folder| spool::note(&folder.join(name.to_string())));
            noted.map_err(|error| WalError::TooFew {
                name,
                safe: depots.all.len() - arrival.lagging.len(),
                wanted: depots.all.len(),
                why: format!("it cannot be noted that one lacks it: {error}; {}", depots.in_words(&arrival.lagging)),
            })?;
        }
        Ok(())
    }

    /// Copies into the stores that answer what they lack. Gives the words for what is still lacking.
    pub(super) async fn pay(&self, depots: &Depots, arrival: &Arrival) -> Option<String> {
        let mut words = Vec::new();
        for (number, depot) in depots.all.iter().enumerate() {
            let Ok(folder) = self.spool.owed(&depot.url) else { continue };
            let names = spool::names(&folder).unwrap_or_default();
            let mut owed: Vec<WalFileName> = names.iter().filter_map(|name| name.parse().ok()).collect();
            owed.sort_unstable();
            let (mut left, mut why) = (owed.len(), "it is their turn in the next pushes".to_owned());
            let answers = !arrival.lagging.iter().any(|(lagging, _)| *lagging == number);
            for name in owed.into_iter().take(if answers { AT_ONCE } else { 0 }) {
                match copy(depots, depot, name).await {
                    // One that stays is looked at again, and found to be there.
                    Ok(()) => left -= usize::from(std::fs::remove_file(folder.join(name.to_string())).is_ok()),
                    Err(error) => why = error.to_string(),
                }
            }
            if left > 0 {
                let why = if answers { format!(": {why}") } else { String::new() };
                words.push(format!("store `{}` lacks {left} files that others have{why}", depot.url));
            }
        }
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// Tells how many files each store of a configuration is known to lack that others have. Reads only.
#[must_use]
pub fn owed(config: &Config, system_id: SystemId) -> Vec<(String, usize)> {
    let Some(root) = &config.spool else { return Vec::new() };
    let count = |url: &str| {
        spool::names(&root.join(system_id.to_string()).join(spool::owed_folder(url))).unwrap_or_default().len()
    };
    config.stores().map(|entry| (entry.url.clone(), count(&entry.url))).filter(|(_, count)| *count > 0).collect()
}

/// Copies a file as it is stored from another store that packs in the same way.
async fn copy(depots: &Depots, to: &Depot, name: WalFileName) -> Result<(), WalError> {
    let (prefix, system_id) = (depots.prefix.as_str(), depots.identity.system_id);
    if !wal_objects(to.store.as_read(), prefix, system_id, name).await?.is_empty() {
        return Ok(());
    }
    let others = depots.all.iter().filter(|other| other.url != to.url);
    for from in others.filter(|other| other.packing.encoding() == to.packing.encoding()) {
        let Some(key) = wal_objects(from.store.as_read(), prefix, system_id, name).await?.into_iter().next() else {
            continue;
        };
        let Stored { bytes, facts } = Stored::read(from.store.as_read(), &key).await?;
        let size_bytes = Some(bytes.len() as u64);
        let options = PutOptions { if_absent: true, metadata: facts.metadata, size_bytes, ..PutOptions::default() };
        to.store.put(&key, Box::new(Cursor::new(bytes)), options).await?;
        return Ok(());
    }
    Err(WalError::Required { name, why: "no other store that packs in the same way has it".to_owned() })
}
